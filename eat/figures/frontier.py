"""Accuracy against latency, throughput and FLOPs (figure 4 of the paper), with thresholds and front."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eat import rounding
from eat.errors import EatError, listed
from eat.figures import labels, style
from eat.figures.canvas import Drawing, at_threshold, canvas, headline, percent_axis, ratio_axis
from eat.figures.figure import Figure
from eat.figures.labels import Label
from eat.figures.style import Look, Spot
from eat.results.picks import pareto_front
from eat.results.rows import Record, in_setting_of, is_true, rows_of, without_repeats
from eat.study.stock import STOCK

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd
    from matplotlib.axes import Axes

MANY = 12
"""With more systems than this, only chosen points have bars, and only chosen and outermost points have labels."""

FAR = 0.12
"""A point this far below the most accurate one is drawn at the lower edge, so that the others keep enough space."""

KEY = 6.5
"""Size in points of the names beside the panels."""

TICKS = 6
"""How many numbers fit below a panel that is a third of the page wide."""


@dataclass(frozen=True)
class _Axis:
    """The horizontal axis of a panel, and which of its ends is better."""

    column: str
    title: str
    low_is_good: bool
    is_timed: bool = True


@dataclass(frozen=True)
class _Panel:
    """A panel: its axes, the operating points that it shows, and its horizontal axis."""

    axes: Axes
    points: pd.DataFrame
    axis: _Axis


def plot_frontier(summary: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw accuracy against latency at batch size 1, throughput at the largest batch size, and FLOPs per text.

    The panel of throughput is drawn only if a batch size above 1 was timed. All panels share the axis of accuracy, so
    that a point has the same height in all of them and a disagreement between measured time and FLOPs is visible. The
    upper panels show systems in the reference's engine and precision, the lower panels all others. Bars are the 95 %
    intervals of the paired speed-ups, relative to the point; those of the accuracy would hide the points, and are in
    the values under the pointer. Points of a system
    are joined in the order of their thresholds, which are printed beside them if there is room. The names stand beside
    the panels, at the height of the chosen points as far as there is room. Filled points were
    chosen on the calibration split. The grey step is the Pareto front over all systems. Points far below (`FAR`) are
    drawn at the lower edge, with their accuracy and an arrow. summary: summary.csv.

    Raises `EatError` if there are no rows at batch size 1.
    """
    rows = rows_of(summary, task)
    looks = style.looks(rows, reference)
    drawn = rows["accuracy"].notna() & rows["latency_ms_p50"].notna()  # not: latency only, or not timed
    rows = without_repeats(rows[drawn])
    low, high = _range_of_accuracy(rows)
    rows = rows.assign(height=rows["accuracy"].clip(lower=low), below=rows["accuracy"] < low)
    columns = _columns(rows, task)
    plain = in_setting_of(rows, reference)
    lines = [rows["system"].isin(plain), ~rows["system"].isin(plain)]
    lines = [line for line in lines if line.any()]
    is_many = rows["system"].nunique() > MANY
    heights = [_height(rows.loc[line, "system"].nunique()) for line in lines]
    figure = canvas(style.FULL, 0.5 + sum(heights))
    names = max(len(looks[str(name)].label) for name in rows["system"].unique())
    width_of_names = min(0.35 + names * KEY * 0.62 / 72, 2.2)
    panel_width = (style.FULL - width_of_names) / len(columns)
    grid = figure.subplots(
        len(lines), len(columns) + 1, sharex="col", sharey="row", squeeze=False, height_ratios=heights,
        width_ratios=[*[panel_width] * len(columns), width_of_names],
    )  # fmt: skip
    panels = []
    for line, places in zip(lines, grid, strict=True):
        for axes, (points, axis) in zip(places, columns, strict=False):
            panel = _Panel(axes, points[line.loc[points.index]], axis)
            _draw_front(panel, points)
            _draw_points(panel, looks, all_bars=not is_many)
            panels.append(panel)
        if len(lines) == 2:
            is_plain = set(rows.loc[line, "system"]) <= plain
            places[0].set_title(
                f"In {listed(sorted(set(rows.loc[line, 'dtype'])))}" if is_plain else "Other engines and precisions",
                loc="left",
            )
        places[0].set_ylabel("Accuracy (%)")
    for axes, (_, axis) in zip(grid[-1], columns, strict=False):
        axes.set_xlabel(axis.title)
    room = 0.06 * (high - low)
    for line, places, height in zip(lines, grid, heights, strict=True):
        places[0].set_ylim(low - room, high + room)
        _draw_names(places[-1], rows[line], looks, height)
    headline(figure, _title(rows))
    _label_thresholds(figure, panels, looks, all_thresholds=not is_many)
    return figure, [spot for panel in panels for spot in _spots(panel, reference)]


