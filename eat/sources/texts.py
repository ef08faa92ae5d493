"""What every source gives: labelled text as it stands there."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Texts:
    """Labelled text as its source has it: nothing dropped, nothing reordered.

    `table` has the columns `text` (str), `text_b` (str, only where `pair`) and `label` (int64, an index into `labels`).
    A missing text is the empty string. `description` says where the text is from: kind, name or path, sha256.
    """

    table: pd.DataFrame
    labels: list[str]
    pair: bool
    description: dict[str, str]
