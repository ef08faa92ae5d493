"""`eat evade`: edits by hand, the search on a model whose answers are known, rates, files, and what is refused."""

from __future__ import annotations

import csv
import json
import string
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import torch
from exported import exported

from eat.cli import main
from eat.errors import EatError
from eat.evasion.attack import KINDS, Attack, Attempt, Words, attempt
from eat.evasion.characters import ALIKE, LATIN, lookalikes, misspellings
from eat.evasion.evade import CHECK, EDITS, RESULT
from eat.evasion.texts import read_labelled
from eat.evasion.vocabulary import Vocabulary, words_of
from eat.runtime.classifier import Answer
from eat.text_files.form import ORDINARY

LABELS = ["negative", "positive"]
TEXTS = [
    ("The win is here", "positive"), ("the prize is big", "positive"), ("the prize is yours", "positive"),
    ("win a prize now", "positive"), ("see you at home", "negative"), ("the train is late", "negative"),
    ("see you at noon", "negative"), ("we see the train", "negative"),
]  # fmt: skip


# --- edits --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_lookalikes_have_the_same_outline_in_the_font_they_were_computed_from() -> None:
    pens = pytest.importorskip("fontTools.pens.recordingPen", reason="fontTools is not installed (extra study)")
    fonts = pytest.importorskip("fontTools.ttLib")
    matplotlib = pytest.importorskip("matplotlib")
    font = fonts.TTFont(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    glyphs, names = font.getGlyphSet(), font.getBestCmap()

    def outline(letter: str) -> Any:
        pen = pens.DecomposingRecordingPen(glyphs)
        glyphs[names[ord(letter)]].draw(pen)
        return pen.value, glyphs[names[ord(letter)]].width

    scripts = ("CYRILLIC", "GREEK", "ARMENIAN", "LATIN")
    found = {}
    for letter in string.ascii_letters:
        same = [
            (scripts.index(script), other)
            for code in names
            if (other := chr(code)) not in string.ascii_letters
            and unicodedata.category(other)[0] == "L"
            and unicodedata.normalize("NFKC", other) == other
            and (script := unicodedata.name(other, "none").split()[0]) in scripts
            and outline(other) == outline(letter)
        ]
        if same:
            found[letter] = min(same)[1]
    assert found == dict(zip(LATIN, ALIKE, strict=True))


def test_an_edited_word_has_other_characters_but_the_same_ends() -> None:
    whole, *single = lookalikes("Cab")
    assert whole == "\u0421\u0430b" and single == ["\u0421ab", "C\u0430b"]
    assert list(lookalikes("dt9")) == []
    assert list(misspellings("word")) == ["wrod", "wrd", "woord", "wod", "worrd"]
    assert list(misspellings("at")) == []


def test_words_are_those_of_the_texts() -> None:
    assert words_of("  The WIN, is (here)! -- ") == ["the", "win", "is", "here"]
    vocabulary = Vocabulary(TEXTS)
    # of the 4 positive texts 3 have prize, is and the, of the 4 others 0, 1 and 2; win is in 2, which is too rare
    assert vocabulary.typical("positive", 5) == ["prize", "is", "the"]
    assert vocabulary.typical("negative", 1) == ["see"]
    # between the and is: win, prize, train
    words = ["the", "bus", "is", "late"]
    assert vocabulary.in_the_same_place(words, 1, 5) == ["prize", "train", "win"]
    assert vocabulary.in_the_same_place(words, 1, 1) == ["prize"]
    # at the end, after `is`
    assert vocabulary.in_the_same_place(words, 3, 5) == ["big", "here", "yours"]


@pytest.mark.parametrize(
    ("kind", "first"),
    [("lookalike", "Tra\u0456\u0578,"), ("misspell", "Tarin,"), ("substitute", "Prize,"), ("insert", "prize Train,")],
)
def test_each_kind_of_edit_keeps_what_stands_around_the_word(kind: str, first: str) -> None:
    words = Words.of(TEXTS, LABELS)
    found = next(iter(words.candidates(kind, ["the", "Train,", "is", "late"], 1, "negative")))
    if kind == "lookalike":
        assert found != "Train," and len(found) == 6 and found.endswith(",")
    else:
        assert found == first


# --- the search on a model whose answers are known ----------------------------------------------------------------


def model(probability: Callable[[list[str]], float], depth: Callable[[list[str]], int] = lambda words: 2) -> Any:
    """A model that looks at words: their probability of `positive`, and the layer of the answer. It counts queries."""
    asked: list[str] = []

    def ask(text: str) -> Answer:
        asked.append(text)
        positive = probability(text.lower().split())
        both = dict(zip(LABELS, (1 - positive, positive), strict=True))
        label = max(both, key=lambda name: both[name])
        return Answer(label, both[label], both, depth(text.lower().split()), "confidence")

    return ask, asked


def attacked(
    goal: str, kinds: tuple[str, ...], text: str, label: str, ask: Any, queries: int = 200, edits: float = 0.2
) -> Attempt:
    return attempt(ask, Attack(goal, kinds, queries, edits), text, label, 4, Words.of(TEXTS, LABELS))


def by_prizes(words: list[str]) -> float:
    """Positive if one of ten words is `prize`, a little more so by `win`."""
    return 0.9 if "prize" in words else 0.3 if "win" in words else 0.1


def test_the_word_that_decides_is_edited_first() -> None:
    ask, asked = model(by_prizes)
    found = attacked("wrong", ("misspell",), "there is a prize for all of you at home", "positive", ask)
    assert found.applies and found.reached
    assert found.edits == [("prize", "pirze")] and found.text == "there is a pirze for all of you at home"
    # the text itself, without each of its ten words, and one edit
    assert found.queries == len(asked) == 1 + 10 + 1


def test_an_insertion_is_a_word_of_another_label() -> None:
    ask, _ = model(by_prizes)
    found = attacked("wrong", ("insert",), "see you at the train", "negative", ask)
    assert found.reached and found.after.label == "positive" and "prize" in found.text.split()
    assert found.edits[0][1].split()[0] == "prize"


def test_a_text_is_left_alone_where_the_goal_is_there_or_cannot_be() -> None:
    ask, asked = model(lambda words: 0.9)
    wrong = attacked("wrong", KINDS, "see you at home", "negative", ask)
    assert not wrong.applies and not wrong.reached and len(asked) == 1, "it is answered wrongly already"
    slow = attacked("slow", KINDS, "see you at home", "negative", model(by_prizes, lambda words: 4)[0])
    assert not slow.applies, "it runs through all layers already"


@pytest.mark.parametrize(("depth", "reached"), [(2, True), (4, False)])
def test_early_is_wrong_before_the_last_layer(depth: int, reached: bool) -> None:
    ask, _ = model(by_prizes, lambda words: depth)
    text = "there is a prize for all of you at home"
    assert attacked("wrong", ("lookalike",), text, "positive", ask).reached
    assert attacked("early", ("lookalike",), text, "positive", ask).reached is reached


def test_slow_needs_no_other_answer() -> None:
    ask, _ = model(lambda words: 0.1, lambda words: 2 if "home" in words else 4)
    found = attacked("slow", ("misspell",), "see you at home", "negative", ask)
    assert found.reached and (found.before.depth, found.after.depth) == (2, 4)
    assert found.after.label == found.label


def test_limits_hold() -> None:
    text = " ".join(f"word{first}{second}" for first in "abcd" for second in "efghijklmn")
    # every edit helps, and none is enough
    ask, asked = model(lambda words: 0.4 - 0.001 * sum(word.startswith("word") for word in words))
    found = attacked("wrong", ("misspell",), text, "negative", ask, queries=10_000, edits=0.1)
    assert not found.reached and len(found.edits) == 4
    assert found.after.probabilities["positive"] > found.before.probabilities["positive"]
    for queries in (1 + 10, 60):
        ask, asked = model(lambda words: 0.4 - 0.001 * sum(word.startswith("word") for word in words))
        assert attacked("wrong", KINDS, text, "negative", ask, queries=queries).queries == len(asked) == queries


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense export, one with exits and one with a stricter rule, and labelled texts."""
    at = tmp_path_factory.mktemp("evaded")
    points = {
        "dense": None,
        "early": {"rule": ["confidence"], "tau": 0.6},
        "strict": {"rule": ["margin"], "tau": 0.6},
    }
    for name, point in points.items():
        exported(at / name, point=point, exits=[1, 2] if point else [])
        (at / name / "out").rename(at / f"m-{name}")
    table = tiny.table(60)
    table["label"] = [LABELS[label] for label in table["label"]]
    table.to_csv(at / "texts.csv", index=False)
    tiny.table(60, seed=1).to_parquet(at / "train.parquet")
    return at


def run(folder: Path, *arguments: str, to: str = "out") -> dict[str, Any]:
    models = [str(folder / f"m-{name}") for name in ("dense", "early", "strict")]
    given = ["--texts", str(folder / "texts.csv"), "--label", "label", "--to", str(folder / to)]
    main(["evade", *models, *given, "--count", "12", "--queries", "40", *arguments])
    found: dict[str, Any] = json.loads((folder / to / RESULT).read_text(encoding="utf-8"))
    return found


def test_a_run_writes_rates_edits_and_what_to_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(folder, "--kind", "insert", "--kind", "all", "--words", str(folder / "train.parquet"))
    attacks = {(row["model"], row["goal"], row["kind"]): row for row in found["attacks"]}
    adaptive = [(name, goal) for name in ("m-early", "m-strict") for goal in ("wrong", "early", "slow")]
    assert {key[:2] for key in attacks} == {("m-dense", "wrong"), *adaptive}
    edits = pd.read_csv(folder / "out" / EDITS)
    for key, row in attacks.items():
        own = edits[(edits[["model", "goal", "kind"]] == list(key)).all(axis=1)]
        assert row["tried"] == len(own) and row["reached"] == (own["reached"] == "yes").sum()
        assert row["rate"] is None or row["low"] <= row["rate"] <= row["high"]
        assert sum(one["tried"] for one in row["by_label"].values()) == row["tried"] <= row["texts"] == 12
        assert (own["queries"] <= 40).all()
        if key[1] != "slow":
            assert (own["before"] == own["label"]).all()
            assert (own.loc[own["reached"] == "yes", "after"] != own.loc[own["reached"] == "yes", "label"]).all()
    assert any(row["reached"] for row in attacks.values()), "this test reaches nothing"
    with open(folder / "out" / CHECK, encoding="utf-8", newline="") as file:
        check = list(csv.DictReader(file))
    assert check and {row["label_kept"] for row in check} == {""} and {row["reached"] for row in check} == {"yes"}
    assert found["models"]["m-strict"]["rule"] == ["margin"]
    assert found["models"]["m-early"]["depth"] <= found["models"]["m-strict"]["depth"] <= 4
    assert found["models"]["m-dense"].keys() == {"rule", "sha256", "accuracy", "depth", "ms"}
    assert found["models"]["m-early"]["against_first_low"] > 0
    printed = capsys.readouterr().out
    assert "| m-early" in printed and "positive, %" in printed


def test_a_gpu_that_is_there_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--kind", "misspell", "--goal", "wrong")
    before = run(folder, *given, to="before")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert run(folder, *given, to="beside")["attacks"] == before["attacks"]


def test_the_same_seed_attacks_the_same_texts_in_the_same_way(folder: Path) -> None:
    first, second = (run(folder, "--kind", "misspell", "--workers", workers, to=f"w{workers}") for workers in "13")
    assert first["attacks"] == second["attacks"]
    assert (folder / "w1" / EDITS).read_bytes() == (folder / "w3" / EDITS).read_bytes()


def test_texts_of_one_label_can_be_attacked_alone(folder: Path) -> None:
    found = run(folder, "--only", "positive", "--goal", "wrong", "--kind", "insert", to="only")
    assert all(list(row["by_label"]) == ["positive"] for row in found["attacks"])


def test_labels_are_names_or_numbers_and_cells_may_be_nested(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"post": {"body": "one"}, "is": 1}\n{"post": {"body": " "}, "is": "negative"}\n')
    (found,) = read_labelled(path, "post.body", "is", LABELS, ORDINARY)
    assert (found.row, found.text, found.label) == (1, "one", "positive")


REFUSED = {
    "another goal": (["--goal", "fast"], "--goal: found fast; allowed: wrong, early, slow"),
    "another kind": (["--kind", "synonym"], "--kind: found synonym; allowed: lookalike"),
    "no queries": (["--queries", "1"], "--queries: found 1; give a whole number from 2 on"),
    "no texts": (["--count", "0"], "--count: found 0"),
    "no edits": (["--edits", "0"], "--edits: found 0; give a share of the words"),
    "another label": (["--only", "spam"], "--only: found 'spam'; give a label of the models: negative, positive"),
    "another column": (["--label", "kind"], "no column 'kind'"),
    "labels that are texts": (["--label", "text"], "is none of the model's: negative, positive"),
    "no such file": (["--words", "none.csv"], "no such file"),
    "a folder that is there": (["--to", "{folder}"], "exists; give a new folder with --to"),
    "all texts attacked": (["--count", "60"], "none is left for words; give --words, or --count"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_mistake_is_one_line_and_leaves_nothing(
    what: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, message = REFUSED[what]
    given = ["--texts", str(folder / "texts.csv"), "--label", "label", "--to", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main(["evade", str(folder / "m-early"), *given, *(one.format(folder=folder) for one in more)])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_models_of_other_tasks_are_not_compared(folder: Path, tmp_path: Path) -> None:
    exported(tmp_path, labels=["ham", "spam"])
    with pytest.raises(EatError, match="answers ham, spam, but m-early negative, positive; attack models of one task"):
        _evade(folder, folder / "m-early", tmp_path / "out")
    with pytest.raises(EatError, match="two folders have one name"):
        _evade(folder, folder / "m-early", folder / "m-early")


def _evade(folder: Path, *models: Path) -> None:
    from eat.evasion.evade import evade
    from eat.evasion.options import EvadeOptions

    evade(EvadeOptions(models, folder / "texts.csv", "label", folder / "never", count=4))


def test_goals_of_exits_need_exits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--texts", str(folder / "texts.csv"), "--label", "label", "--to", str(folder / "never"), "--count", "4"]
    with pytest.raises(SystemExit):
        main(["evade", str(folder / "m-dense"), *given, "--goal", "slow"])
    assert "none of the models exits early, and --goal is slow; give: wrong" in capsys.readouterr().err