FIGURE = Figure("frontier", plot_frontier, reads=("summary",), place="frontier")


def _title(rows: pd.DataFrame) -> str:
    """How many systems no other one dominates by time, and by FLOPs."""
    alone = rows[(rows["batch_size"] == 1) & is_true(rows["chosen"])]
    fronts = []
    for column in ("latency_ms_p50", "gflops"):
        known = alone[alone[column].notna()]
        best = pareto_front(known[column].to_numpy(float), known["accuracy"].to_numpy(float))
        fronts.append(set(known["system"].iloc[best]))
    both = fronts[0] & fronts[1]
    return (
        f"On the front of the chosen points: {rounding.count(len(fronts[0]))} by latency, "
        f"{rounding.count(len(fronts[1]))} by FLOPs, {rounding.count(len(both))} by both"
    )


def _draw_names(axes: Axes, rows: pd.DataFrame, looks: dict[str, Look], inches: float) -> None:
    """The markers and names of a line of panels, at the heights of their chosen points as far as there is room.

    inches: the height of the panels.
    """
    axes.set_axis_off()
    chosen = rows[is_true(rows["chosen"]) & (rows["batch_size"] == rows["batch_size"].min())]
    chosen = chosen.drop_duplicates("system").sort_values("height", ascending=False, kind="stable")
    low, high = axes.get_ylim()
    wanted = (chosen["height"].to_numpy(float) - low) / (high - low)
    step = min((KEY + 3.0) / 72 / (0.85 * inches), 1.0 / max(len(wanted), 1))
    for system, up in zip(chosen["system"], labels.spread(list(wanted), step), strict=True):
        look = looks[str(system)]
        axes.plot(
            0.04, up, transform=axes.transAxes, marker=look.marker, color=look.colour, linestyle="", markersize=4.5,
            clip_on=False,
        )  # fmt: skip
        axes.text(
            0.12, up, look.label, transform=axes.transAxes, va="center", fontsize=KEY, color=style.darker(look.colour)
        )


def _height(systems: int) -> float:
    """The height in inches of a panel with this many systems: room for their thresholds, and two panels per page."""
    return min(1.5 + 0.17 * systems, 4.0)


def _columns(rows: pd.DataFrame, task: str) -> list[tuple[pd.DataFrame, _Axis]]:
    """Rows and axis of each column: latency at batch size 1, throughput at the largest above 1, FLOPs per text."""
    batches = sorted(int(size) for size in rows["batch_size"].unique())
    if 1 not in batches:
        raise EatError(f"task {task!r}: no row of batch size 1 for the frontier; found {listed(batches)}")
    alone = rows[rows["batch_size"] == 1]
    columns = [(alone, _Axis("latency_ms_p50", "Latency (ms, batch 1)", True))]
    if batches[-1] > 1:
        title = f"Throughput (texts/s, batch {batches[-1]})"
        columns.append((rows[rows["batch_size"] == batches[-1]], _Axis("examples_per_s", title, False)))
    # a text has the same FLOPs at every batch size
    columns.append((alone[alone["gflops"].notna()], _Axis("gflops", "GFLOPs per text", True, is_timed=False)))
    return columns


def _range_of_accuracy(rows: pd.DataFrame) -> tuple[float, float]:
    """The lowest and the highest point. Points more than `FAR` below the highest are left out."""
    near = rows[rows["accuracy"] >= rows["accuracy"].max() - FAR]
    return float(near["accuracy"].min()), float(near["accuracy"].max())


def _draw_front(panel: _Panel, points: pd.DataFrame) -> None:
    """The Pareto front of all `points`, whichever of them this panel shows."""
    column, low_is_good = panel.axis.column, panel.axis.low_is_good
    front = pareto_front(points[column].to_numpy(float), points["accuracy"].to_numpy(float), low_is_good)
    edge = points.iloc[front].sort_values(column)
    steps = "steps-post" if low_is_good else "steps-pre"
    panel.axes.plot(edge[column], edge["accuracy"], color="#C4C4C4", linewidth=2.2, drawstyle=steps, zorder=1)


