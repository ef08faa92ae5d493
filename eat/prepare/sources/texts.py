"""The labelled text of a source, and a test for empty texts."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Texts:
    """The labelled text of a source, unfiltered and in its order.

    `table` has the columns `text` (str), `text_b` (str, only if `pair`) and `label` (int64, an index into `labels`).
    A missing text is the empty string. `description` is the origin of the text: kind, name or path, sha256.
    `dev` is the dev text, of the same columns, if the source has a separate one; `table` is then only for training.
    `phrases`: whether parts of a text in `table` are also texts in it. `left_out` counts rows without labelled text, by
    reason. `warnings` describe possible mistakes in the source.
    """

    table: pd.DataFrame
    labels: list[str]
    pair: bool
    description: dict[str, str]
    dev: pd.DataFrame | None = None
    phrases: bool = False
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


_UNSEEN = frozenset(("Cc", "Cf", "Co", "Mn", "Zl", "Zp", "Zs"))
"""Unicode categories that BERT's normaliser removes: control and format characters (zero-width ones, a byte
order mark), private use, marks without a letter, and every kind of blank."""


def is_empty(text: str) -> bool:
    """Whether a text has no character that becomes a token."""
    return all(unicodedata.category(character) in _UNSEEN or character == "\ufffd" for character in text)
