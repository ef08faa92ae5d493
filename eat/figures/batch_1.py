"""Accuracy against latency at batch size 1, with the dense rivals of all engines: the figure of the first screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eat import rounding
from eat.errors import EatError
from eat.figures import labels, style
from eat.figures.canvas import Drawing, at_threshold, canvas, headline, percent_axis, ratio_axis
from eat.figures.figure import Figure
from eat.figures.labels import Label
from eat.figures.style import Look, Spot
from eat.results.picks import LOSS_BOUND, Baseline, Picks, chosen_at_1, pareto_front, picks_of
from eat.results.rows import Record, rows_of, without_repeats
from eat.study.stock import SAME_MODEL, STOCK

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDTH, HEIGHT = 5.2, 4.0
"""In inches: narrow, so that the labels are readable on a telephone."""

LABELS = 7.5
"""Size of the labels in points."""

FAR = 0.04
"""A point further below the chosen ones than this is not drawn; the figure of all thresholds shows it."""


def plot_batch_1(summary: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw each system at its chosen threshold, with its name; its other thresholds are small and faint.

    The band is at most one point below the reference. The grey step is the Pareto front of the chosen points. Only
    the picked systems have bars: horizontal the interval of the paired ratio to the baseline, vertical that of the
    difference from the reference. summary: summary.csv. Raises `EatError` if nothing was timed at batch 1.
    """
    rows = rows_of(summary, task)
    looks = style.looks(rows, reference)
    picks = picks_of(rows, reference)
    alone = without_repeats(rows[rows["batch_size"] == 1])
    alone = alone[alone["accuracy"].notna() & alone["latency_ms_p50"].notna()]
    alone = alone[~alone["system"].isin(set(SAME_MODEL) - {STOCK})]
    if alone.empty:
        raise EatError(f"task {task!r}: no row of batch size 1 with a time for the frontier")
    chosen = chosen_at_1(alone)
    figure = canvas(WIDTH, HEIGHT)
    axes = figure.subplots()
    middle = float(rows.loc[rows["system"] == reference, "accuracy"].iloc[0])
    axes.axhspan(middle - LOSS_BOUND, middle, color="#EFEFEF", zorder=0)
    front = pareto_front(chosen["latency_ms_p50"].to_numpy(float), chosen["accuracy"].to_numpy(float))
    edge = chosen.iloc[front].sort_values("latency_ms_p50")
    axes.plot(
        edge["latency_ms_p50"], edge["accuracy"], color="#D2D2D2", linewidth=2.2, drawstyle="steps-post", zorder=1
    )
    for name, own in alone[alone["tau"].notna()].sort_values("tau").groupby("system", sort=False):
        look = looks[str(name)]
        axes.plot(
            own["latency_ms_p50"], own["accuracy"], color=look.colour, marker=look.marker, markersize=2.6,
            linewidth=0.6, alpha=0.35, markerfacecolor="white", zorder=2,
        )  # fmt: skip
    large = {*picks.systems, picks.baseline.system}
    for row in chosen.to_dict("records"):
        look = looks[str(row["system"])]
        axes.plot(
            row["latency_ms_p50"], row["accuracy"], linestyle="", marker=look.marker, color=look.colour,
            markersize=8.5 if row["system"] in large else 6.0, markeredgecolor="white", markeredgewidth=0.5,
            zorder=5,
        )  # fmt: skip
        if row["system"] in picks.systems:
            _draw_bars(axes, row, picks.baseline, middle, look)
    ratio_axis(axes)
    percent_axis(axes.yaxis)
    low, high = float(chosen["accuracy"].min()), float(max(chosen["accuracy"].max(), alone["accuracy"].max()))
    high = max([high, *(middle + float(row["delta_high"]) for row in (picks.no_loss, picks.within) if row is not None)])
    low = max(min(low, middle - LOSS_BOUND), high - 3 * FAR)
    room = 0.1 * (high - low)
    axes.set_ylim(low - 2 * room, high + 2 * room)
    axes.margins(x=0.12)
    axes.set(xlabel="Latency, median (ms, batch 1)", ylabel="Accuracy (%)")
    headline(figure, title(picks, reference))
    figure.draw_without_rendering()
    _label(figure, axes, chosen, picks, looks, reference, middle)
    return figure, [_spot(axes, row, picks.baseline) for row in alone.to_dict("records") if row["accuracy"] >= low]


