"""Tokens alive after each layer, as scheduled and as observed (figure 2 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from eat import rounding
from eat.figures import style
from eat.figures.canvas import Drawing, at_most, canvas, headline, note, percent_axis, wrapped
from eat.figures.figure import Figure
from eat.figures.style import Look, Spot
from eat.results.rows import chosen_thresholds, in_precision_of, of_task, rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_retention(summary: pd.DataFrame, retention: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw the share of tokens alive after each layer, as scheduled and as observed.

    summary: summary.csv. retention: curves/retention.csv. There is a panel for each system in the reference's precision
    that removes tokens. A reducer that learns how many to remove has no schedule. Filled markers: all examples, run to
    full depth. Open markers: at the chosen threshold, over the examples that still run at that layer.
    """
    rows = rows_of(summary, task)
    curves = of_task(retention, task)
    looks = style.looks(rows, reference)
    removing = set(curves.loc[(curves["scheduled"] < 1) | (curves["observed"] < 1), "system"])
    shown = [name for name in looks if name in removing & in_precision_of(rows, reference)]
    chosen = chosen_thresholds(rows)
    if not shown:
        return note("No system of this study removes tokens.", 2.3)
    columns = min(4 if len(shown) > 6 else 3, len(shown))
    width = style.WIDE_COLUMN if columns == 1 else style.FULL
    lines = -(-len(shown) // columns)
    figure = canvas(width, 0.7 + 1.75 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    spots: list[Spot] = []
    for panel, name in zip(panels, shown, strict=False):
        own = curves[curves["system"] == name]
        _draw(panel, own, chosen.get(name), looks[name])
        panel.set_title(wrapped(looks[name].label, 22 if columns > 3 else 30))
        spots += _spots(panel, own[own["over"] == "all"], name)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for panel in panels[max(len(shown) - columns, 0) : len(shown)]:  # the lowest of each column
        panel.tick_params(labelbottom=True)
    figure.supxlabel("Layer", fontsize=8)
    figure.supylabel("Tokens alive (%)", fontsize=8)
    last = curves[curves["system"].isin(shown) & (curves["over"] == "all")].sort_values("layer")
    left = rounding.span(last.groupby("system")["observed"].last().tolist(), rounding.percent, " %")
    key = "Dashed: scheduled. Filled: all texts. Open: texts still running at the chosen threshold."
    headline(figure, f"Texts that run to full depth keep {left} of their tokens", key)
    return figure, spots


FIGURE = Figure("retention", plot_retention, reads=("summary", "curve:retention"), place="adaptive")


def _spots(panel: Axes, everyone: pd.DataFrame, system: str) -> Iterator[Spot]:
    for row in everyone.to_dict("records"):
        text = (
            f"{system}, after layer {rounding.count(row['layer'])}: {rounding.with_percent(row['observed'])} alive of "
            f"{rounding.count(row['n'])} texts at full depth"
        )
        if not math.isnan(row["scheduled"]):  # a learned reducer has no schedule
            text += f"; scheduled {rounding.with_percent(row['scheduled'])}"
        yield Spot(panel, row["layer"], row["observed"], text)


def _draw(panel: Axes, own: pd.DataFrame, tau: float | None, look: Look) -> None:
    everyone, still = (own[own["over"] == over].sort_values("layer") for over in ("all", "running"))
    layers = [0, *everyone["layer"].astype(int)]
    if everyone["scheduled"].notna().all():
        panel.step(layers, [1.0, *everyone["scheduled"]], where="post", color="#777777", linestyle="--", linewidth=1.0)
    panel.plot(layers, [1.0, *everyone["observed"]], color=look.colour, marker=look.marker, markersize=3.8)
    running = still[(still["tau"].isna() if tau is None else np.isclose(still["tau"], tau)) & (still["n"] > 0)]
    if not running.empty:
        panel.plot(
            running["layer"], running["observed"], color=look.colour, marker=look.marker, markerfacecolor="white",
            markersize=3.8, linestyle=":",
        )  # fmt: skip
    at_most(panel.xaxis, 7, whole=True)
    percent_axis(panel.yaxis)
    panel.set_ylim(0, 1.05)
