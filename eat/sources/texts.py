"""What every source gives: labelled text as it stands there."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Texts:
    """Labelled text as its source has it: nothing dropped, nothing reordered.

    `table` has the columns `text` (str), `text_b` (str, only where `pair`) and `label` (int64, an index into `labels`).
    A missing text is the empty string. `description` says where the text is from: kind, name or path, sha256.
    `dev` is the dev text, of the same columns, where the source has one apart; `table` is then for training alone.
    `phrases`: whether parts of a text of `table` stand there too, as texts of their own. `left_out` counts rows that
    are no labelled text, by reason.
    """

    table: pd.DataFrame
    labels: list[str]
    pair: bool
    description: dict[str, str]
    dev: pd.DataFrame | None = None
    phrases: bool = False
    left_out: dict[str, int] = field(default_factory=dict)
