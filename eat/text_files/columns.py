"""Which column is meant, and what a cell must be."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from eat.errors import EatError, listed

TEXT_COLUMN = "text"
"""The name of the only column of a plain text file, and the column that is taken if none is named."""


class Place(NamedTuple):
    """Where the values of a column are: the number of a column from 0, its name, and the keys within its values."""

    number: int
    name: str
    keys: tuple[str, ...] = ()


def locate(where: object, names: Sequence[str], column: str) -> Place | None:
    """The place of a column that is given by its name, its number from 1, or a dotted path such as `user.text`.

    A name comes before the other two. where: the file, for a message. `None` if it is none of them. Raises `EatError`
    if two columns have this name.
    """
    if (count := list(names).count(column)) > 1:
        raise EatError(f"{where}: {count} columns have the name {column!r}; give the number of one, from 1")
    if count:
        return Place(list(names).index(column), column)
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return Place(int(column) - 1, names[int(column) - 1])
    first, *inner = column.split(".")
    return Place(list(names).index(first), first, tuple(inner)) if inner and first in names else None


def chosen_columns(where: object, names: Sequence[str], given: Sequence[str]) -> list[str]:
    """The columns that were named; if none was, `text`, or the only column. Raises `EatError` if there are several."""
    if given:
        return list(given)
    if TEXT_COLUMN not in names and len(names) > 1:
        raise EatError(f"{where}: several columns ({listed(names)}); name one with --text")
    return [TEXT_COLUMN if TEXT_COLUMN in names else names[0]]


def require_columns(columns: Sequence[str]) -> None:
    """Raise `EatError` for more than two text columns, or one column twice."""
    if len(columns) > 2:
        raise EatError(f"--text: found {len(columns)} columns; give one, or the two of a pair")
    if len(set(columns)) < len(columns):
        raise EatError(f"--text: found {columns[0]!r} twice; give the two columns of a pair")


def no_column(where: object, names: Iterable[str], column: str, hint: str = "") -> EatError:
    """The error for a column that is not there. hint: what may help; it begins with a semicolon and a blank."""
    return EatError(f"{where}: no column {column!r}; there are: {listed(names)}{hint}")


def value_within(value: Any, keys: Sequence[str]) -> Any:
    """The value at a path of keys; `None` if there is none."""
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def text_of(where: object, column: str, value: Any) -> str:
    """A cell as a string; the empty string if it is missing (`None` or NaN).

    where: the file, and the row if it is known. Raises `EatError` if it is a list or an object.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | Iterable):
        inside = (
            f"; name a value within it: {column}.{next(iter(value))}" if isinstance(value, Mapping) and value else ""
        )
        raise EatError(f"{where}: column {column!r} holds {type(value).__name__}; give it text or plain values{inside}")
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


_UNSEEN = frozenset(("Cc", "Cf", "Co", "Mn", "Zl", "Zp", "Zs"))
"""Unicode categories that BERT's normaliser removes: control and format characters (zero-width ones, a byte
order mark), private use, marks without a letter, and every kind of blank."""


def is_empty(text: str) -> bool:
    """Whether a text has no character that becomes a token."""
    return all(unicodedata.category(character) in _UNSEEN or character == "\ufffd" for character in text)
