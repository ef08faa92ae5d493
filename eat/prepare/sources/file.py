"""Labelled text of the user; the sha256 of the file is recorded in the task's card."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from eat.errors import EatError, listed
from eat.files import sha256_of
from eat.prepare.sources.tables import column_of, delimiter_of, place_of, read_rows, strings
from eat.prepare.sources.texts import SourceReader, Texts
from eat.study.tasks import FileSource
from eat.text_files.columns import is_empty


class FileReader(SourceReader):
    """Reads a user's file."""

    source: FileSource
    is_quick = True

    @property
    def has_pairs(self) -> bool:
        """As `SourceReader`."""
        return len(self.source.text) == 2

    def files(self) -> list[Path]:
        """As `SourceReader`."""
        return [Path(path) for path in (self.source.path, self.source.dev_path) if path is not None]

    def read(self) -> Texts:
        """As `SourceReader`. The dev file has the form of the training file, and no other labels."""
        source = self.source
        columns = [*source.text, source.label]
        if len(set(columns)) != len(columns):
            raise EatError(
                f"{source.path}: columns {listed(columns)} contain duplicates; give each text and the label its own "
                "column"
            )
        train = _read(Path(source.path), source)
        counts = pd.Series(train.labels).value_counts()
        if len(counts) == 1:
            raise EatError(
                f"{train.path}: the only label in {source.label!r} is {train.labels[0]!r}; a task needs at least two"
            )
        labels = source.labels or _sorted_labels(counts.index)
        table = _with_numbers(train, source, labels)
        description = {"kind": "file", "path": source.path, "sha256": sha256_of(train.path)}
        warnings = [
            *_swallowed_rows(train, source),
            *([] if source.labels else _doubtful_labels(train.path, source, train.labels)),
        ]
        if source.dev_path is None:
            return Texts(table, labels, self.has_pairs, description, warnings=warnings)
        dev = _read(Path(source.dev_path), source)
        dev_table = _with_numbers(dev, source, labels, of=train.path)
        description |= {"dev": f"{source.dev_path}, {len(dev_table)} rows", "dev_sha256": sha256_of(dev.path)}
        warnings += _swallowed_rows(dev, source)
        return Texts(table, labels, self.has_pairs, description, dev_table, warnings=warnings)


@dataclass(frozen=True)
class _Rows:
    """The rows of a file. raw: all of its columns. texts: the columns text, [text_b]. labels: that of each row."""

    path: Path
    raw: pd.DataFrame
    texts: pd.DataFrame
    labels: list[str]


def _read(path: Path, source: FileSource) -> _Rows:
    """The texts and labels of a file. Raises `EatError` if a column is missing or empty, or a row has no label."""
    raw = read_rows(path, source)
    cells = {column: column_of(path, raw, column) for column in (*source.text, source.label)}
    texts = pd.DataFrame()
    for name, column in zip(("text", "text_b"), source.text, strict=False):
        texts[name] = strings(path, column, cells[column])
    if texts.map(is_empty).any(axis=1).all():
        raise EatError(f"{path}: every text is empty in {listed(source.text)}; name the columns that hold the text")
    labels = strings(path, source.label, cells[source.label])
    if blank := sum(map(is_empty, labels)):
        raise EatError(
            f"{path}: {blank} of {len(labels)} rows have no label in {source.label!r}; add labels or remove the rows"
        )
    return _Rows(path, raw, texts, labels)


def _with_numbers(rows: _Rows, source: FileSource, labels: Sequence[str], of: Path | None = None) -> pd.DataFrame:
    """The texts with the number of each label, as `Texts.table`.

    of: the file whose labels these are, if it is another one. Raises `EatError` if the rows have other labels.
    """
    forms = set(map(_label_form, labels))
    foreign = [
        # in ASCII if it looks like an allowed label
        f"{ascii(value) if _label_form(str(value)) in forms else repr(value)} ({count} rows)"
        for value, count in pd.Series(rows.labels).value_counts().items()
        if value not in labels
    ]
    if foreign:
        allowed, remedy = f"allowed: {listed(labels)}", "correct the file or `labels`"
        if of is not None and source.labels is None:
            allowed, remedy = f"allowed are the labels of {of}: {listed(labels)}", "correct one of the files"
        raise EatError(f"{rows.path}: column {source.label!r} holds {_first(foreign)}; {allowed}; {remedy}")
    numbers = {label: number for number, label in enumerate(labels)}
    return rows.texts.assign(label=[numbers[value] for value in rows.labels])


