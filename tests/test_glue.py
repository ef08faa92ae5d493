"""GLUE from a folder of files: read as they are, or refused in one line; calibration held out of the training text."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from glue_folder import sentence, sst2_rows, write, write_glue
from hypothesis import given
from hypothesis import strategies as st

from eat.errors import EatError
from eat.files import read_table
from eat.prepare.sources.glue import GLUE, unquoted
from eat.prepare.sources.registry import reader_of
from eat.prepare.sources.texts import Texts
from eat.prepare.splits import SPLITS, hold_out, normalise, parts_of, prepare_text
from eat.study.tasks import GlueDirSource, Splits, Task

ALL = dict.fromkeys(SPLITS)


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glue(tmp_path_factory.mktemp("GLUE"))


def source(task: str) -> GlueDirSource:
    return GlueDirSource.model_validate({"kind": "glue_dir", "task": task})


def read(task: str, folder: Path) -> Texts:
    return reader_of(source(task), str(folder)).read()


def refusal(task: str, folder: Path) -> str:
    with pytest.raises(EatError) as caught:
        read(task, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is read -------------------------------------------------------------------------------------------------


def test_the_configuration_knows_the_tasks_of_the_table() -> None:
    assert set(get_args(GlueDirSource.model_fields["task"].annotation)) == set(GLUE)


@pytest.mark.parametrize("task", GLUE)
def test_every_task_is_read_with_its_labels(task: str, glue: Path) -> None:
    texts = read(task, glue)
    assert texts.dev is not None
    assert texts.pair == (task not in ("sst2", "cola"))
    for table in (texts.table, texts.dev):
        assert set(table["label"]) == set(range(len(texts.labels)))
        assert ("text_b" in table) == texts.pair
        assert table["text"].str.contains("chapter").all()
    assert texts.description["dev"] == f"{len(texts.dev)} rows, not the {GLUE[task].dev_rows} official rows"
    assert str(glue) not in str(texts.description)  # the same text in another folder is the same task


# The classes as the hub numbers them, in the features of nyu-mll/glue.
def test_labels_are_numbered_as_on_the_hub() -> None:
    assert {name: task.labels for name, task in GLUE.items()} == {
        "cola": ("unacceptable", "acceptable"),
        "sst2": ("negative", "positive"),
        "mrpc": ("not_equivalent", "equivalent"),
        "qqp": ("not_duplicate", "duplicate"),
        "mnli": ("entailment", "neutral", "contradiction"),
        "mnli-mm": ("entailment", "neutral", "contradiction"),
        "qnli": ("entailment", "not_entailment"),
        "rte": ("entailment", "not_entailment"),
        "wnli": ("not_entailment", "entailment"),
    }


def test_columns_are_found_by_name_in_any_order_beside_any_others(glue: Path, tmp_path: Path) -> None:
    for split in ("train", "dev"):
        table = pd.read_csv(glue / "RTE" / f"{split}.tsv", sep="\t", dtype=str)
        turned = table.assign(genre="news")[["label", "genre", "sentence2", "index", "sentence1"]]
        write(tmp_path / "RTE" / f"{split}.tsv", list(turned), turned.to_numpy().tolist())
    assert read("rte", tmp_path).table.equals(read("rte", glue).table)


def test_matched_and_mismatched_share_their_training_text(glue: Path) -> None:
    matched, mismatched = read("mnli", glue), read("mnli-mm", glue)
    assert matched.table.equals(mismatched.table)
    assert matched.dev is not None and mismatched.dev is not None
    assert not set(matched.dev["text"]) & set(mismatched.dev["text"])


def test_quotation_marks_are_characters_but_for_the_csv_quoting_of_qqp(glue: Path) -> None:
    assert read("qqp", glue).table["text"][0] == f'why "{sentence(0)}"'
    assert read("mnli", glue).table["text"][0] == f'"{sentence(0)}"'


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"say ""no"" twice"', 'say "no" twice'),
        ('"""No"" is a word"', '"No" is a word'),
        ('"plain"', "plain"),
        ('say "no"', 'say "no"'),
        ('"No," he said, "never"', '"No," he said, "never"'),  # no CSV file would hold it
        ('"', '"'),
        ('""', ""),
        ("", ""),
    ],
)
def test_the_quoting_of_csv_is_taken_off(cell: str, text: str) -> None:
    assert unquoted([cell]) == [text]


@given(st.text('ab" \t', max_size=12))
def test_what_csv_quotes_is_read_back(text: str) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    assert unquoted([quoted]) == [text]


def test_carriage_returns_and_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        path = tmp_path / "SST-2" / f"{split}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes("sentence\tlabel\r\none\u2028two \x0b three\t0\r\nfour\t1\r\n".encode())
    assert read("sst2", tmp_path).table["text"].tolist() == ["one\u2028two \x0b three", "four"]


