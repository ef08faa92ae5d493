"""The tables that `eat evade` prints, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eat.text_table import text_table


def speeds_table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """What each model does with the texts as they are."""
    rows = [["model", "accuracy, %", "layers per text", "ms per text", "time / first model"]]
    for name, row in measured.items():
        ratio = "1"
        if "against_first" in row:
            ratio = f"{row['against_first']:.2f} [{row['against_first_low']:.2f}, {row['against_first_high']:.2f}]"
        rows.append([name, f"{100 * row['accuracy']:.1f}", f"{row['depth']:.2f}", f"{row['ms']:.2f}", ratio])
    return text_table(rows)


def attacks_table(attacks: Sequence[Mapping[str, Any]]) -> str:
    """What each attack reached."""
    labels = list(attacks[0]["by_label"])
    rows = [
        [
            *("model", "goal", "edits by", "tried", "reached, %", *(f"{label}, %" for label in labels)),
            *("right at full depth", "queries", "edits", "layers"),
        ]
    ]
    for row in attacks:
        blamed = row.get("right_at_full_depth")
        rows.append(
            [
                *(row["model"], row["goal"], row["kind"], str(row["tried"]), share(row)),
                *(share(row["by_label"][label]) for label in labels),
                "" if blamed is None else f"{blamed['reached']} of {blamed['tried']}",
                _number(row["queries"], 0),
                _number(row["edits"], 1),
                f"{_number(row['layers_before'], 2)} to {_number(row['layers_after'], 2)}",
            ]
        )
    return text_table(rows)


def share(row: Mapping[str, Any]) -> str:
    """A share in per cent with its interval."""
    if row["rate"] is None:
        return "-"
    return f"{100 * row['rate']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
