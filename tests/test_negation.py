"""`eat negation`: the edits of sentences, where a negation is lost, and what a run writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from exported_rows import write_results

from eat.analysis.cue_survival import Survival, positions_of, survivals
from eat.analysis.negation import ABOUT, ANSWERS, EDITS, LAYERS, PAIRS
from eat.analysis.negation_edits import KINDS, Kind, pair_of, pairs_of
from eat.cli import main
from eat.files import read_json, write_table
from eat.model.batch import PackedBatch
from eat.model.reducers.base import Place, Reducer, Reduction, TokenView

REMOVED = {
    "The soup is not good.": ("not", "The soup is good."),
    "This is not a bus, and it stops here.": ("not", "This is a bus, and it stops here."),
    "Not a bad walk at all": ("not", "A bad walk at all"),
    "We cannot see the lake.": ("cannot", "We can see the lake."),
    "The door isn't open.": ("n't", "The door is open."),
    "they do n't sing in the morning": ("n't", "they do sing in the morning"),
    "The train doesn\N{RIGHT SINGLE QUOTATION MARK}t stop": ("n't", "The train does stop"),
    "You can't miss the tower.": ("n't", "You can miss the tower."),
    "it wo n't rain": ("n't", "it will rain"),
    "Won't you come?": ("n't", "Will you come?"),
    "That ain't right": ("n't", "That is right"),
    "She never sleeps on trains.": ("never", "She sleeps on trains."),
    "Never open this box": ("never", "Open this box"),
    "The house has no windows.": ("no", "The house has some windows."),
    "tea without sugar": ("without", "tea with sugar"),
    "there is nothing to read": ("nothing", "there is something to read"),
    "Nobody came.": ("nobody", "Somebody came."),
    "no one came": ("nobody", "somebody came"),
    "The road leads nowhere.": ("nowhere", "The road leads somewhere."),
}
"""A sentence with a negation -> the rule, and the sentence without it."""

NOT_REMOVED = [
    "It is not only warm but dry.", "whether or not it rains", "There is no longer a bridge.", "without a doubt",
    "He left without saying a word.", "nothing but sand", "It is not cold and never wet.", "never mind the rain",
    "The team lacks pace.", "a no-frills flat", "It rains hard.",
]  # fmt: skip
"""A negation that would not go, more than one, or none that a rule edits."""

INSERTED = {
    "not": ("the cake is sweet", "the cake is not sweet"),
    "n't": ("the cake is sweet", "the cake isn't sweet"),
    "never": ("the cake is sweet", "the cake is never sweet"),
    "no": ("The flat has a kitchen", "The flat has no kitchen"),
    "without": ("tea with milk", "tea without milk"),
    "nothing": ("Everything fits", "Nothing fits"),
    "nobody": ("we saw everyone there", "we saw nobody there"),
}

NOT_INSERTED = ["Is it sweet?", "that is all but sweet", "the cake tastes sweet", "the one with whom we spoke"]


@pytest.mark.parametrize("sentence", REMOVED)
def test_a_negation_is_removed(sentence: str):
    rule, expected = REMOVED[sentence]
    found = pair_of("a", sentence, "remove")
    assert found is not None and (found.rule, found.affirmative, found.negated) == (rule, expected, sentence)
    cue = sentence[slice(*found.cue)].lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    assert cue in (rule, "not", "no one")
    assert sentence[: found.start] + found.replacement + sentence[found.end :] == expected
    assert pair_of("a", sentence, "insert") is None
    assert pair_of("a", expected, "remove") is None


@pytest.mark.parametrize("sentence", NOT_REMOVED)
def test_what_no_rule_can_undo_is_left_out(sentence: str):
    assert pair_of("a", sentence, "remove") is None


@pytest.mark.parametrize("rule", INSERTED)
def test_a_negation_is_inserted(rule: str):
    sentence, expected = INSERTED[rule]
    # the id picks the rule
    found = {pair.rule: pair for number in range(60) if (pair := pair_of(str(number), sentence, "insert"))}
    pair = found[rule]
    assert (pair.affirmative, pair.negated) == (sentence, expected)
    assert expected[slice(*pair.cue)].lower() == rule
    assert sentence[: pair.start] + pair.replacement + sentence[pair.end :] == expected


@pytest.mark.parametrize("sentence", NOT_INSERTED)
def test_a_question_and_a_phrase_get_no_negation(sentence: str):
    assert all(pair_of(str(number), sentence, "insert") is None for number in range(20))


def test_a_text_gives_at_most_one_pair_of_a_kind_and_always_the_same():
    texts = [(str(number), text) for number, text in enumerate([*REMOVED, *(text for text, _ in INSERTED.values())])]
    found = pairs_of(texts)
    assert found == pairs_of(texts) and len({(pair.id, pair.kind) for pair in found}) == len(found) == len(texts)


# --- which tokens are lost ----------------------------------------------------------------------------------------


class Dropper(Reducer):
    """Drops the tokens with this number in the vocabulary."""

    def __init__(self, after: list[int], dropped: int, place: Place = "layer_output") -> None:
        super().__init__(after)
        self.dropped, self.place = dropped, place

    def reduce(self, view: TokenView) -> Reduction:
        kept = (view.ids != self.dropped).nonzero().flatten()
        rows = [part.ne(self.dropped).sum().item() for part in view.ids.split(view.layout.lengths)]
        return Reduction(type(view.layout)([int(row) for row in rows], view.layout.device), kept)


def test_a_negation_is_lost_where_its_last_token_goes():
    model = tiny.model(exits=[2])
    model.encoder.reducer = Dropper([2, 3], 50)
    texts = tiny.texts([9, 5, 7])
    for text in texts:
        text.ids[1:-1] = 60
    texts[0].ids[3:5] = 50
    texts[2].ids[2] = 50
    first, second, third = survivals(model, texts, [(3, 4), (1,), (2, 3)])
    assert (first.lost_at, second.lost_at, third.lost_at) == (2, None, None)
    # of the text of 9 tokens, 5 others; of that of 7, the dropped token is one of the two
    assert (first.others_lost(2), second.others_lost(2), third.others_lost(2)) == (0.0, 0.0, 0.0)
    assert not first.lost_by(2, "layer_output"), "the head after layer 2 reads before the removal there"
    assert first.lost_by(3, "layer_output") and first.lost_by(2, "after_attention")
    (other,) = survivals(model, texts[:1], [(1,)])
    assert other.others_lost(3) == pytest.approx(2 / 6)
    assert isinstance(model.encoder.reducer, Dropper), "the recorder is taken out again"


@pytest.mark.parametrize("kind", ["norm", "received", "merging"])
def test_as_many_tokens_survive_as_the_forward_pass_counts(kind: str):
    model = tiny.model(reducer={"kind": kind, "after": [1, 3], "ratio": 0.4})
    texts = tiny.texts([12, 4, 8, 30])
    found = survivals(model, texts, [(1,)] * len(texts))
    with torch.inference_mode():
        work = model.run(PackedBatch.of(texts)).work
    for layer in (1, 3):
        alive = dict(zip(work[layer - 1].rows, work[layer - 1].alive, strict=True))
        assert [int(one.alive[layer].sum()) for one in found] == [alive[row] for row in range(len(texts))]


def test_a_text_of_the_negation_alone_has_no_other_tokens():
    assert Survival({1: np.array([True, False, True])}, (1,)).others_lost(1) == 0.0


def test_the_positions_of_a_negation_count_the_special_tokens_and_end_with_the_text():
    tokenizer, text = tiny.tokenizer(), "word1 word2 is not word3"
    assert positions_of(tokenizer, text, 15, 18, 32) == (4,)
    assert positions_of(tokenizer, text, 15, 18, 6) == (4,)
    assert positions_of(tokenizer, text, 15, 18, 5) == (), "position 4 of 5 is [SEP]"


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the results of a small study, whose dev texts have negations."""
    monkeypatch.chdir(tmp_path)
    write_results()
    table = tiny.table(60, seed=3)
    verbs = ["is", "is not", "is never", "has a", "has no", "stays"]
    table["text"] = [f"{text.split()[0]} {verbs[row % 6]} {text}" for row, text in enumerate(table["text"])]
    write_table(Path("data/tiny/tiny/dev.parquet"), table)
    yield tmp_path


