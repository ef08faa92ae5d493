"""The ablation (figure 3 of the paper): the computation of each variant, and its difference in accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from eat import rounding
from eat.errors import EatError, listed
from eat.figures import style
from eat.figures.canvas import Drawing, at_most, at_threshold, canvas, headline
from eat.figures.figure import Figure
from eat.figures.style import Spot
from eat.results.rows import Record, of_task

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TITLES = {
    "switched_off": "Switched off: parts of the trained system are disabled, nothing is retrained",
    "retrained": "Retrained: each variant is trained separately",
}
COLOURS = {"reference": "#000000", "full": "#E69F00", "variant": "#56B4E9"}


def plot_ablation(ablation: pd.DataFrame, task: str) -> Drawing:
    """Draw relative computation and the difference in accuracy side by side, with one row per variant of a task.

    ablation: summary_ablation_{task}.csv. Computation is the ratio of FLOPs to those of the reference. The difference
    in accuracy is also relative to the reference, in percentage points with its 95 % interval. Raises `EatError` if the
    table mixes kinds of ablation.
    """
    rows = of_task(ablation, task).iloc[::-1]
    kinds = list(dict.fromkeys(rows["ablation"]))
    if len(kinds) != 1 or kinds[0] not in TITLES:
        raise EatError(
            f"task {task!r}: the table has the ablations {listed(kinds)}; a figure shows one of: {listed(TITLES)}"
        )
    figure = canvas(style.FULL, 1.05 + 0.26 * len(rows))
    computed, accuracy = figure.subplots(1, 2, sharey=True)
    _draw_computation(computed, rows)
    _draw_accuracy(accuracy, rows)
    computed.set_yticks(range(len(rows)), [_name(row) for row in rows.to_dict("records")])
    headline(figure, _title(rows), f"{TITLES[kinds[0]]}.")
    return figure, list(_spots(computed, accuracy, rows))


FIGURE = Figure(
    "ablation", plot_ablation, reads=("ablation_summary",), place="ablation", takes=("task",), needs="ablation"
)


def _title(rows: pd.DataFrame) -> str:
    """For how many variants the intervals of the difference in accuracy are apart from that of the whole system."""
    full = rows[rows["role"] == "full"].iloc[0]
    variants = rows[rows["role"] == "variant"]
    apart = (variants["delta_low"] > full["delta_high"]) | (variants["delta_high"] < full["delta_low"])
    return (
        f"{rounding.count(int(apart.sum()))} of {rounding.count(len(variants))} variants have an accuracy interval "
        f"apart from that of {style.drawable(str(full['system']))}"
    )


def _spots(computed: Axes, accuracy: Axes, rows: pd.DataFrame) -> Iterator[Spot]:
    for place, row in enumerate(rows.to_dict("records")):
        name = at_threshold(str(row["system"]), row["tau"])
        part = f"{name}: {rounding.with_percent(row['compute'])} of the reference's FLOPs"
        yield Spot(computed, 0.0, place - 0.31, part, row["compute"], place + 0.31)
        within = rounding.interval(row["delta_low"], row["delta_high"], rounding.points)
        gained = f"{name}: {rounding.points(row['delta_accuracy'])} points {within}"
        yield Spot(accuracy, 100.0 * row["delta_accuracy"], place, gained)


def _name(row: Record) -> str:
    tau = row["tau"]
    return style.drawable(str(row["system"])) + ("" if math.isnan(tau) else f" (τ {tau:g})")


def _draw_computation(panel: Axes, rows: pd.DataFrame) -> None:
    colours = [COLOURS[role] for role in rows["role"]]
    panel.barh(np.arange(len(rows)), rows["compute"].to_numpy(float), color=colours, height=0.62)
    panel.axvline(1.0, color="#777777", linewidth=0.8, linestyle="--")
    panel.set_xlabel("FLOPs relative to the reference")
    panel.grid(visible=False, axis="y")


def _draw_accuracy(panel: Axes, rows: pd.DataFrame) -> None:
    for place, row in enumerate(rows.to_dict("records")):
        middle, low, high = (100.0 * float(row[key]) for key in ("delta_accuracy", "delta_low", "delta_high"))
        colour = COLOURS[str(row["role"])]
        panel.plot([low, high], [place, place], color=colour, linewidth=1.4)
        panel.plot([middle], [place], color=colour, marker="o", markersize=4.5)
    panel.axvline(0.0, color="#777777", linewidth=0.8, linestyle="--")
    panel.set_xlabel("Difference in accuracy from the reference (pp)")
    at_most(panel.xaxis, 7)
    panel.grid(visible=False, axis="y")
