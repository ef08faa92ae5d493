"""A user's file of texts as a table in memory: CSV, TSV, Parquet, JSONL, or plain text with one text per line.

The `file` source of a study and `eat adapt` read it here. `eat.text_files` parses it and holds the rules; it also reads
files larger than memory, for `eat predict`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from eat.text_files import columns, form, guesses
from eat.text_files.form import ORDINARY, Form, kind_of
from eat.text_files.reading import Reading, no_rows, not_whole, require_file


def read_rows(path: Path, form: Form = ORDINARY) -> pd.DataFrame:
    """Read all rows of a file: cells unchanged, missing cells as null.

    Raises `EatError` if there is no such file, or of a kind that is not read, `DamagedFile` if it is empty or cannot be
    parsed.
    """
    kind = kind_of(path)
    require_file(path)
    rows = _read_parquet(path) if kind == "parquet" else _read_text(path, kind, form)
    if rows.empty:
        raise no_rows(path)
    return rows


def column_of(path: Path, rows: pd.DataFrame, column: str) -> pd.Series[Any]:
    """A column by its name, its number from 1, or a dotted path into nested objects such as `user.text`.

    A name comes before the other two. Raises `EatError` that names the columns that there are.
    """
    names = [str(name) for name in rows.columns]
    place = columns.locate(path, names, column)
    if place is not None:
        found = rows.iloc[:, place.number]
        if not place.keys:
            return found
        found = found.map(lambda value: columns.value_within(value, place.keys))
        if found.notna().any():
            return found
    raise columns.no_column(path, names, column, _other_delimiter(path, names))


def delimiter_of(path: Path, source: Form) -> str:
    """The separator of the cells of a delimited file."""
    return form.delimiter_of(kind_of(path), source)


def place_of(rows: pd.DataFrame, column: str) -> int | None:
    """The place of a column that is given by its name or number; `None` if it is neither."""
    place = columns.locate("the file", [str(name) for name in rows.columns], column)
    return None if place is None or place.keys else place.number


def strings(path: Path, column: str, values: pd.Series[Any]) -> list[str]:
    """The cells of a column as strings; the empty string if one is missing.

    Raises `EatError` if a cell is a list or an object.
    """
    missing = values.isna()
    return [
        "" if is_missing else columns.text_of(path, column, value)
        for value, is_missing in zip(values, missing, strict=True)
    ]


def _read_text(path: Path, kind: str, form: Form) -> pd.DataFrame:
    with Reading(path, kind, form, may_be_short=True) as reading:
        rows = [row.cells for row in reading]
        if kind == "jsonl":
            return pd.DataFrame(rows, dtype=object)
        width = len(reading.names)
        whole = [[*cells, *[None] * (width - len(cells))] for cells in rows]
        return pd.DataFrame(whole, columns=reading.names, dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        # nullable types, so that whole numbers in a column with a null do not become floats
        return pd.read_parquet(path, dtype_backend="numpy_nullable")
    except Exception as error:  # the library raises its own exceptions with the same meaning
        raise not_whole(path, "parquet", error) from None


def _other_delimiter(path: Path, names: list[str]) -> str:
    """A hint if the only column's name looks like a header with another separator."""
    kind = kind_of(path)
    if kind not in form.DELIMITED:
        return ""
    return guesses.delimiter_hint(names, "", form.delimiter_of(kind, ORDINARY))