def test_a_run_compares_each_reducer_with_the_dense_model(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["negation", "config/tiny.yaml", "--to", "out", "--system", "eat"])
    answers, layers = pd.read_csv("out/" + ANSWERS), pd.read_csv("out/" + LAYERS)
    pairs, edits = pd.read_csv("out/" + PAIRS), pd.read_csv("out/" + EDITS)
    about = read_json("out/" + ABOUT)
    # of six texts, five have a rule: is, not, never, a, no
    assert about["pairs"] + about["cut_off"] == 50 and len(edits) == about["pairs"] == 50
    assert list(edits.columns) == ["id", "kind", "rule", "start", "end", "replacement"], "no text of the task"
    assert set(answers["system"]) == set(pairs["system"]) == {"dense", "eat"}
    for row in answers.to_dict("records"):
        own = pairs[
            (pairs["system"] == row["system"]) & pairs["kind"].isin([row["kind"]] if row["kind"] in KINDS else KINDS)
        ]
        assert row["n"] == len(own)
        assert row["changed"] == pytest.approx((own["affirmative"] != own["negated"]).mean())
        assert row["changed_low"] <= row["changed"] <= row["changed_high"]
    dense, eat = (
        answers[(answers["system"] == name) & (answers["kind"] == "all")].iloc[0] for name in ("dense", "eat")
    )
    assert eat["difference"] == pytest.approx(eat["changed"] - dense["changed"])
    assert eat["difference_low"] <= eat["difference"] <= eat["difference_high"]
    # exits at layer 2 come after one removal, of layer 1; those at layer 4 after both
    own = pairs[pairs["system"] == "eat"]
    lost = (own["lost_at"] < own["depth"]).fillna(False)
    assert eat["lost"] == pytest.approx(lost.mean()) and eat["lost_n"] == lost.sum()
    parts = eat["lost_n"] * eat["changed_if_lost"] + (eat["n"] - eat["lost_n"]) * eat["changed_if_kept"]
    assert parts == pytest.approx(eat["n"] * eat["changed"])
    assert list(layers.loc[layers["kind"] == "all", "layer"]) == [1, 3]
    assert 0 < layers["others_lost"].min() <= layers["others_lost"].max() < 1
    printed = capsys.readouterr().out
    assert "50 pairs of 60 dev texts" in printed and "| eat" in printed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--system", "dense"], "--system: found dense; systems with a reducer in the engine torch: eat"),
        (["--system", "none"], "--system: found 'none'; the systems of config/tiny.yaml: both, dense, eat"),
        (["--task", "other"], "--task: found 'other'; the tasks of config/tiny.yaml: tiny"),
        (["--seed", "7"], "--seed: found 7; the seeds of config/tiny.yaml: 1"),
        (["--to", "config"], "config: exists; give a new folder with --to"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    study: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["negation", "config/tiny.yaml", "--to", "out", *given])
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not Path("out").exists()


def test_an_untrained_study_is_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("results/tiny/models/tiny/eat/seed1/finetune/model.safetensors").unlink()
    with pytest.raises(SystemExit):
        main(["negation", "config/tiny.yaml", "--to", "out", "--system", "eat"])
    assert "no trained model of eat; run the study first: snakemake" in capsys.readouterr().err


def test_texts_without_a_rule_are_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table("data/tiny/tiny/dev.parquet", tiny.table(8))
    with pytest.raises(SystemExit):
        main(["negation", "config/tiny.yaml", "--to", "out"])
    assert "none of 8 dev texts can be edited; the rules are for English" in capsys.readouterr().err


def test_kinds_are_the_two_directions():
    kinds: tuple[Kind, ...] = ("insert", "remove")
    assert kinds == KINDS