def test_rows_without_a_label_are_left_out_and_counted(glue: Path, tmp_path: Path) -> None:
    for name, unlabelled in (("train", 3), ("dev_matched", 2)):
        lines = (glue / "MNLI" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        rows = [line.split("\t") for line in lines[1:]]
        for row in rows[:unlabelled]:
            row[-1] = "-"
        write(tmp_path / "MNLI" / f"{name}.tsv", lines[0].split("\t"), rows)
    texts = read("mnli", tmp_path)
    assert texts.left_out == {"unlabelled": 5}
    assert len(texts.table) == len(read("mnli", glue).table) - 3
    card = prepare_text(
        "mnli", Task(source=source("mnli"), splits=Splits(calibration=0.4)), tmp_path / "data", str(tmp_path)
    )
    assert card["rows"]["unlabelled"] == 5


def test_a_few_broken_rows_are_left_out_and_counted_and_many_are_refused(tmp_path: Path) -> None:
    rows = sst2_rows(1000)
    write(tmp_path / "SST-2" / "dev.tsv", ["sentence", "label"], sst2_rows(10))
    write(tmp_path / "SST-2" / "train.tsv", ["sentence", "label"], [*rows, ["the first half of a row"]])
    assert read("sst2", tmp_path).left_out == {"broken": 1}
    write(tmp_path / "SST-2" / "train.tsv", ["sentence", "label"], [["half"]] * 3 + rows)
    assert "3 of 2003 rows, the first in line 2, do not have the 2 cells of" in refusal("sst2", tmp_path)


def test_dev_text_of_one_class_is_refused(glue: Path, tmp_path: Path) -> None:
    write(tmp_path / "SST-2" / "train.tsv", ["sentence", "label"], sst2_rows(200))
    dev = [row for row in sst2_rows(40, start=10_000) if row[1] == "1"]
    write(tmp_path / "SST-2" / "dev.tsv", ["sentence", "label"], dev)
    with pytest.raises(
        EatError, match=r"no text of a label \('negative': \d+ train, \d+ calibration, 0 dev; .*of it, or"
    ):
        prepare_text("sst2", Task(source=source("sst2")), tmp_path / "data", str(tmp_path))


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_wrong_folder_is_told_with_what_is_there(glue: Path, tmp_path: Path) -> None:
    with pytest.raises(EatError, match="no folder is given; set `glue_dir`"):
        reader_of(source("sst2")).read()
    line = refusal("sst2", tmp_path / "nowhere")
    assert line.startswith(f"{tmp_path / 'nowhere'}: no such folder; put GLUE there (SST-2/train.tsv, SST-2/dev.tsv)")
    assert "no SST-2/train.tsv, SST-2/dev.tsv; there are: none; set `glue_dir`" in refusal("sst2", glue / "SST-2")


def test_a_missing_file_is_named(glue: Path, tmp_path: Path) -> None:
    for path in (glue / "MNLI").iterdir():
        if path.name != "dev_mismatched.tsv":
            (tmp_path / "MNLI").mkdir(exist_ok=True)
            (tmp_path / "MNLI" / path.name).write_bytes(path.read_bytes())
    assert len(read("mnli", tmp_path).labels) == 3
    line = refusal("mnli-mm", tmp_path)
    assert line.startswith(f"{tmp_path}: no MNLI/dev_mismatched.tsv; there are: MNLI/dev_matched.tsv, MNLI/train.tsv;")


SHUFFLED = {
    "label and text": (["label", "sentence"], "column 'label' holds 'the rain and the rain of chapter 0 . '"),
    "another name": (["text", "label"], "no column 'sentence'; there are: text, label"),
    "no header": ([], "no column 'sentence', 'label'; there are: the rain and the rain of chapter 0 . , 0"),
}


@pytest.mark.parametrize(("header", "message"), SHUFFLED.values(), ids=SHUFFLED.keys())
def test_shuffled_columns_give_one_line(header: list[str], message: str, tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write(tmp_path / "SST-2" / f"{split}.tsv", header, sst2_rows(60))
    line = refusal("sst2", tmp_path)
    assert line.startswith(f"{tmp_path / 'SST-2' / 'train.tsv'}: {message}")


def test_a_text_column_of_numbers_is_another_column(glue: Path, tmp_path: Path) -> None:
    lines = (glue / "QNLI" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    for split in ("train", "dev"):
        rows = [line.split("\t") for line in lines]
        write(tmp_path / "QNLI" / f"{split}.tsv", ["question", "index", "sentence", "label"], rows)
    assert "column 'question' contains only numbers, not text" in refusal("qnli", tmp_path)


def test_a_class_that_the_task_has_not_is_refused(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write(tmp_path / "SST-2" / f"{split}.tsv", ["sentence", "label"], [*sst2_rows(5), ["fair", "2"]])
    assert "column 'label' holds '2' (1 of 11 rows are none of: 0, 1)" in refusal("sst2", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sentence\tlabel\n", "no rows"),
        (b"", "no column 'sentence', 'label'"),
        ("sentence\tlabel\ncafé\t0\n".encode("latin-1"), "not UTF-8 text"),
    ],
)
def test_a_damaged_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    for split in ("train", "dev"):
        path = tmp_path / "SST-2" / f"{split}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert message in refusal("sst2", tmp_path)


def test_the_files_of_a_task_are_known_before_any_is_read(glue: Path) -> None:
    files = reader_of(source("mnli-mm"), str(glue)).files()
    assert [path.relative_to(glue) for path in files] == [Path("MNLI/train.tsv"), Path("MNLI/dev_mismatched.tsv")]


# --- calibration held out -----------------------------------------------------------------------------------------


def prepared(task: str, folder: Path, out: Path, **options: object) -> dict[str, pd.DataFrame]:
    prepare_text(task, Task.model_validate({"source": source(task), **options}), out, str(folder))
    return {name: read_table(out / f"{name}.parquet") for name in SPLITS}


def test_dev_is_the_dev_file_row_for_row(glue: Path, tmp_path: Path) -> None:
    splits = prepared("qqp", glue, tmp_path)
    dev = read("qqp", glue).dev
    assert dev is not None
    columns = ["text", "text_b", "label"]
    assert sorted(splits["dev"][columns].to_numpy().tolist()) == sorted(dev[columns].to_numpy().tolist())
    ids = pd.concat(splits.values())["id"]
    assert ids.is_unique


def test_copies_in_dev_all_count_and_have_ids_of_their_own() -> None:
    train = pd.DataFrame({"text": [f"text {n}" for n in range(200)], "label": [n % 2 for n in range(200)]})
    dev = pd.DataFrame({"text": ["same", "same", "SAME", "", "text 7"], "label": [0, 1, 0, 1, 1]})
    splits, rows = hold_out(Texts(train, ["a", "b"], pair=False, description={}, dev=dev), Splits(), ALL)
    assert len(splits["dev"]) == 5
    assert splits["dev"]["id"].is_unique
    assert rows["in_dev"] == 1
    assert "text 7" not in {*splits["train"]["text"], *splits["calibration"]["text"]}


def test_calibration_shares_no_text_with_training(glue: Path, tmp_path: Path) -> None:
    splits = prepared("mrpc", glue, tmp_path, splits={"calibration": 0.3})
    texts = {name: {*map(tuple, table[["text", "text_b"]].to_numpy())} for name, table in splits.items()}
    assert texts["calibration"] and not texts["calibration"] & texts["train"]
    assert len(texts["calibration"] | texts["train"]) == 60


def test_calibration_holds_whole_sentences_and_none_of_their_parts_are_trained_on(glue: Path, tmp_path: Path) -> None:
    splits = prepared("sst2", glue, tmp_path, splits={"calibration": 0.3})
    held_out = splits["calibration"]["text"].map(normalise)
    assert len(held_out) > 5
    assert held_out.str.startswith("the ").all()  # the phrases begin with "of"
    trained = splits["train"]["text"].map(normalise)
    assert not [text for text in trained if any(f" {text} " in f" {whole} " for whole in held_out)]
    assert len(trained) == 120 - 2 * len(held_out)


texts_of_few_words = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(" ".join), max_size=12)


@given(texts_of_few_words, texts_of_few_words)
def test_parts_are_those_that_a_plain_search_finds(texts: list[str], wholes: list[str]) -> None:
    found = parts_of(texts, wholes)
    plain = [any(f" {text} " in f" {whole} " and text != whole for whole in wholes) for text in texts]
    assert found == plain


def test_a_split_that_would_be_empty_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "SST-2" / "train.tsv", ["sentence", "label"], sst2_rows(4))
    write(tmp_path / "SST-2" / "dev.tsv", ["sentence", "label"], sst2_rows(4, start=50))
    with pytest.raises(EatError, match="no text falls in calibration"):
        prepared("sst2", tmp_path, tmp_path / "data", splits={"calibration": 0.01})
    assert not (tmp_path / "data").exists()


# --- the real files, where they are -------------------------------------------------------------------------------

REAL = Path(__file__).resolve().parent.parent / "data" / "glue"


@pytest.mark.skipif(not (REAL / "SST-2").is_dir(), reason="no GLUE files in data/glue")
def test_sst2_calibrates_on_sentences_as_long_as_those_of_dev(tmp_path: Path) -> None:
    splits = prepared("sst2", REAL, tmp_path, splits={"calibration": 0.1})
    words = {name: table["text"].str.split().str.len().mean() for name, table in splits.items()}
    assert len(splits["dev"]) == 872  # the official dev split
    assert words["calibration"] == pytest.approx(words["dev"], abs=1.5)
    assert words["train"] < 0.6 * words["dev"]