def _sorted_labels(found: Iterable[str]) -> list[str]:
    """Labels in alphabetical order; in numerical order if all are whole numbers (9 before 10)."""
    labels = sorted(found)
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else labels


def _first(names: Sequence[str], most: int = 5) -> str:
    return listed(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# --- possible mistakes --------------------------------------------------------------------------------------------

NO_VALUE = ("nan", "NaN", "NA", "N/A", "n/a", "<NA>", "#N/A", "null", "NULL", "None")
"""Words for missing values, which are ordinary text in a CSV file."""


def _doubtful_labels(path: Path, source: FileSource, found: Sequence[str]) -> Iterable[str]:
    """Warnings about labels that may not be separate classes."""
    counts = pd.Series(found).value_counts()
    alike = defaultdict(list)
    for value in sorted(counts.index):
        alike[_label_form(value)].append(f"{value!a} ({counts[value]} rows)")
    settle = "correct the file, or name the classes in `labels`, which refuses all others"
    groups = [" and ".join(values) for values in alike.values() if len(values) > 1]
    if groups:
        yield (
            f"{path}: labels in {source.label!r} that differ only in blanks, case or spelling count as "
            f"different classes: {_first(groups)}; {settle}"
        )
    absent = [f"{value!r} ({counts[value]} rows)" for value in NO_VALUE if value in counts.index]
    if absent:
        yield (
            f"{path}: labels in {source.label!r} that may mean a missing label count as classes: {_first(absent)}; "
            f"{settle}"
        )


def _label_form(label: str) -> str:
    """A normal form of labels that may mean the same: no blanks, invisible characters or case; numbers unified."""
    plain = unicodedata.normalize("NFKC", label).casefold()
    plain = "".join(character for character in plain if not is_empty(character))
    try:
        return repr(float(plain))
    except ValueError:
        return plain


def _swallowed_rows(rows: _Rows, source: FileSource) -> Iterable[str]:
    """A warning about rows within the text of another row, which a stray quotation mark can cause.

    An unclosed quotation mark at the start of a cell includes everything up to the next one, with delimiters and line
    breaks, and the result is a valid file with fewer rows. Such a row, written as text, has several lines with the
    header's number of cells and with a label in the label's column. An ordinary text of several lines has at most one
    such line.
    """
    path, raw, labels = rows.path, rows.raw, set(rows.labels)
    columns, place = len(raw.columns), place_of(raw, source.label)
    if place is None:  # within nested objects
        return
    delimiter = delimiter_of(path, source)
    texts = rows.texts.astype("string")
    broken = raw[texts.apply(lambda column: column.str.contains("\n")).any(axis=1).to_numpy()]

    def is_row(line: str) -> bool:
        cells = [cell.strip('\r"') for cell in line.split(delimiter)]
        # a text with commas has more cells, before or after the label
        return len(cells) >= columns and (cells[place] in labels or cells[place - columns] in labels)

    taken = 0
    for cells in broken.itertuples(index=False, name=None):
        whole = delimiter.join("" if pd.isna(cell) else str(cell) for cell in cells)
        lines = sum(map(is_row, whole.split("\n")))
        taken += lines if lines > 1 else 0
    if not taken:
        return
    read = f"{len(raw)} rows read"
    if path.suffix.lower() in (".csv", ".tsv"):
        with open(path, "rb") as file:
            read += f" from {sum(1 for _ in file)} lines"
    longest = int(texts.apply(lambda column: column.str.len()).to_numpy().max())
    yield (
        f"{path}: {taken} lines within texts look like rows, which a stray quotation mark can cause ({read}, longest "
        f"text {longest} characters); in a CSV file, double each quotation mark within quotes, or give a JSONL file"
    )
