"""Accuracy against latency, throughput and FLOPs (figure 4 of the paper), with intervals, thresholds and front."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from eat import rounding
from eat.errors import EatError, listed
from eat.figures import style
from eat.figures.canvas import Drawing, at_threshold, canvas, entry, legend, line_of, percent_axis, ratio_axis
from eat.figures.figure import Figure
from eat.figures.style import Look, Spot
from eat.results.rows import Record, in_setting_of, is_true, rows_of, without_repeats
from eat.study.stock import STOCK

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

MANY = 12
"""With more systems than this, only chosen points have crosses, and only chosen and outermost points have labels."""

FAR = 0.12
"""A point this far below the most accurate one is drawn at the lower edge, so that the others keep enough space."""

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
    upper panels show systems in the reference's engine and precision, the lower panels all others. Crosses are 95 %
    intervals: vertical of the accuracy, horizontal of the paired speed-up, relative to the point. Points of a system
    are joined in the order of their thresholds, which are printed beside them if there is room. Filled points were
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
    shown = [name for name in looks if name in set(rows["system"])]
    is_many = len(shown) > MANY
    heights = [_height(rows.loc[line, "system"].nunique()) for line in lines]
    entries = [*(looks[name].label for name in shown), "chosen on the calibration split", "Pareto front"]
    figure = canvas(style.FULL, 0.3 + sum(heights) + style.legend_height(entries, style.FULL))
    grid = figure.subplots(len(lines), len(columns), sharex="col", sharey=True, squeeze=False, height_ratios=heights)
    panels = []
    for line, places in zip(lines, grid, strict=True):
        for axes, (points, axis) in zip(places, columns, strict=True):
            panel = _Panel(axes, points[line.loc[points.index]], axis)
            _draw_front(panel, points)
            _draw_points(panel, looks, all_crosses=not is_many)
            panels.append(panel)
        if len(lines) == 2:
            places[0].set_title(listed(sorted(set(rows.loc[line, "dtype"]))), loc="left")
        places[0].set_ylabel("Accuracy (%)")
    for axes, (_, axis) in zip(grid[-1], columns, strict=True):
        axes.set_xlabel(axis.title)
    room = 0.06 * (high - low)
    grid[0, 0].set_ylim(low - room, high + room)
    handles = [line_of(looks[name]) for name in shown]
    handles.append(entry(linestyle="", marker="o", color="#444444", markersize=5.5))
    handles.append(entry(color="#B0B0B0", linewidth=2.2))
    legend(figure, handles, entries, style.FULL)
    _label_thresholds(figure, panels, looks, all_thresholds=not is_many)
    return figure, [spot for panel in panels for spot in _spots(panel, reference)]


FIGURE = Figure("frontier", plot_frontier, reads=("summary",), place="frontier")


def _height(systems: int) -> float:
    """The height in inches of a panel with this many systems: room for their thresholds, and two panels per page."""
    return min(1.6 + 0.3 * systems, 4.0)


def _columns(rows: pd.DataFrame, task: str) -> list[tuple[pd.DataFrame, _Axis]]:
    """Rows and axis of each column: latency at batch size 1, throughput at the largest above 1, FLOPs per text."""
    batches = sorted(int(size) for size in rows["batch_size"].unique())
    if 1 not in batches:
        raise EatError(f"task {task!r}: no row of batch size 1 for the frontier; found {listed(batches)}")
    alone = rows[rows["batch_size"] == 1]
    columns = [(alone, _Axis("latency_ms_p50", "Latency, median (ms, batch 1)", True))]
    if batches[-1] > 1:
        title = f"Throughput (texts/s, batch {batches[-1]})"
        columns.append((rows[rows["batch_size"] == batches[-1]], _Axis("examples_per_s", title, False)))
    # a text has the same FLOPs at every batch size
    columns.append((alone[alone["gflops"].notna()], _Axis("gflops", "GFLOPs per text", True, is_timed=False)))
    return columns


def _range_of_accuracy(rows: pd.DataFrame) -> tuple[float, float]:
    """The lowest and the highest point, with the intervals of chosen points; bars of the others may be cut off.

    Points more than `FAR` below the highest are left out.
    """
    near = rows[rows["accuracy"] >= rows["accuracy"].max() - FAR]
    chosen = near[is_true(near["chosen"])]
    low = np.nanmin([near["accuracy"].min(), chosen["accuracy_low"].min()])
    high = np.nanmax([near["accuracy"].max(), chosen["accuracy_high"].max()])
    return float(low), float(high)


def _draw_front(panel: _Panel, points: pd.DataFrame) -> None:
    """The Pareto front of all `points`, whichever of them this panel shows."""
    column, low_is_good = panel.axis.column, panel.axis.low_is_good
    front = pareto_front(points[column].to_numpy(float), points["accuracy"].to_numpy(float), low_is_good)
    edge = points.iloc[front].sort_values(column)
    steps = "steps-post" if low_is_good else "steps-pre"
    panel.axes.plot(edge[column], edge["accuracy"], color="#C4C4C4", linewidth=2.2, drawstyle=steps, zorder=1)


def _draw_points(panel: _Panel, looks: dict[str, Look], all_crosses: bool) -> None:
    axes, axis = panel.axes, panel.axis
    for name, own in panel.points.sort_values("tau").groupby("system", sort=False):
        look = looks[str(name)]
        x, y = own[axis.column].to_numpy(float), own["height"].to_numpy(float)
        across = _relative_bars(own, x, axis.low_is_good) if axis.is_timed else np.zeros((2, len(own)))
        upright = np.abs(np.stack([y - own["accuracy_low"], own["accuracy_high"] - y])) * ~own["below"].to_numpy()
        axes.plot(x, y, color=look.colour, linewidth=0.9, zorder=3)
        chosen = is_true(own["chosen"]).to_numpy()
        # opaque crosses of all points would hide the points
        faint = 0.22 if all_crosses else 0.0
        # an export of the reference has the same FLOPs, so the reference's point covers it
        front = 4 if look.role == "stock" else 5
        for mask, face, size, strength in ((~chosen, "white", 3.4, faint), (chosen, look.colour, 5.5, 0.75)):
            bars = {"xerr": across[:, mask], "yerr": upright[:, mask]}
            if strength:
                axes.errorbar(
                    x[mask], y[mask], **bars, fmt="none", ecolor=look.colour, elinewidth=0.6, alpha=strength, zorder=2
                )
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


def pareto_front(x: np.ndarray, accuracy: np.ndarray, low_is_good: bool = True) -> list[int]:
    """Indices of the points that no other point dominates, starting from the best `x`.

    A point is dominated by one that is at least as accurate and at least as good in `x`, and better in one of the two.
    x, accuracy: float (n,). Of equal points the first is kept.
    """
    cost = x if low_is_good else -x
    front: list[int] = []
    for index in sorted(range(len(cost)), key=lambda i: (cost[i], -accuracy[i])):
        if not front or accuracy[index] > accuracy[front[-1]]:
            front.append(index)
    return front


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    scale = figure.dpi / 72.0
    for panel in panels:
        points = panel.points
        spots = panel.axes.transData.transform(points[[panel.axis.column, "height"]].to_numpy(float))
        taken = [Bbox.from_bounds(x - 3 * scale, y - 3 * scale, 6 * scale, 6 * scale) for x, y in spots]
        for _, own in points.assign(x=spots[:, 0], y=spots[:, 1]).sort_values("tau").groupby("system"):
            taken += _along(own[["x", "y"]].to_numpy(float), scale)
        frame = panel.axes.get_window_extent(renderer)
        labelled = points.assign(first=is_true(points["chosen"]) | points["below"])
        labelled = labelled[labelled["tau"].notna() | labelled["below"]]
        ends = labelled.groupby("system")["tau"].transform(lambda tau: (tau == tau.min()) | (tau == tau.max()))
        labelled = labelled.assign(end=ends)
        if not all_thresholds:
            labelled = labelled[labelled["first"] | labelled["end"]]
        for _, row in labelled.sort_values(["below", "first", "end", "tau"], ascending=False).iterrows():
            label = panel.axes.annotate(
                _label(row), (row[panel.axis.column], row["height"]), (0, 0), textcoords="offset points",
                fontsize=style.SMALL, color=style.darker(looks[row["system"]].colour), zorder=6,
                path_effects=[withStroke(linewidth=1.6, foreground="white")],
            )  # fmt: skip
            label.set_in_layout(False)
            for dx, dy, across, up in _AROUND:
                label.set(position=(dx, dy), ha=across, va=up)
                box = label.get_window_extent(renderer)
                is_inside = frame.contains(*box.min) and frame.contains(*box.max)
                if is_inside and not any(box.overlaps(other) for other in taken):
                    taken.append(box)
                    break
            else:
                label.remove()


def _label(row: pd.Series) -> str:
    """The threshold without its leading zero, or the accuracy of a point that is drawn at the lower edge."""
    if row["below"]:
        return f"{rounding.percent(row['accuracy'])}\N{DOWNWARDS ARROW}"
    return rounding.threshold(row["tau"]).removeprefix("0")


def _along(corners: np.ndarray, scale: float) -> list[Bbox]:
    """Small boxes along the line through `corners` (n, 2), in pixels, so that no label crosses it."""
    from matplotlib.transforms import Bbox

    boxes = []
    for start, end in pairwise(corners):
        steps = max(2, int(np.hypot(*(end - start)) / (2 * scale)))
        boxes += [Bbox.from_bounds(x, y, 0.5, 0.5) for x, y in np.linspace(start, end, steps)]
    return boxes


_AROUND = (
    (0, 5, "center", "bottom"),
    (0, -5, "center", "top"),
    (5, 3, "left", "bottom"),
    (-5, 3, "right", "bottom"),
    (5, -3, "left", "top"),
    (-5, -3, "right", "top"),
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (9, 7, "left", "bottom"),
    (-9, 7, "right", "bottom"),
    (9, -7, "left", "top"),
    (-9, -7, "right", "top"),
)
"""Positions of a label: offset in points from its marker, and the side of the text that is placed there."""
