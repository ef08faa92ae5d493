"""The table that `eat shift` prints, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eat.rounding import DASH, calibration_error, depth, percent, ratio, risk, with_interval
from eat.text_table import text_table

if TYPE_CHECKING:
    import pandas as pd


def shift_table(table: pd.DataFrame) -> str:
    """A row for each system, domain and setting."""
    head = ["system", "domain", "setting", "texts", "accuracy, %", "ECE, %", "layers", "FLOPs ratio"]
    rows = [[*head, "disagrees with full depth, %", "promised, %", "promise"]]
    for row in table.to_dict("records"):
        promises = not math.isnan(row["epsilon"])
        promised = f"{risk(row['epsilon'])} ({row['risk']})" if promises else DASH
        rows.append(
            [
                *(row["system"], row["domain"], row["setting"], str(row["n"])),
                *(_interval(row, "accuracy", percent), calibration_error(row["ece"])),
                *(_interval(row, "avg_depth", depth), _interval(row, "flops_ratio", ratio)),
                *(_interval(row, "disagreement", percent), promised, row["promise"] if promises else DASH),
            ]
        )
    return text_table(rows)


def _interval(row: dict[Any, Any], name: str, rounder: Callable[[float], str]) -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], rounder)
