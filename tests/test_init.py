"""`eat init`: what it writes and prints, and what it refuses in one line before anything is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eat.cli import main
from eat.configure.configure import path_within, same_but_threads
from eat.configure.defaults import EPSILONS, FEWEST_TEXTS, defaults_for
from eat.configure.options import name_from
from eat.statistics import examples_needed
from eat.study.loading import load_study
from eat.study.tasks import FileSource
from eat.text_files.detection import encoding_of

WORDS = tuple("quiet film knows stop good dull long music plot scene actor light story night voice city".split())  # noqa: SIM905


def rows(count: int = 600, labels: Sequence[str] = ("neg", "pos"), name: str = "text") -> list[tuple[str, str]]:
    """Different texts, and their labels in turn."""
    return [
        (f"{name} {number} {WORDS[number % 16]} {WORDS[number // 16 % 16]}", labels[number % len(labels)])
        for number in range(count)
    ]


def csv_text(pairs: Sequence[tuple[str, str]], header: str = "text,label\n") -> str:
    return header + "".join(f"{text},{label}\n" for text, label in pairs)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


Printed = Callable[[], tuple[str, str]]


def init(*arguments: str, columns: Sequence[str] = ("--text", "text", "--label", "label")) -> None:
    main(["init", *arguments, *columns])


def hints_of(capsys: pytest.CaptureFixture[str]) -> str:
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if line.startswith("hint: "))


# --- the configuration --------------------------------------------------------------------------------------------


def test_the_configuration_is_a_study_of_one_task(capsys: pytest.CaptureFixture[str]) -> None:
    Path("films.csv").write_text(csv_text(rows(1200)))
    init("films.csv", "--seeds", "3", "--cores", "2")
    printed = capsys.readouterr().out
    study = load_study("films.yaml")
    assert (study.study, study.reference, study.seeds) == ("films", "dense-6", [1, 2, 3])
    names = ["dense-6", "student-3", "adapt-6", "adapt-6-int8", "adapt-3", "adapt-3-int8"]
    assert [name for name in study.systems if not name.startswith("hf-")] == names
    (task,) = study.tasks.values()
    assert isinstance(task.source, FileSource)
    assert (task.source.path, task.source.text, task.source.label) == (os.path.abspath("films.csv"), ["text"], "label")
    for name in ("adapt-6-int8", "adapt-3-int8"):
        assert study.systems[name].exits.choose.by == "disagreement"
    assert (study.training.threads, study.timing.threads) == (1, 2)
    assert "  neg  600  50.0 %" in printed and "  pos  600  50.0 %" in printed
    assert "neg    text 0 quiet quiet" in printed
    assert "1,200 different" in printed
    assert "Written to films.yaml" in printed


def test_the_format_of_the_file_and_a_pair_are_written_as_given() -> None:
    lines = [f"{number};'{text}';'other {text}';{label}" for number, (text, label) in enumerate(rows())]
    Path("odd.csv").write_bytes("\n".join(lines).encode("utf-16"))
    form = ["--encoding", "utf-16", "--delimiter", ";", "--quote", "'", "--header", "none"]
    init("odd.csv", *form, columns=["--text", "2", "--text", "3", "--label", "4"])
    (task,) = load_study("odd.yaml").tasks.values()
    source = task.source
    assert isinstance(source, FileSource)
    assert (source.encoding, source.delimiter, source.quote, source.header) == ("utf-16", ";", "'", "none")
    assert (source.text, source.label) == (["2", "3"], "4")


def test_dotted_paths_and_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"post": {"body": text}, "y": label}) for text, label in rows()]
    Path("posts.jsonl").write_text("\n".join(lines))
    Path("config").mkdir()
    init("posts.jsonl", "--name", "my.posts", columns=["--text", "post.body", "--label", "y"])
    assert load_study("config/my.posts.yaml").tasks["my.posts"].source.text == ["post.body"]


@pytest.mark.parametrize("name", ["no", "1e3", "2024-01-01", "null", "0x1F"])
def test_a_name_that_yaml_reads_as_something_else_stays_itself(name: str) -> None:
    Path("films.csv").write_text(csv_text(rows()))
    init("films.csv", "--name", name)
    study = load_study(f"{name}.yaml")
    assert study.study == name and list(study.tasks) == [name]


def test_a_file_in_the_project_gets_a_relative_path(tmp_path: Path) -> None:
    assert path_within(Path("a/b.csv"), tmp_path) == "a/b.csv"
    assert path_within(Path("../b.csv"), tmp_path) == str(tmp_path.parent / "b.csv")
    assert path_within(Path("b.csv"), None) == str(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("path", "name"), [("a/my data (1).csv", "my-data-1"), ("out/spam", "spam"), ("новости.csv", ""), ("_x_.tsv", "x")]
)
def test_a_name_comes_from_a_file_or_folder(path: str, name: str) -> None:
    assert name_from(Path(path)) == name


def test_threads_are_no_other_study() -> None:
    Path("films.csv").write_text(csv_text(rows()))
    init("films.csv", "--cores", "1")
    first = load_study("films.yaml")
    Path("films.yaml").unlink()
    init("films.csv", "--cores", "4")
    second = load_study("films.yaml")
    assert first != second and same_but_threads(first, second)
    Path("films.yaml").unlink()
    init("films.csv", "--seeds", "2")
    assert not same_but_threads(first, load_study("films.yaml"))


# --- defaults -----------------------------------------------------------------------------------------------------

LENGTHS = np.full(1000, 30)


@pytest.mark.parametrize("different", [200, 250, 420, 1000, 5000, 100_000])
def test_the_calibration_texts_can_show_the_promise(different: int) -> None:
    found = defaults_for(different, LENGTHS, 2, 2, 1, 512)
    texts = min(found.calibration * different, found.calibration_examples or different)
    # nine tenths, since a split by hashes may be smaller by chance
    assert 0.9 * texts >= examples_needed(found.epsilon, 0.05)
    assert found.epsilon == EPSILONS[0] or different < 420
    assert found.calibration + found.dev < 0.7


def test_defaults_follow_the_size() -> None:
    small, large = (defaults_for(different, LENGTHS, 2, 2, 1, 512) for different in (1000, 100_000))
    assert small.train_examples is None and not small.rest
    assert large.train_examples is not None and large.train_examples < 20_000 and large.rest
    assert small.epochs > large.epochs == 3
    assert defaults_for(9000, LENGTHS, 2, 64, 1, 512).training_threads == 4
    long = np.concatenate([np.full(985, 100), np.full(15, 5000)])
    assert defaults_for(9000, long, 2, 2, 1, 512).max_length == 512
    assert defaults_for(9000, np.array([10] * 99 + [70]), 2, 2, 1, 512).max_length == 32


# --- what looks wrong ---------------------------------------------------------------------------------------------


def write(name: str, content: str | bytes) -> None:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


UMLAUTS = [(f"größe {text} für später", label) for text, label in rows()]
LOOKS: dict[str, tuple[Any, list[str], str]] = {
    "no header": (csv_text(rows(), header=""), ["--text", "1", "--label", "2"], "header: none (--header none)"),
    "header, said to be none": (
        csv_text(rows()),
        ["--header", "none", "--text", "1", "--label", "2"],
        "header: first_line (--header first_line)",
    ),
    "UTF-8 as latin-1": (
        csv_text(UMLAUTS),
        ["--encoding", "latin-1", "--text", "text", "--label", "label"],
        "encoding: utf-8 (--encoding utf-8)",
    ),
    "single quotes": (
        "text,label\n" + "".join(f"'{text}',{label}\n" for text, label in rows()),
        ["--text", "text", "--label", "label"],
        'give quote: "\'"',
    ),
    "mostly one label": (
        csv_text(rows(600, ["neg"]) + rows(60, ["pos"], "other")),
        ["--text", "text", "--label", "label"],
        "90.9 % of the rows are 'neg'",
    ),
    "a rare label": (
        csv_text(rows(600) + rows(45, ["odd"], "other")),
        ["--text", "text", "--label", "label"],
        "few rows of 'odd' (45 rows)",
    ),
    "many repeats": (
        csv_text(rows(600) + rows(300)),
        ["--text", "text", "--label", "label"],
        "300 texts in 'text' repeat others",
    ),
    "empty texts": (
        csv_text(rows(600) + [(" ", "neg")] * 60),
        ["--text", "text", "--label", "label"],
        "60 texts in 'text' are empty",
    ),
    "lost characters": (
        csv_text([(f"gr\ufffd\ufffde {text}", label) for text, label in rows()]),
        ["--text", "text", "--label", "label"],
        "U+FFFD",
    ),
}


@pytest.mark.parametrize(("content", "columns", "hint"), LOOKS.values(), ids=LOOKS.keys())
def test_what_looks_wrong_is_named_with_the_key_that_mends_it(
    content: str, columns: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("films.csv", content)
    if "said to be none" in hint or "--header" in columns:
        # its header would be a label of one row, which no study can divide
        with pytest.raises(SystemExit):
            init("films.csv", columns=columns)
    else:
        init("films.csv", columns=columns)
    assert hint in hints_of(capsys)


def test_an_ordinary_file_has_no_hint(capsys: pytest.CaptureFixture[str]) -> None:
    write("films.csv", csv_text(UMLAUTS))
    init("films.csv")
    assert hints_of(capsys) == ""


def test_labels_that_differ_in_case_or_blanks_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    write("films.csv", csv_text(rows(900, ["neg", "pos", "Neg"])))
    init("films.csv")
    assert "'Neg' (300 rows) and 'neg' (300 rows)" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "cp1251", "shift_jis"])
def test_an_encoding_is_recognised(encoding: str) -> None:
    text = {
        "cp1251": "Новости о погоде и о спорте, которые читают каждый день. ",  # noqa: RUF001
        "shift_jis": "今日は天気がいいので、公園を散歩します。日本語の文章です。",
    }.get(encoding, "größer als früher – „schön“ und süß, déjà vu, El Niño. ")  # noqa: RUF001
    found = encoding_of((text * 20).encode(encoding)) or ""
    same = {"utf-8-sig": "utf-8", "shift_jis": "cp932"}
    assert found in (encoding, same.get(encoding))


def test_columns_are_shown_if_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"post": {"body": text, "by": None}, "y": label}) for text, label in rows(10)]
    write("posts.jsonl", "\n".join(lines))
    with pytest.raises(SystemExit) as ended:
        main(["init", "posts.jsonl", "--text", "post.body"])
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert printed.err == "error: posts.jsonl: give --label COLUMN, a column above\n"
    assert [line.split()[1] for line in printed.out.splitlines()[2:]] == ["post.body", "post.by", "y"]
    assert "2 different" in printed.out.splitlines()[-1] and "'neg', 'pos'" in printed.out


# --- what is refused ----------------------------------------------------------------------------------------------

GIVEN = ["--text", "text", "--label", "label"]


def parquet_of_lists(path: Path) -> None:
    pd.DataFrame({"text": [["a", "b"]] * 300, "label": ["x", "y"] * 150}).to_parquet(path)


WRONG: dict[str, tuple[str, Any, list[str], str]] = {
    "no such file": ("none.csv", None, GIVEN, "none.csv: no such file"),
    "another ending": ("films.xlsx", b"PK", GIVEN, "ending '.xlsx' is not one of"),
    "a folder": ("folder.csv", "folder", GIVEN, "folder.csv: no such file"),
    "an empty file": ("films.csv", b"", GIVEN, "an empty file"),
    "only a header": ("films.csv", b"text,label\n", GIVEN, "no rows"),
    "not UTF-8": (
        "films.csv", csv_text(UMLAUTS).encode("cp1252"), GIVEN,
        "it looks like cp1252; save it as UTF-8, or give its encoding; give encoding: cp1252 (--encoding cp1252)",
    ),
    "UTF-16": ("films.csv", csv_text(rows()).encode("utf-16"), GIVEN, "; give encoding: utf-16"),
    "an unknown encoding": (
        "films.csv", csv_text(rows()).encode(), ["--encoding", "utf-9", *GIVEN], "encoding 'utf-9' is unknown",
    ),
    "a missing column": (
        "films.csv", csv_text(rows()).encode(), ["--text", "body", "--label", "label"],
        "no column 'body'; there are: text, label",
    ),
    "a column too many": (
        "films.csv", csv_text(rows()).encode(), ["--text", "3", "--label", "label"], "no column '3'",
    ),
    "another delimiter": (
        "films.csv", csv_text(rows()).replace(",", ";").encode(), GIVEN, "give the delimiter ';'",
    ),
    "tabs in a .csv file": (
        "films.csv", csv_text(rows()).replace(",", "\t").encode(), ["--text", "1", "--label", "2"],
        "give the delimiter '\\t'",
    ),
    "a delimiter of two characters": (
        "films.csv", csv_text(rows()).encode(), ["--delimiter", "||", *GIVEN], "delimiter",
    ),
    "header none with names": (
        "films.csv", csv_text(rows()).encode(), ["--header", "none", *GIVEN], "columns are numbers with header: none",
    ),
    "ragged rows": (
        "films.csv", (csv_text(rows()) + "a, text, with commas,neg\n").encode(), GIVEN,
        "line 602: 4 cells, and 2 before; quote cells that hold delimiters or line breaks",
    ),
    "an open quotation mark": (
        "films.csv", (csv_text(rows()) + 'x "y",pos\n"open,neg\n').encode(), GIVEN,
        "is not closed); correct the file; if quotation marks are ordinary text, give quote: none (--quote none)",
    ),
    "one label": ("films.csv", csv_text(rows(600, ["x"])).encode(), GIVEN, "the only label in 'label' is 'x'"),
    "labels without a value": (
        "films.csv", csv_text(rows(600, ["neg", "pos", ""])).encode(), GIVEN,
        "200 of 600 rows have no label in 'label'",
    ),
    "ten rows": (
        "films.csv", csv_text(rows(10)).encode(), GIVEN,
        f"films.csv: 10 different texts with a label; a study needs at least {FEWEST_TEXTS}",
    ),
    "a label of two rows": (
        "films.csv", csv_text(rows(600) + rows(2, ["odd"], "other")).encode(), GIVEN, "a split has no text of a label",
    ),
    "labels that are numbers": (
        "films.csv", csv_text([(text, str(number / 7)) for number, (text, _) in enumerate(rows())]).encode(), GIVEN,
        "600 different labels in 600 rows of 'label'",
    ),
    "text and label exchanged": (
        "films.csv", csv_text(rows()).encode(), ["--text", "label", "--label", "text"], "600 different labels",
    ),
    "the label column as text": (
        "films.csv", csv_text(rows()).encode(), ["--text", "text", "--label", "text"], "which is a text column, too",
    ),
    "one text column twice": (
        "films.csv", csv_text(rows()).encode(), ["--text", "text", *GIVEN], "--text: found 'text' twice",
    ),
    "three text columns": (
        "films.csv", csv_text(rows()).encode(), ["--text", "1", "--text", "2", *GIVEN], "--text: found 3 columns",
    ),
    "every text empty": ("films.csv", csv_text([("", "a"), (" ", "b")] * 300).encode(), GIVEN, "every text is empty"),
    "lists as texts": ("films.parquet", parquet_of_lists, GIVEN, "holds"),
    "a broken Parquet file": ("films.parquet", b"PAR1 broken", GIVEN, "not a whole PARQUET file"),
    "broken JSON": ("films.jsonl", b'{"text": "a", "label": 1}\n{"text": ', GIVEN, "line 2"),
    "a bad name": ("films.csv", csv_text(rows()).encode(), ["--name", "a/b", *GIVEN], "--name: found 'a/b'"),
    "no seed": ("films.csv", csv_text(rows()).encode(), ["--seeds", "0", *GIVEN], "--seeds: found 0"),
    "no number of cores": ("films.csv", csv_text(rows()).encode(), ["--cores", "many", *GIVEN], "--cores"),
    "a name that is taken": (
        "films.csv", csv_text(rows()).encode(), ["--name", "taken", "--to", "new.yaml", *GIVEN],
        "old.yaml: the study 'taken' is there already",
    ),
    "a configuration that exists": (
        "films.csv", csv_text(rows()).encode(), ["--to", "old.yaml", *GIVEN], "old.yaml: exists already",
    ),
    "another ending of the configuration": (
        "films.csv", csv_text(rows()).encode(), ["--to", "new.txt", *GIVEN], "a configuration ends in .yaml",
    ),
    "a configuration below a file": (
        "films.csv", csv_text(rows()).encode(), ["--to", "films.csv/new.yaml", *GIVEN], "films.csv is a file",
    ),
    "a brace in the path": ("{films}.csv", csv_text(rows()).encode(), GIVEN, "contains a brace"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "content", "arguments", "reason"), WRONG.values(), ids=WRONG.keys())
def test_what_is_refused(
    file: str, content: Any, arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("old.yaml", "study: taken\n")
    if content == "folder":
        Path(file).mkdir()
    elif callable(content):
        content(Path(file))
    elif content is not None:
        write(file, content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(["init", file, *arguments])
    error = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert error[-1].startswith("error: ") and reason in error[-1]
    # before it, at most warnings about the same file
    assert all(line.startswith("warning: ") for line in error[:-1])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write("films.csv", csv_text(rows()))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "films.csv")

    monkeypatch.setattr("eat.text_files.reading.open", refuse, raising=False)
    with pytest.raises(SystemExit):
        init("films.csv")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: films.csv: ") and "Permission denied" in line


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write("films.csv", csv_text(rows()))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SystemExit):
        init("films.csv")
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: films.yaml: cannot be written (No space left")
    assert [path.name for path in tmp_path.iterdir()] == ["films.csv"]