def _draw_points(panel: _Panel, looks: dict[str, Look], all_bars: bool) -> None:
    axes, axis = panel.axes, panel.axis
    for name, own in panel.points.sort_values("tau").groupby("system", sort=False):
        look = looks[str(name)]
        x, y = own[axis.column].to_numpy(float), own["height"].to_numpy(float)
        across = _relative_bars(own, x, axis.low_is_good) if axis.is_timed else np.zeros((2, len(own)))
        joined = own["tau"].notna().to_numpy()  # a point with a threshold for each exit is in no order
        axes.plot(x[joined], y[joined], color=look.colour, linewidth=0.9, zorder=3)
        chosen = is_true(own["chosen"]).to_numpy()
        # opaque bars of all points would hide the points
        faint = 0.12 if all_bars else 0.0
        # an export of the reference has the same FLOPs, so the reference's point covers it
        front = 4 if look.role == "stock" else 5
        for mask, face, size, strength in ((~chosen, "white", 3.4, faint), (chosen, look.colour, 5.5, 0.35)):
            if strength:
                axes.errorbar(
                    x[mask], y[mask], xerr=across[:, mask], fmt="none", ecolor=look.colour, elinewidth=0.8,
                    alpha=strength, zorder=2,
                )  # fmt: skip
            axes.plot(
                x[mask], y[mask], linestyle="", marker=look.marker, color=look.colour, markerfacecolor=face,
                markeredgewidth=0.9, markersize=size, zorder=front if size > 4 else 4,
            )  # fmt: skip
    ratio_axis(axes, TICKS)
    percent_axis(axes.yaxis)
    axes.margins(x=0.08)


def _relative_bars(own: pd.DataFrame, x: np.ndarray, low_is_good: bool) -> np.ndarray:
    """Distances (2, points) to the ends of a bar that is as wide, relative to `x`, as the interval of the speed-up."""
    middle, low, high = (own[name].to_numpy(float) for name in ("speedup_vs_dense", "speedup_low", "speedup_high"))
    ends = (x * middle / high, x * middle / low) if low_is_good else (x * low / middle, x * high / middle)
    bars: np.ndarray = np.nan_to_num(np.abs(np.stack([x - ends[0], ends[1] - x])))
    return bars


def _spots(panel: _Panel, reference: str) -> Iterator[Spot]:
    for row in panel.points.to_dict("records"):
        accuracy = f"{rounding.with_percent(row['accuracy'])} "
        accuracy += rounding.interval(row["accuracy_low"], row["accuracy_high"], rounding.percent)
        text = f"{at_threshold(row['system'], row['tau'])}: {accuracy}, {_cost(row, panel.axis, reference)}"
        yield Spot(panel.axes, row[panel.axis.column], row["height"], text)


def _cost(row: Record, axis: _Axis, reference: str) -> str:
    """The cost of a point as text, and its ratio to that of the model it is compared with."""
    if not axis.is_timed:
        return f"{rounding.gflops(row['gflops'])} GFLOPs, {rounding.ratio(1 / row['flops_ratio'])} of {reference}'s"
    if axis.low_is_good:
        cost = f"{rounding.milliseconds(row['latency_ms_p50'])} ms"
    else:
        cost = f"{rounding.throughput(row['examples_per_s'])} texts/s"
    within = rounding.interval(row["speedup_low"], row["speedup_high"], rounding.speedup)
    return f"{cost}, {rounding.x_times(row['speedup_vs_dense'])} {within} of {STOCK}"


# --- thresholds beside their points -------------------------------------------------------------------------------


def _label_thresholds(
    figure: matplotlib.figure.Figure, panels: list[_Panel], looks: dict[str, Look], all_thresholds: bool
) -> None:
    """Write thresholds beside their points if there is room: first of chosen points, then of the ends of each system.

    all_thresholds: then those between as well.
    """
    figure.draw_without_rendering()
    for panel in panels:
        points, columns = panel.points, [panel.axis.column, "height"]
        taken = labels.around(panel.axes, points[columns].to_numpy(float))
        for _, own in points[points["tau"].notna()].sort_values("tau").groupby("system"):
            taken += labels.along(panel.axes, own[columns].to_numpy(float))
        labelled = points.assign(first=is_true(points["chosen"]) | points["below"])
        labelled = labelled[labelled["tau"].notna() | labelled["below"]]
        ends = labelled.groupby("system")["tau"].transform(lambda tau: (tau == tau.min()) | (tau == tau.max()))
        labelled = labelled.assign(end=ends)
        if not all_thresholds:
            labelled = labelled[labelled["first"] | labelled["end"]]
        made = [
            Label(row[panel.axis.column], row["height"], _label(row), style.darker(looks[row["system"]].colour))
            for _, row in labelled.sort_values(["below", "first", "end", "tau"], ascending=False).iterrows()
        ]
        labels.place(figure, panel.axes, made, taken)


def _label(row: pd.Series) -> str:
    """The threshold without its leading zero, or the accuracy of a point that is drawn at the lower edge."""
    if row["below"]:
        return f"{rounding.percent(row['accuracy'])}\N{DOWNWARDS ARROW}"
    return rounding.threshold(row["tau"]).removeprefix("0")
