"""The labelled texts of a file, without pandas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eat.errors import EatError, listed
from eat.text_files.columns import TEXT_COLUMN, is_empty, locate, no_column, text_of, value_within
from eat.text_files.form import Form, kind_of
from eat.text_files.reading import Reading, require_file


@dataclass(frozen=True)
class LabelledText:
    """A text of a file. row: its number from 1, without the header."""

    row: int
    text: str
    label: str


def read_labelled(path: Path, column: str | None, label: str, labels: Sequence[str], form: Form) -> list[LabelledText]:
    """The texts of a file of the given labels, without empty ones.

    column, label: the names of columns, their numbers from 1, or dotted paths; column by default `text`. A label is a
    name of `labels` or, as in the splits of a study, the number of one. Raises `EatError` if a column is missing or a
    label is another.
    """
    require_file(path)
    found = []
    for row, (text, given) in enumerate(_rows(path, column or TEXT_COLUMN, label, form), start=1):
        name = given if given in labels else labels[int(given)] if _is_number(given, labels) else None
        if name is None:
            raise EatError(f"{path}, row {row}: the label {given!r} is none of the model's: {listed(labels)}")
        if not is_empty(text):
            found.append(LabelledText(row, text, name))
    if not found:
        raise EatError(f"{path}: holds no text; give a file with texts in it")
    return found


def _is_number(given: str, labels: Sequence[str]) -> bool:
    return given.isdecimal() and int(given) < len(labels)


def _rows(path: Path, column: str, label: str, form: Form) -> Iterator[tuple[str, str]]:
    """The cells of the two columns as strings."""
    kind = kind_of(path)
    if kind == "parquet":
        names, rows = _parquet(path)
    else:
        with Reading(path, kind, form) as reading:
            names = reading.names
            rows = [row.cells for row in reading]
    places = []
    for wanted in (column, label):
        place = locate(path, names, wanted)
        if place is None:
            raise no_column(path, names, wanted)
        places.append(place)
    for row in rows:
        values = [row.get(place.name) if isinstance(row, dict) else row[place.number] for place in places]
        text, own = (
            text_of(path, name, value_within(value, place.keys))
            for name, value, place in zip((column, label), values, places, strict=True)
        )
        yield text, own


def _parquet(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise EatError(f"{path}: a Parquet file needs pyarrow: pip install pyarrow, or give a CSV file") from None
    table = parquet.read_table(path)
    return list(table.column_names), table.to_pylist()