FIGURE = Figure("batch_1", plot_batch_1, reads=("summary",), place="first")


def title(picks: Picks, reference: str) -> str:
    """What the figure shows, in a line or two."""
    baseline = picks.baseline
    for row, how in ((picks.no_loss, "a loss of more than one point is excluded"), (picks.within, "measured")):
        if row is not None and baseline.verdict(row) == "faster":
            points = f"{rounding.points(row['delta_accuracy'])} points from {style.drawable(reference)}"
            return (
                f"{style.drawable(str(row['system']))}: {rounding.x_times(baseline.ratio(row)[0])} the speed of "
                f"{baseline.system}, {points} ({how})"
            )
    return f"No system within one point of accuracy is shown to be faster than {baseline.system}"


def _draw_bars(axes: Axes, row: Record, baseline: Baseline, middle: float, look: Look) -> None:
    ratio, low, high = baseline.ratio(row)
    x, y = float(row["latency_ms_p50"]), float(row["accuracy"])
    # ends tell a vertical bar from the step of the front
    bar: dict[str, Any] = {"color": look.colour, "linewidth": 1.0, "alpha": 0.7, "markersize": 5, "zorder": 3}
    axes.plot([x * ratio / high, x * ratio / low], [y, y], marker="|", **bar)
    axes.plot([x, x], [middle + float(row["delta_low"]), middle + float(row["delta_high"])], marker="_", **bar)


def _label(
    figure: Canvas,
    axes: Axes,
    chosen: pd.DataFrame,
    picks: Picks,
    looks: dict[str, Look],
    reference: str,
    middle: float,
) -> None:
    """The name of each system beside its chosen point: first the picked ones, then the rivals."""
    taken = labels.around(axes, chosen[["latency_ms_p50", "accuracy"]].to_numpy(float), 4.0)
    left = axes.get_xlim()[0]
    note = axes.annotate(
        f"at most one point below {style.drawable(reference)}", (left, middle - LOSS_BOUND), (3, 2),
        textcoords="offset points", fontsize=style.SMALL, color="#6A6A6A", va="bottom",
    )  # fmt: skip
    taken.append(note.get_window_extent())
    names = [*picks.systems, picks.baseline.system, reference, STOCK, *chosen["system"]]
    rows = {str(row["system"]): row for row in chosen.to_dict("records")}
    made = [
        Label(
            float(rows[name]["latency_ms_p50"]), float(rows[name]["accuracy"]), looks[name].label,
            style.darker(looks[name].colour), "bold" if name in picks.systems else "normal",
        )
        for name in dict.fromkeys(str(name) for name in names)
        if name in rows
    ]  # fmt: skip
    labels.place(figure, axes, made, taken, LABELS, far=True)


def _spot(axes: Axes, row: Record, baseline: Baseline) -> Spot:
    ratio, low, high = baseline.ratio(row)
    difference = ""
    if not np.isnan(row["delta_low"]):
        within = rounding.interval(row["delta_low"], row["delta_high"], rounding.points)
        difference = f" ({rounding.points(row['delta_accuracy'])} points {within})"
    speed = ""
    if not np.isnan(ratio):
        within = rounding.interval(low, high, rounding.speedup)
        speed = f", {rounding.x_times(ratio)} {within} of {baseline.system}"
    text = (
        f"{at_threshold(row['system'], row['tau'])}: {rounding.with_percent(row['accuracy'])}{difference}, "
        f"{rounding.milliseconds(row['latency_ms_p50'])} ms{speed}"
    )
    return Spot(axes, row["latency_ms_p50"], row["accuracy"], text)
