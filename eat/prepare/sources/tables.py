"""Reading a user's file of texts: CSV, TSV, Parquet, JSONL, or plain text with one text per line.

The `file` source of a study and the commands that take a file read it here. What a file looks like is given by options
(`eat.study.tasks.FileFormat`) and never guessed; a guess only helps a message.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from eat.errors import DamagedFile, EatError, listed
from eat.study.tasks import FileFormat

ORDINARY = FileFormat()
"""UTF-8, with commas (in .tsv files tabs), quotation marks and a header."""

TEXT_COLUMN = "text"
"""The name of the only column of a plain text file."""


def read_rows(path: Path, form: FileFormat = ORDINARY) -> pd.DataFrame:
    """Read all rows of a file: cells unchanged, missing cells as null.

    Raises `EatError` if there is no such file, or of a kind that is not read, `DamagedFile` if it is empty or cannot be
    parsed.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise EatError(f"{path}: ending {path.suffix!r} is not one of {listed(_READERS)}; convert the file")
    if not path.is_file():
        raise EatError(f"{path}: no such file; the path is relative to {Path.cwd()}")
    if path.stat().st_size == 0:
        raise DamagedFile(f"{path}: an empty file; give a file with text in it")
    try:
        rows = _READERS[suffix](path, form)
    except UnicodeDecodeError as error:
        raise DamagedFile(
            f"{path}: not {form.encoding.upper()} text ({error.reason} at byte {error.start}); save it as UTF-8, or "
            "give its encoding, such as latin-1"
        ) from None
    except LookupError:
        raise EatError(f"{path}: encoding {form.encoding!r} is unknown; give one such as utf-8, latin-1") from None
    except Exception as error:  # each parser raises its own exceptions with the same meaning
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFile(f"{path}: not a whole {suffix[1:].upper()} file ({reason}); correct the file") from None
    if rows.empty:
        raise DamagedFile(f"{path}: no rows; give a file with text in it")
    return rows


def column_of(path: Path, rows: pd.DataFrame, column: str) -> pd.Series[Any]:
    """A column by its name, its number from 1, or a dotted path into nested objects such as `user.text`.

    A name comes before the other two. Raises `EatError` that names the columns that there are.
    """
    place = place_of(rows, column)
    if place is not None:
        return rows.iloc[:, place]
    first, *inner = column.split(".")
    if inner and first in rows.columns:
        found = rows[first].map(lambda value: _within(value, inner))
        if found.notna().any():
            return found
    raise EatError(
        f"{path}: no column {column!r}; there are: {listed(map(str, rows.columns))}{_other_delimiter(path, rows)}"
    )


def delimiter_of(path: Path, form: FileFormat) -> str:
    """The separator of the cells of a delimited file."""
    return form.delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")


def place_of(rows: pd.DataFrame, column: str) -> int | None:
    """The place of a column that is given by its name or number; `None` if it is neither."""
    if column in rows.columns:
        return list(rows.columns).index(column)
    is_number = column.isdecimal() and 1 <= int(column) <= len(rows.columns)
    return int(column) - 1 if is_number else None


def strings(path: Path, column: str, values: pd.Series[Any]) -> list[str]:
    """The cells of a column as strings; the empty string if one is missing.

    Raises `EatError` if a cell is a list or an object.
    """
    found = []
    for value in values:
        if isinstance(value, (bytes, dict)) or pd.api.types.is_list_like(value):
            inside = (
                f"; name a value within it: {column}.{next(iter(value))}" if isinstance(value, dict) and value else ""
            )
            raise EatError(
                f"{path}: column {column!r} holds {type(value).__name__}; give it text or plain values{inside}"
            )
        found.append("" if pd.isna(value) else str(value))
    return found


def _within(value: Any, path: list[str]) -> Any:
    """The value at a path of keys; `None` if there is none."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def _read_delimited(path: Path, form: FileFormat) -> pd.DataFrame:
    with warnings.catch_warnings():
        # a row with more cells than the header would be truncated with only this warning
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # "NA" and "null" may be text or labels
        rows = pd.read_csv(
            path,
            sep=delimiter_of(path, form),
            dtype=str,
            keep_default_na=False,
            index_col=False,
            encoding=_encoding(form),
            header=None if form.header == "none" else "infer",
            quoting=csv.QUOTE_NONE if form.quote == "none" else csv.QUOTE_MINIMAL,
            quotechar='"' if form.quote == "none" else form.quote,
        )
    rows.columns = [str(number + 1) for number in range(len(rows.columns))] if form.header == "none" else rows.columns
    return rows


def _read_parquet(path: Path, form: FileFormat) -> pd.DataFrame:
    # nullable types, so that whole numbers in a column with a null do not become floats
    return pd.read_parquet(path, dtype_backend="numpy_nullable")


def _read_jsonl(path: Path, form: FileFormat) -> pd.DataFrame:
    rows = []
    with open(path, encoding=_encoding(form)) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:  # an escape such as \ud800 is valid JSON, but not text
                raise ValueError(f"line {number}: half of a surrogate pair") from None
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: {type(row).__name__}, not an object")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _read_lines(path: Path, form: FileFormat) -> pd.DataFrame:
    with open(path, encoding=_encoding(form)) as lines:
        return pd.DataFrame({TEXT_COLUMN: [line.rstrip("\r\n") for line in lines]})


def _encoding(form: FileFormat) -> str:
    """The encoding, without a byte order mark at the start of UTF-8."""
    return "utf-8-sig" if form.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else form.encoding


_READERS: Mapping[str, Callable[[Path, FileFormat], pd.DataFrame]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".txt": _read_lines,
}
"""Ending -> reader."""


def _other_delimiter(path: Path, rows: pd.DataFrame) -> str:
    """A hint if the only column's name looks like a header with another separator."""
    name = str(rows.columns[0])
    found = [delimiter for delimiter in (";", "\t", "|", ",") if delimiter in name]
    if len(rows.columns) != 1 or not found or path.suffix.lower() not in (".csv", ".tsv"):
        return ""
    used = "tabs" if path.suffix.lower() == ".tsv" else "commas"
    return f"; cells are separated by {used}, not {found[0]!r}: give the delimiter {found[0]!r}"
