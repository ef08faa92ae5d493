"""A user's own text: a CSV, Parquet or JSONL file, read as it is; its sha256 is noted in the task's card."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from eat.config import FileSource
from eat.errors import DamagedFile, EatError, listed
from eat.files import sha256_of
from eat.sources.texts import Texts


def read_file(source: FileSource) -> Texts:
    """The labelled text of a user's file. Raises as `eat.sources.read_source` does."""
    path = Path(source.path)
    columns = [*source.text, source.label]
    if len(set(columns)) != len(columns):
        raise EatError(f"{path}: columns {listed(columns)} name one twice; give each text and the label its own")
    raw = _parsed(path)
    missing = [column for column in columns if column not in raw.columns]
    if missing:
        raise EatError(f"{path}: no column {listed(map(repr, missing))}; there are: {listed(raw.columns)}")
    if raw.empty:
        raise DamagedFile(f"{path}: no rows; give a file with text in it")

    table = pd.DataFrame()
    for name, column in zip(("text", "text_b"), source.text, strict=False):
        table[name] = _strings(path, column, raw[column])
    if table.map(lambda text: not text.strip()).any(axis=1).all():
        raise EatError(f"{path}: every text is empty in {listed(source.text)}; name the columns that hold the text")
    table["label"], labels = _label_numbers(path, source, _strings(path, source.label, raw[source.label]))
    description = {"kind": "file", "path": source.path, "sha256": sha256_of(path)}
    return Texts(table, labels, pair=len(source.text) == 2, description=description)


def _parsed(path: Path) -> pd.DataFrame:
    """The table in a file, by its ending: every cell as the file has it, missing cells as null."""
    readers = {".csv": _parsed_csv, ".parquet": _parsed_parquet, ".jsonl": _parsed_jsonl}
    if path.suffix.lower() not in readers:
        raise EatError(f"{path}: ending {path.suffix!r} is not one of {listed(readers)}; convert the file")
    if not path.is_file():
        raise EatError(f"{path}: no such file; the path is relative to {Path.cwd()}")
    if path.stat().st_size == 0:
        raise DamagedFile(f"{path}: an empty file; give a file with text in it")
    try:
        return readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except Exception as error:  # each parser has exceptions of its own; to the reader they mean the same
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFile(f"{path}: not a whole {path.suffix[1:].upper()} file ({reason}); mend it") from None


def _parsed_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        # a row with more cells than the header would be cut with no more than this warning
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # "NA" and "null" are words that text and labels may hold
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")


def _parsed_parquet(path: Path) -> pd.DataFrame:
    # nullable types, so that whole numbers beside a null are not turned into 1.0
    return pd.read_parquet(path, dtype_backend="numpy_nullable")


def _parsed_jsonl(path: Path) -> pd.DataFrame:
    rows = []
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:  # an escape such as \ud800 is good JSON, but no text
                raise ValueError(f"line {number}: half of a surrogate pair") from None
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: {type(row).__name__}, not an object")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _strings(path: Path, column: str, values: pd.Series[Any]) -> list[str]:
    """The cells of a column as strings; the empty string where one is missing."""
    strings = []
    for value in values:
        if isinstance(value, (bytes, dict)) or pd.api.types.is_list_like(value):
            raise EatError(f"{path}: column {column!r} holds {type(value).__name__}; give it text or plain values")
        strings.append("" if pd.isna(value) else str(value))
    return strings


def _label_numbers(path: Path, source: FileSource, found: Sequence[str]) -> tuple[list[int], list[str]]:
    """Each row's label as a number, and the labels in order."""
    counts = pd.Series(found).value_counts()
    if blank := sum(count for value, count in counts.items() if not str(value).strip()):
        raise EatError(f"{path}: {blank} of {len(found)} rows lack a label in {source.label!r}; fill or remove them")
    if len(counts) == 1:
        raise EatError(f"{path}: the only label in {source.label!r} is {found[0]!r}; a task needs at least two")
    labels = source.labels or _sorted_labels(counts.index)
    foreign = [f"{value!r} ({count} rows)" for value, count in counts.items() if value not in labels]
    if foreign:
        raise EatError(
            f"{path}: column {source.label!r} holds {_first(foreign)}; allowed: {listed(labels)}; "
            "correct the file or `labels`"
        )
    numbers = {label: number for number, label in enumerate(labels)}
    return [numbers[value] for value in found], list(labels)


def _sorted_labels(found: Iterable[str]) -> list[str]:
    """Labels in alphabetical order; in numerical order where all are whole numbers (9 before 10)."""
    labels = sorted(found)
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else labels


def _first(names: Sequence[str], most: int = 5) -> str:
    return listed(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
