"""The tables that `eat negation` prints, in Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eat.rounding import DASH, percent, points, with_interval
from eat.text_table import text_table

if TYPE_CHECKING:
    import pandas as pd


def layers_table(layers: pd.DataFrame) -> str:
    """How often the negation is lost by each removal, beside other tokens."""
    rows = [["system", "reducer", "edits", "after layer", "pairs", "negation lost, %", "other tokens lost, %"]]
    for row in layers.to_dict("records"):
        rows.append(
            [
                *(row["system"], row["reducer"], row["kind"], str(row["layer"]), str(row["n"])),
                *(_share(row, "lost"), percent(row["others_lost"])),
            ]
        )
    return text_table(rows)


def answers_table(answers: pd.DataFrame) -> str:
    """How often the answer changes with the edit."""
    head = ["system", "edits", "pairs", "changed, %", "against dense, points", "missed, %", "lost, %"]
    rows = [[*head, "changed if lost, %", "dense there, %", "changed if kept, %", "dense there, %"]]
    for row in answers.to_dict("records"):
        rows.append(
            [
                *(row["system"], row["kind"], str(row["n"]), _share(row, "changed")),
                *(_interval(row, "difference", points), _share(row, "missed")),
                *(_share(row, "lost"), _share(row, "changed_if_lost"), _share(row, "dense_if_lost")),
                *(_share(row, "changed_if_kept"), _share(row, "dense_if_kept")),
            ]
        )
    return text_table(rows)


def _share(row: dict[Any, Any], name: str) -> str:
    return _interval(row, name, percent)


def _interval(row: dict[Any, Any], name: str, rounder: Any) -> str:
    """A value with its interval; a dash if it was not measured."""
    value, low, high = (row[column] for column in (name, f"{name}_low", f"{name}_high"))
    return DASH if math.isnan(value) else with_interval(value, low, high, rounder)
