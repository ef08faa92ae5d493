"""What every source gives: labelled text as it stands there; and when a text says nothing."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Texts:
    """Labelled text as its source has it: nothing dropped, nothing reordered.

    `table` has the columns `text` (str), `text_b` (str, only if `pair`) and `label` (int64, an index into `labels`).
    A missing text is the empty string. `description` says where the text is from: kind, name or path, sha256.
    `dev` is the dev text, of the same columns, if the source has one apart; `table` is then for training alone.
    `phrases`: whether parts of a text of `table` stand there too, as texts of their own. `left_out` counts rows that
    are no labelled text, by reason. `warnings` are lines on what may be a mistake in the source.
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
"""Unicode categories of which BERT's normaliser leaves nothing: control and format characters (zero-width ones, a byte
order mark), private use, marks without a letter, and every kind of blank."""


def is_empty(text: str) -> bool:
    """Whether a text has no character that a tokenizer would make a token of."""
    return all(unicodedata.category(character) in _UNSEEN or character == "\ufffd" for character in text)
