"""A study of sequence labelling: its configuration, its files, its splits, and the whole of a tiny one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import taggers
import tiny
import yaml
from project_copy import copy_project

from eat.errors import EatError
from eat.files import read_json, write_json, write_table
from eat.study.kinds import kind_of, load_any_study
from eat.study.schema import schema_text
from eat.study.study import Study
from eat.study.tagging import TaggingStudy
from eat.study.tagging_paths import TaggingPaths
from eat.tagging.checks import check_tagging, files_of_task
from eat.tagging.conll import read_sentences, tags_of
from eat.tagging.points import chosen_points
from eat.tagging.prepare import divided_sentences, prepare_sentences
from eat.tagging.timing import Entry, require_agreement
from eat.tagging.trace import record_trace, write_trace

ROOT = Path(__file__).resolve().parent.parent
CONFIG: dict[str, Any] = {
    "study": "tags",
    "reference": "dense",
    "tasks": {
        "names": {
            "kind": "tagging",
            "source": {"kind": "conll", "path": "train.conll", "dev_path": "dev.conll"},
            "metric": "span_f1",
            "max_length": 32,
        }
    },
    "backbones": {"tiny": {"kind": "folder", "path": "backbone"}},
    "systems": {
        "dense": {"backbone": "tiny", "epochs": 12},
        "sentence": {
            "backbone": "tiny",
            "epochs": 12,
            "exits": {"after": [1, 2, 3], "rule": "sentence", "tau": [0.4, 0.9]},
        },
        "token": {"weights_of": "sentence", "exits": {"rule": "token", "tau": [0.4, 0.9], "window": [0, 1]}},
    },
    "training": {"batch_size": 8, "learning_rate": 5e-3, "device": "cpu"},
    "timing": {"sentences": 8, "block_sentences": 4, "repeats": 1, "threads": 1},
}


def changed(key: str, value: Any) -> dict[str, Any]:
    """The configuration with a key replaced, `systems.token.reducer`; `None` removes it."""
    found = copy.deepcopy(CONFIG)
    *path, last = key.split(".")
    place = found
    for part in path:
        place = place[part]
    place[last] = value
    if value is None:
        del place[last]
    return found


def study(**changes: Any) -> TaggingStudy:
    found = load_any_study({**CONFIG, **changes})
    assert isinstance(found, TaggingStudy)
    return found


# --- the configuration --------------------------------------------------------------------------------------------


def test_a_row_takes_its_heads_from_the_row_whose_weights_it_runs() -> None:
    found = study()
    assert found.systems["token"].exits.after == [1, 2, 3]
    assert found.systems["token"].exits.points() == [(0.4, 0), (0.9, 0), (0.4, 1), (0.9, 1)]
    assert found.trained_of("token") == "sentence"
    assert found.stage_names("token") == []


def test_an_option_of_the_clock_and_a_threshold_train_nothing() -> None:
    one, other = study(), study(timing={"sentences": 20}, score_budget=0.1)
    assert one.training_spec("names", "sentence") == other.training_spec("names", "sentence")
    taus = load_any_study(changed("systems.sentence.exits.tau", [0.7]))
    assert isinstance(taus, TaggingStudy)
    assert taus.training_spec("names", "sentence") == one.training_spec("names", "sentence")


def test_the_kind_of_a_classification_may_be_said_and_changes_no_parameter() -> None:
    plain = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    said = copy.deepcopy(plain)
    for task in said["tasks"].values():
        task["kind"] = "classification"
    found = load_any_study(said)
    assert isinstance(found, Study)
    assert found == load_any_study(plain)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tasks.names.kind", "parsing", "tasks.names.kind: found 'parsing'; allowed: classification, tagging"),
        ("tasks.other", {"source": {"kind": "packaged", "name": "imdb"}}, "two kinds (names: tagging, other: classif"),
        (
            "systems.token.reducer",
            {"kind": "norm"},
            "systems.token: reducer: given in a study of tagging; a removed word",
        ),
        ("systems.dense.engine", "onnx", "engine: given in a study of tagging; tagging runs in PyTorch alone"),
        ("systems.dense.depth", 3, "systems.dense.depth: unknown key"),
        ("systems.sentence.exits.tau", None, "rule sentence with tau [none]"),
        ("systems.dense.exits", {"tau": [0.5]}, "rule none with tau [0.5]"),
        ("systems.sentence.exits.after", None, "rule sentence without `after`"),
        ("systems.sentence.exits.window", [1], "window [1] with the rule sentence"),
        ("systems.token.weights_of", "nobody", "systems.token.weights_of: 'nobody' trains no weights here"),
        (
            "systems.token.exits.after",
            [1, 4],
            "systems.token.exits.after: found [1, 4]; sentence has heads after [1, 2, 3]",
        ),
        ("systems.hf-dense", {"backbone": "tiny"}, "names that begin with hf-dense are reserved"),
        ("systems.dense.backbone", "large", "systems.dense.backbone: 'large' is unknown; known: tiny"),
        ("reference", "sentence", "reference: sentence has exits"),
        ("reference", "nobody", "reference: 'nobody' is no system"),
        ("training.gpus", 2, "gpus"),
        ("training.threads", True, "training.threads: found True; no key has a truth value"),
        ("tasks.names.source.dev_path", "./train.conll", "which is also path"),
        ("tasks.names.metric", "f1", "tasks.names.metric: found 'f1'"),
        ("accuracy_budget", 0.1, "accuracy_budget: unknown key"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(key: str, value: Any, message: str) -> None:
    with pytest.raises(EatError) as error:
        load_any_study(changed(key, value))
    lines = str(error.value).splitlines()
    # a mistake of a row is also one of the row that takes it over
    assert message in lines[0]
    assert len(lines) <= 2
    assert all(line.startswith("configuration: ") for line in lines)


def test_exits_and_lengths_beyond_the_backbone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.backbone(tmp_path / "backbone")
    check_tagging(study())
    for key, value, message in (
        ("systems.sentence.exits.after", [4], "4 layers"),
        ("tasks.names.max_length", 65, "64 positions"),
    ):
        found = load_any_study(changed(key, value))
        assert isinstance(found, TaggingStudy)
        with pytest.raises(EatError, match=message):
            check_tagging(found)
    with pytest.raises(EatError, match=r"tasks\.names\.source\.path: train\.conll: no such file"):
        files_of_task("names", study().tasks["names"])


def test_the_shipped_study_is_valid_and_follows_its_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    path = ROOT / "config" / "tagging.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=tagging_schema.json\n")
    stored = (ROOT / "config" / "tagging_schema.json").read_text(encoding="utf-8")
    assert stored == schema_text(TaggingStudy), "run: make schema"
    jsonschema.validate(yaml.safe_load(text), json.loads(stored))
    found = load_any_study(path)
    assert isinstance(found, TaggingStudy)
    check_tagging(found)
    assert all(path.startswith("data/own/") for task in found.tasks.values() for path in (task.source.path,))
    assert kind_of(yaml.safe_load(text)) == "tagging"


# --- the files ----------------------------------------------------------------------------------------------------

CONLLU = """\
# sent_id = 1
1\tI\ti\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_
3.1\tgone\tgo\tVERB\tVBN\t_\t_\t_\t_\t_

# sent_id = 2
1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t_\t_
"""


def written(folder: Path, text: str, name: str = "file.conll") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_two_columns_are_read(tmp_path: Path) -> None:
    found = read_sentences(written(tmp_path, "New\tB-loc\r\nYork\tI-loc\r\n\t\r\nhi\tO\n\n\n\n"), "conll", spans=True)
    assert [(one.words, one.tags, one.line) for one in found] == [
        (("New", "York"), ("B-loc", "I-loc"), 1),
        (("hi",), ("O",), 4),
    ]


def test_of_conllu_words_and_upos_are_read_without_ranges_and_empty_nodes(tmp_path: Path) -> None:
    found = read_sentences(written(tmp_path, CONLLU), "conllu", spans=False)
    assert [(one.words, one.tags) for one in found] == [
        (("I", "do", "n't"), ("PRON", "AUX", "PART")),
        (("Yes",), ("INTJ",)),
    ]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("Hi\n", "conll", "line 1: found 'Hi'; a line is a word, a tab and its tag"),
        ("a\tO\nb\t\n", "conll", "line 2"),
        ("a\tO\tX\n", "conll", "line 1"),
        ("\tO\n", "conll", "line 1"),
        ("a\tO\nb\tI-loc\n", "conll", "the word 'b' has the tag 'I-loc' after 'O'; a span begins with B-"),
        ("a\tB-per\nb\tI-loc\n", "conll", "'I-loc' after 'B-per'"),
        ("a\tLOC\n", "conll", "allowed: O, B-type and I-type"),
        ("a\tO\n\n\nb\tO\n", "conll", "line 3: an empty sentence"),
        ("\na\tO\n", "conll", "line 1: an empty sentence"),
        ("# only a comment\n\n" + CONLLU, "conllu", "line 2: an empty sentence: comments without words"),
        ("\n", "conll", "contains no sentence"),
        ("1\ta\tb\n", "conllu", "3 columns; CoNLL-U has 10"),
        (CONLLU.replace("INTJ", "_"), "conllu", "the word 'Yes' with the UPOS '_'"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, kind: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(EatError) as error:
        read_sentences(path, kind, spans=kind == "conll")
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_tag_that_only_dev_has_is_refused(tmp_path: Path) -> None:
    train = read_sentences(written(tmp_path, "a\tO\n\nb\tB-x\n"), "conll", spans=True)
    dev = read_sentences(written(tmp_path, "a\tO\n\nb\tB-y\n"), "conll", spans=True)
    assert tags_of(train, train, tmp_path) == ["O", "B-x"]
    with pytest.raises(EatError, match="sentence of line 3: the tag 'B-y' is in no training sentence"):
        tags_of(train, dev, tmp_path)


# --- the splits ---------------------------------------------------------------------------------------------------


def conll(count: int, seed: int) -> str:
    """Sentences in which good words are entities: `gooda goodb` is one, and what follows a bad word is not."""
    generator = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        for _ in range(int(generator.integers(2, 9))):
            if generator.random() < 0.3:
                lines.append(f"{generator.choice(tiny.GOOD)}\tB-x")
                if generator.random() < 0.5:
                    lines.append(f"{generator.choice(tiny.GOOD)}\tI-x")
            lines.append(f"{generator.choice(tiny.NEUTRAL)}\tO")
        lines.append("")
    return "\n".join(lines)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the study, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, conll(120, 0), "train.conll")
    written(tmp_path, conll(40, 1), "dev.conll")
    tiny.backbone(tmp_path / "backbone")
    return tmp_path


def test_splits_are_by_a_hash_and_dev_is_its_own_file(in_folder: Path) -> None:
    task = study().tasks["names"]
    splits, card = divided_sentences("names", task)
    assert card["tags"] == ["O", "B-x", "I-x"]
    assert len(splits["dev"]) == 40
    assert 5 <= len(splits["calibration"]) <= 35
    words = {name: {" ".join(row) for row in part["words"]} for name, part in splits.items()}
    assert not words["train"] & words["calibration"]
    # more sentences move no other one
    written(in_folder, conll(120, 0) + "\nnew\tO\n", "train.conll")
    more, _ = divided_sentences("names", task)
    assert {" ".join(row) for row in more["calibration"]["words"]} - words["calibration"] <= {"new"}


def test_a_training_sentence_that_is_in_dev_or_twice_is_left_out(in_folder: Path) -> None:
    written(in_folder, conll(40, 1) + "\n" + conll(120, 0) + "\n" + conll(120, 0), "train.conll")
    _, card = divided_sentences("names", study().tasks["names"])
    assert card["sentences"]["in_dev"] == 40
    assert card["sentences"]["duplicates"] >= 120


def test_a_sentence_beyond_the_positions_is_refused_with_its_line(in_folder: Path) -> None:
    written(in_folder, conll(40, 1) + "\n" + "word1\tO\n" * 31 + "\n", "dev.conll")
    line = conll(40, 1).count("\n") + 2
    with pytest.raises(EatError, match=rf"dev\.conll, line {line}: a sentence of 33 word pieces .* max_length is 32"):
        prepare_sentences("names", study().tasks["names"], in_folder / "out", [in_folder / "backbone"])
    assert not (in_folder / "out").exists()


# --- trace, choice, clock -----------------------------------------------------------------------------------------


def test_the_fewest_flops_within_the_budget_are_chosen(in_folder: Path) -> None:
    """Two sentences of two words; a system that is right at tau 0.9 and has a wrong word at 0.4."""
    given, paths = study(score_budget=0.2), TaggingPaths("tags")
    gold = pd.DataFrame({"id": ["a", "b"], "line": [1, 4], "words": [["v", "w"]] * 2, "tags": [[1, 2], [0, 1]]})
    write_table(paths.sentences("names", "calibration"), gold)
    write_json(paths.sentences_card("names"), {"tags": ["O", "B-x", "I-x"], "metric": "span_f1"})
    sizes = {"hidden": 4, "heads": 1, "head_size": 0, "intermediate": 4}
    for name, row in given.systems.items():
        rows = []
        for tau, window in row.exits.points():
            for number, sentence in enumerate(["a", "b"]):
                wrong = tau == 0.4 and number == 0
                computed = [4] if tau == 0.4 else [4, 2] if window else [4, 3] if tau == 0.9 else [4, 4]
                answers = [0, 0] if wrong else gold["tags"][number]
                rows.append((tau, window, sentence, answers, [len(computed)] * 2, computed, 4, 2, 1.0))
        table = pd.DataFrame(
            rows, columns=["tau", "window", "id", "answers", "depths", "computed", "tokens", "read", "margin"]
        )
        trace = paths.trace("names", name, 1, "calibration")
        write_trace(trace, table, {"shape": sizes, "tags": ["O", "B-x", "I-x"]})
    found = chosen_points(given, "names").set_index(["system", "tau", "window"])
    assert found["score"].round(4).tolist() == [1.0, 0.6667, 1.0, 0.6667, 1.0, 0.6667, 1.0]
    assert found.index[found["chosen"]].tolist()[1:] == [("sentence", 0.9, 0), ("token", 0.9, 1)]
    loose = chosen_points(study(score_budget=0.4), "names").set_index(["system", "tau", "window"])
    assert loose.index[loose["chosen"]].tolist()[1:] == [("sentence", 0.4, 0), ("token", 0.4, 0)]


def test_the_trace_is_the_forward_pass_of_each_sentence(in_folder: Path) -> None:
    model = taggers.tagger()
    model.save(in_folder / "model")
    tiny.save_tokenizer(in_folder / "model")
    prepare_sentences("names", study().tasks["names"], in_folder / "data", [in_folder / "backbone"])
    split = in_folder / "data" / "sentences_dev.parquet"
    trace, shape = record_trace(in_folder / "model", study().systems["token"].exits, split, "tiny")
    assert len(trace) == 4 * 40
    assert shape["exits"] == [1, 2, 3, 4]
    assert all(len(row.computed) == max(row.depths) for row in trace.itertuples())
    fewer = trace[trace["tau"] == 0.4]["computed"].map(sum).sum()
    assert fewer < trace[trace["tau"] == 0.9]["computed"].map(sum).sum()


def test_an_answer_that_rounding_cannot_explain_is_refused() -> None:
    entry = Entry("token", 1, (0.5, 1), lambda _: ((), ()), {}, {"near": 1e-6, "far": 0.1})
    assert require_agreement(entry, 100)["different"] == 0
    entry.different = {"near"}
    assert require_agreement(entry, 100)["different"] == 1
    entry.different = {"far"}
    with pytest.raises(EatError, match=r"token at tau 0\.5, window 1: 1 of 100 .* \(far\)"):
        require_agreement(entry, 100)


# --- the whole ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tiny_study_runs_from_its_files_to_the_report_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    written(project.folder, conll(120, 0), "train.conll")
    written(project.folder, conll(40, 1), "dev.conll")
    tiny.backbone(project.folder / "backbone")
    (project.folder / "config" / "tags.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    given = ("--cores", "2", "--configfile", "config/tags.yaml")
    done = project.snakemake(*given)
    assert done.returncode == 0, done.stderr[-3000:]
    results = project.folder / "results" / "tags"
    summary = pd.read_csv(results / "summary.csv")
    assert summary["system"].tolist() == ["dense", "hf-dense", "hf-dense-again", *["sentence"] * 2, *["token"] * 4]
    assert summary["chosen"].sum() == 5
    assert (summary["score"] > 0.2).any(), "nothing was learned"
    assert summary.loc[summary["system"] != "hf-dense", "speedup"].notna().all()
    state = read_json(results / "timing" / "names.json")
    assert {entry["system"] for entry in state["agreement"]} == set(summary["system"])
    page = (results / "report" / "report.html").read_text(encoding="utf-8")
    assert "names" in page
    assert "<svg" in page
    assert (results / "records.json").is_file()
    assert project.pending("tags.yaml") == []
    # a threshold trains nothing; an option of the clock traces nothing
    planned = {}
    for key, value in (("systems.sentence.exits.tau", [0.5]), ("timing.repeats", 2), ("training.batch_size", 4)):
        (project.folder / "config" / "tags.yaml").write_text(yaml.safe_dump(changed(key, value)), encoding="utf-8")
        planned[key] = {rule for rule, _ in project.pending("tags.yaml")}
    assert planned["systems.sentence.exits.tau"] >= {"trace_tagger", "time_taggers", "render_tagging"}
    assert "finetune_tagger" not in planned["systems.sentence.exits.tau"]
    assert not planned["timing.repeats"] & {"finetune_tagger", "trace_tagger", "choose_points"}
    assert "finetune_tagger" in planned["training.batch_size"]
    assert "prepare_sentences" not in planned["training.batch_size"]
