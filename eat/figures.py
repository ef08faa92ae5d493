"""The figures of a study, one task each: what an operating point costs and wins, and what the adaptive parts do.

Every function takes tables as the study's CSV files hold them (the rows of one task), the name of the reference system,
and the two files to write. Same data, same bytes. Rows of several devices or thread counts are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from eat import rounding, style
from eat.errors import EatError, listed
from eat.rows import is_true, of_task, rows_of
from eat.style import Look

Output = Path | str

_PER_CENT = FuncFormatter(lambda value, _: f"{100 * value:g}")


# --- accuracy against time ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """What stands on the horizontal axis of a frontier, and which of its ends is the good one."""

    column: str
    title: str
    low_is_good: bool


_LATENCY = _Axis("latency_ms_p50", "Latency, median (ms, batch 1)", True)


def plot_frontier(summary: pd.DataFrame, task: str, reference: str, *, out_pdf: Output, out_svg: Output) -> None:
    """Accuracy against latency at batch 1, and against throughput at the largest batch where one was timed.

    Vertical bars are the 95 % interval of the accuracy; horizontal bars carry the relative 95 % interval of the paired
    speed-up. Points of one system are joined in order of the threshold, which stands beside them; the filled ones were
    chosen on the calibration split. The grey step is the Pareto front.
    """
    rows = rows_of(summary, task)
    looks = style.looks(rows, reference)
    drawn = rows["accuracy"].notna() & rows["latency_ms_p50"].notna()  # not: latency only, or not timed
    rows = rows[drawn & (rows["system"] != style.STOCK_AGAIN)]
    batches = sorted(int(size) for size in rows["batch_size"].unique())
    if 1 not in batches:
        raise EatError(f"task {task!r}: no row of batch size 1 for the frontier; found {listed(batches)}")
    axes_of = [(rows[rows["batch_size"] == 1], _LATENCY)]
    if batches[-1] > 1:
        title = f"Throughput (examples/s, batch {batches[-1]})"
        axes_of.append((rows[rows["batch_size"] == batches[-1]], _Axis("examples_per_s", title, False)))
    shown = [name for name in looks if name in set(rows["system"])]
    width = style.FULL if len(axes_of) == 2 else style.COLUMN
    labels = [looks[name].label for name in shown]
    with style.figure_style():
        entries = [*labels, "chosen on the calibration split"]
        figure = _figure(width, 2.75 + style.legend_height(entries, width))
        panels = figure.subplots(1, len(axes_of), sharey=True, squeeze=False)[0]
        for panel, (points, axis) in zip(panels, axes_of, strict=True):
            _draw_frontier(panel, points, axis, looks, shown)
        panels[0].set_ylabel("Accuracy (%)")
        handles = [_line(looks[name]) for name in shown]
        handles.append(Line2D([], [], linestyle="", marker="o", color="#444444", markersize=5.5))
        handles.append(Line2D([], [], color="#B0B0B0", linewidth=2.2))
        _legend(figure, handles, [*entries, "Pareto front"], width)
        _label_thresholds(figure, [(panel, *data, looks) for panel, data in zip(panels, axes_of, strict=True)])
        style.save(figure, out_pdf, out_svg)


def _draw_frontier(panel: Axes, points: pd.DataFrame, axis: _Axis, looks: dict[str, Look], shown: list[str]) -> None:
    front = pareto_front(points[axis.column].to_numpy(float), points["accuracy"].to_numpy(float), axis.low_is_good)
    edge = points.iloc[front].sort_values(axis.column)
    panel.plot(
        edge[axis.column],
        edge["accuracy"],
        color="#C4C4C4",
        linewidth=2.2,
        drawstyle="steps-post" if axis.low_is_good else "steps-pre",
        zorder=1,
    )
    for name in shown:
        own = points[points["system"] == name].sort_values("tau")
        if own.empty:
            continue
        look = looks[name]
        x, y = own[axis.column].to_numpy(float), own["accuracy"].to_numpy(float)
        panel.errorbar(
            x,
            y,
            xerr=_relative_bars(own, x, axis.low_is_good),
            yerr=np.abs(np.stack([y - own["accuracy_low"], own["accuracy_high"] - y])),
            fmt="none",
            ecolor=look.colour,
            elinewidth=0.5,
            alpha=0.45,
            zorder=2,
        )
        panel.plot(x, y, color=look.colour, linewidth=0.9, zorder=3)
        chosen = is_true(own["chosen"])
        for mask, face, size in ((~chosen, "white", 3.6), (chosen, look.colour, 5.5)):
            panel.plot(
                x[mask],
                y[mask],
                linestyle="",
                marker=look.marker,
                color=look.colour,
                markerfacecolor=face,
                markeredgewidth=0.9,
                markersize=size,
                zorder=5 if size > 4 else 4,
            )
    panel.set_xlabel(axis.title)
    panel.yaxis.set_major_formatter(_PER_CENT)
    panel.margins(x=0.08, y=0.06)


def _relative_bars(own: pd.DataFrame, x: np.ndarray, low_is_good: bool) -> np.ndarray:
    """Distances (2, points) to the ends of a bar that is, relative to `x`, as wide as the speed-up's interval."""
    middle, low, high = (own[name].to_numpy(float) for name in ("speedup_vs_dense", "speedup_low", "speedup_high"))
    ends = (x * middle / high, x * middle / low) if low_is_good else (x * low / middle, x * high / middle)
    bars: np.ndarray = np.nan_to_num(np.abs(np.stack([x - ends[0], ends[1] - x])))
    return bars


def pareto_front(x: np.ndarray, accuracy: np.ndarray, low_is_good: bool = True) -> list[int]:
    """Indices of the points that no other point beats, from the best `x` on.

    A point is beaten by one at least as accurate and at least as good in `x`, and better in one of the two.
    x, accuracy: float (n,). Of equal points the first is kept.
    """
    cost = x if low_is_good else -x
    front: list[int] = []
    for index in sorted(range(len(cost)), key=lambda i: (cost[i], -accuracy[i])):
        if not front or accuracy[index] > accuracy[front[-1]]:
            front.append(index)
    return front


def _label_thresholds(figure: Figure, panels: Iterable[tuple[Axes, pd.DataFrame, _Axis, dict[str, Look]]]) -> None:
    """Write each threshold beside its point where there is room: chosen points first, then the ends of each system."""
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    scale = figure.dpi / 72.0
    for panel, points, axis, looks in panels:
        spots = panel.transData.transform(points[[axis.column, "accuracy"]].to_numpy(float))
        taken = [Bbox.from_bounds(x - 3 * scale, y - 3 * scale, 6 * scale, 6 * scale) for x, y in spots]
        for _, own in points.assign(x=spots[:, 0], y=spots[:, 1]).sort_values("tau").groupby("system"):
            taken += _along(own[["x", "y"]].to_numpy(float), scale)
        frame = panel.get_window_extent(renderer)
        labelled = points.assign(first=is_true(points["chosen"]))
        labelled = labelled[labelled["tau"].notna()]
        ends = labelled.groupby("system")["tau"].transform(lambda tau: (tau == tau.min()) | (tau == tau.max()))
        for _, row in labelled.assign(end=ends).sort_values(["first", "end", "tau"], ascending=False).iterrows():
            label = panel.annotate(
                rounding.threshold(row["tau"]).removeprefix("0"),
                (row[axis.column], row["accuracy"]),
                (0, 0),
                textcoords="offset points",
                fontsize=style.SMALL,
                color=style.darker(looks[row["system"]].colour),
                zorder=6,
                path_effects=[withStroke(linewidth=1.6, foreground="white")],
            )
            label.set_in_layout(False)
            for dx, dy, across, up in _AROUND:
                label.set_position((dx, dy))
                label.set(ha=across, va=up)
                box = label.get_window_extent(renderer)
                if (
                    not any(box.overlaps(other) for other in taken)
                    and frame.contains(*box.min)
                    and frame.contains(*box.max)
                ):
                    taken.append(box)
                    break
            else:
                label.remove()


def _along(corners: np.ndarray, scale: float) -> list[Bbox]:
    """Small boxes along the line through `corners` (n, 2), in pixels, so that no label is written across it."""
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
"""Where a label may stand: offset in points from its marker, and which side of the text is held there."""


# --- tokens -------------------------------------------------------------------------------------------------------


def plot_retention(
    summary: pd.DataFrame, retention: pd.DataFrame, task: str, reference: str, *, out_pdf: Output, out_svg: Output
) -> None:
    """The part of the tokens alive after each layer: as scheduled, and as observed.

    A panel for each system that removes tokens. Filled markers: all examples, run to full depth; open markers: at the
    chosen threshold, over the examples still running at that layer.
    """
    rows = rows_of(summary, task)
    curves = of_task(retention, task)
    looks = style.looks(rows, reference)
    removing = set(curves.loc[(curves["scheduled"] < 1) | (curves["observed"] < 1), "system"])
    shown = [name for name in looks if name in removing]
    chosen = chosen_thresholds(rows)
    with style.figure_style():
        columns = min(3, max(1, len(shown)))
        width = style.COLUMN if columns == 1 else style.FULL
        lines = -(-len(shown) // columns)
        figure = _figure(width, 0.55 + 1.75 * max(1, lines))
        if not shown:
            _say(figure, "No system of this study removes tokens.")
        panels: list[Axes] = []
        if shown:
            panels = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel())
        for panel, name in zip(panels, shown, strict=False):
            own = curves[curves["system"] == name]
            _draw_retention(panel, own, chosen.get(name), looks[name])
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        if shown:
            figure.supxlabel("Layer", fontsize=8)
            figure.supylabel("Tokens alive (%)", fontsize=8)
            handles = [
                Line2D([], [], color="#777777", linestyle="--"),
                Line2D([], [], color="#333333", marker="o"),
                Line2D([], [], color="#333333", marker="o", markerfacecolor="white", linestyle=":"),
            ]
            names = ["scheduled", "observed, all texts", "observed, still running (chosen threshold)"]
            _legend(figure, handles, names, width, where="outside upper center")
        style.save(figure, out_pdf, out_svg)


def _draw_retention(panel: Axes, own: pd.DataFrame, tau: float | None, look: Look) -> None:
    everyone = own[own["tau"].isna()].sort_values("layer")
    layers = [0, *everyone["layer"].astype(int)]
    panel.step(layers, [1.0, *everyone["scheduled"]], where="post", color="#777777", linestyle="--", linewidth=1.0)
    panel.plot(layers, [1.0, *everyone["observed"]], color=look.colour, marker=look.marker, markersize=3.8)
    if tau is not None:
        running = own[np.isclose(own["tau"].astype(float), tau) & (own["n"] > 0)].sort_values("layer")
        panel.plot(
            running["layer"],
            running["observed"],
            color=look.colour,
            marker=look.marker,
            markerfacecolor="white",
            markersize=3.8,
            linestyle=":",
        )
    panel.set_title(_wrapped(look.label, 30))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    panel.yaxis.set_major_formatter(_PER_CENT)
    panel.set_ylim(0, 1.05)


def plot_lengths(
    summary: pd.DataFrame, lengths: pd.DataFrame, task: str, reference: str, *, out_pdf: Output, out_svg: Output
) -> None:
    """Final retention against the length of the input, for the chosen threshold of each adaptive system.

    The strip below shows how many texts are in each bin of length.
    """
    rows = rows_of(summary, task)
    curves = of_task(lengths, task)
    curves = curves[is_true(curves["chosen"]) & (curves["n"] > 0)]
    looks = style.looks(rows, reference)
    shown = [name for name, look in looks.items() if look.role == "adaptive" and name in set(curves["system"])]
    with style.figure_style():
        labels = [looks[name].label for name in shown]
        figure = _figure(style.COLUMN, 2.9 + style.legend_height(labels, style.COLUMN))
        if not shown:
            _say(figure, "No system of this study is adaptive.")
        else:
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
            for order, name in enumerate(shown):
                own = curves[curves["system"] == name].sort_values("length_mean")
                look = looks[name]
                size = 3.0 + 2.5 * (1 - order / len(shown))  # a line below another one still shows at its edges
                upper.plot(
                    own["length_mean"],
                    own["retention"],
                    color=look.colour,
                    marker=look.marker,
                    markersize=size,
                    linewidth=size / 3,
                )
            upper.set_ylabel("Final retention (%)")
            upper.yaxis.set_major_formatter(_PER_CENT)
            upper.set_ylim(0, 1.05)
            bins = curves[curves["system"] == shown[0]].sort_values("low")
            lower.bar(
                bins["low"],
                bins["n"],
                width=bins["high"] - bins["low"],
                align="edge",
                color="#BBBBBB",
                edgecolor="white",
            )
            lower.set_ylabel("Texts")
            lower.set_xlabel("Length of the input (tokens)")
            lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=2))
            figure.align_ylabels()
            _legend(figure, [_line(looks[name]) for name in shown], labels, style.COLUMN)
        style.save(figure, out_pdf, out_svg)


# --- exits --------------------------------------------------------------------------------------------------------


def plot_exits(
    summary: pd.DataFrame, exits: pd.DataFrame, task: str, reference: str, *, out_pdf: Output, out_svg: Output
) -> None:
    """Which part of the texts leaves after which layer: a stacked bar for each threshold of each system with exits.

    A system whose heads no rule uses is left out.
    """
    rows = rows_of(summary, task)
    curves = of_task(exits, task)
    curves = curves[curves["tau"].notna() | (curves["fraction"] > 0)]
    looks = style.looks(rows, reference)
    several = curves.groupby("system")["exit"].nunique() > 1
    shown = [name for name in looks if several.get(name, False)]
    with style.figure_style():
        if not shown:
            figure = _figure(style.COLUMN, 1.0)
            _say(figure, "No system of this study has an early exit.")
            style.save(figure, out_pdf, out_svg)
            return
        groups = [(name, _thresholds(curves[curves["system"] == name])) for name in shown]
        layers = int(curves["exit"].max())
        depths = sorted(int(depth) for depth in curves.loc[curves["system"].isin(shown), "exit"].unique())
        names = [f"after layer {depth}" for depth in depths]
        bars = sum(len(taus) for _, taus in groups)
        width = style.COLUMN
        figure = _figure(width, 0.5 + 0.17 * bars + 0.27 * len(groups) + style.legend_height(names, width))
        panels = figure.subplots(
            len(groups), 1, sharex=True, squeeze=False, height_ratios=[len(taus) + 0.3 for _, taus in groups]
        )[:, 0]
        for panel, (name, taus) in zip(panels, groups, strict=True):
            _draw_exits(panel, curves[curves["system"] == name], taus, layers)
            panel.set_title(_wrapped(looks[name].label, 38), loc="left", pad=2.5)
        panels[-1].set_xlabel("Texts (%)")
        handles = [
            Patch(facecolor=style.exit_colour(depth, layers), edgecolor="#555555", linewidth=0.4) for depth in depths
        ]
        arrow = Line2D([], [], linestyle="", marker=">", color="black")
        _legend(figure, [*handles, arrow], [*names, "chosen"], width)
        style.save(figure, out_pdf, out_svg)


def _draw_exits(panel: Axes, own: pd.DataFrame, taus: list[float | None], layers: int) -> None:
    ticks = []
    for row, tau in enumerate(taus):
        bar = own[own["tau"].isna()] if tau is None else own[own["tau"] == tau]
        bar = bar.sort_values("exit")
        left = 0.0
        for depth, fraction in zip(bar["exit"].astype(int), bar["fraction"].astype(float), strict=True):
            colour = style.exit_colour(depth, layers)
            panel.barh(row, fraction, left=left, height=0.82, color=colour, edgecolor="white", linewidth=0.5)
            if fraction >= 0.09:
                text = f"{100 * fraction:.0f}"
                middle = left + fraction / 2
                panel.text(
                    middle,
                    row,
                    text,
                    ha="center",
                    va="center_baseline",
                    fontsize=style.SMALL,
                    color=style.ink_on(colour),
                )
            left += fraction
        ticks.append(("\N{BLACK RIGHT-POINTING TRIANGLE} " if is_true(bar["chosen"]).any() else "") + _tau_name(tau))
    panel.set_yticks(range(len(taus)), ticks)
    panel.set_ylim(len(taus) - 0.4, -0.6)
    panel.set_xlim(0, 1)
    panel.xaxis.set_major_formatter(_PER_CENT)
    panel.grid(False)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)


def _tau_name(tau: float | None) -> str:
    return "no threshold" if tau is None else f"\N{GREEK SMALL LETTER TAU} = {rounding.threshold(tau)}"


def plot_reliability(
    summary: pd.DataFrame, reliability: pd.DataFrame, task: str, reference: str, *, out_pdf: Output, out_svg: Output
) -> None:
    """Accuracy against confidence at each exit, before and after temperature scaling; the diagonal is calibrated.

    A row for each system with early exits (for every system where none has one), a column for each exit. The area of a
    marker grows with the number of texts in its bin.
    """
    rows = rows_of(summary, task)
    curves = of_task(reliability, task)
    curves = curves[curves["n"] > 0]
    looks = style.looks(rows, reference)
    several = curves.groupby("system")["exit"].nunique() > 1
    present = [name for name in looks if name in set(curves["system"])]
    shown = [name for name in present if several[name]] or present
    if not shown:
        raise EatError(f"task {task!r}: the reliability curves hold no system of the summary")
    exits = {
        name: sorted(int(depth) for depth in curves.loc[curves["system"] == name, "exit"].unique()) for name in shown
    }
    columns = max(len(depths) for depths in exits.values())
    start = np.floor(10 * min(float(curves["confidence"].min()), float(curves["accuracy"].min()))) / 10
    with style.figure_style():
        width = style.COLUMN if columns <= 2 else style.FULL
        figure = _figure(width, 0.65 + (width - 0.5) / max(columns, 3) * len(shown) + 0.2 * len(shown))
        panels = figure.subplots(len(shown), columns, sharex=True, sharey=True, squeeze=False)
        for line, name in zip(panels, shown, strict=True):
            for panel in line[len(exits[name]) :]:
                panel.set_axis_off()
            for panel, depth in zip(line, exits[name], strict=False):
                own = curves[(curves["system"] == name) & (curves["exit"] == depth)]
                _draw_reliability(panel, own, looks[name])
                panel.set_title(f"layer {depth}", fontsize=7, pad=3, loc="left")
                panel.set(xlim=(start - 0.03, 1.03), ylim=(start - 0.03, 1.03))
                panel.xaxis.set_major_locator(MaxNLocator(3))
                panel.yaxis.set_major_locator(MaxNLocator(4))
            first = f"{_wrapped(looks[name].label, 14 * columns)}\nlayer {exits[name][0]}"
            line[0].set_title(first, fontsize=7, pad=3, loc="left")
        for column in panels.T:  # the lowest panel that is shown, not the lowest place
            next(panel for panel in column[::-1] if panel.axison).tick_params(labelbottom=True)
        figure.supxlabel("Confidence (%)", fontsize=8)
        figure.supylabel("Accuracy (%)", fontsize=8)
        handles = [
            Line2D([], [], color="#444444", marker="o", markerfacecolor="white", linestyle=":"),
            Line2D([], [], color="#444444", marker="o"),
            Line2D([], [], color="#999999", linewidth=0.8),
        ]
        names = ["raw", "calibrated", "confidence equals accuracy"]
        _legend(figure, handles, names, width, where="outside upper center")
        style.save(figure, out_pdf, out_svg)


def _draw_reliability(panel: Axes, own: pd.DataFrame, look: Look) -> None:
    panel.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, zorder=1)
    for stage, line, face in (("raw", ":", "white"), ("calibrated", "-", look.colour)):
        part = own[own["stage"] == stage].sort_values("confidence")
        panel.plot(part["confidence"], part["accuracy"], color=look.colour, linestyle=line, linewidth=0.9, zorder=2)
        area = 3 + 15 * part["n"] / max(int(own["n"].max()), 1)
        panel.scatter(
            part["confidence"], part["accuracy"], s=area, facecolor=face, edgecolor=look.colour, linewidth=0.7, zorder=3
        )
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(_PER_CENT)


CURVE_FIGURES = {
    "retention": plot_retention,
    "lengths": plot_lengths,
    "exits": plot_exits,
    "reliability": plot_reliability,
}
"""The figures that have a table of their own, curves/{name}.csv; all are called alike."""


# --- shared -------------------------------------------------------------------------------------------------------


def chosen_thresholds(rows: pd.DataFrame) -> dict[str, float]:
    """system -> the threshold chosen on the calibration split, for systems with thresholds."""
    picked = rows[is_true(rows["chosen"]) & rows["tau"].notna()]
    return {str(name): float(tau) for name, tau in zip(picked["system"], picked["tau"], strict=True)}


def _thresholds(rows: pd.DataFrame) -> list[float | None]:
    taus = sorted(float(tau) for tau in rows["tau"].dropna().unique())
    return [*([None] if rows["tau"].isna().any() else []), *taus]


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _say(figure: Figure, sentence: str) -> None:
    figure.text(0.5, 0.5, sentence, ha="center", va="center")


def _line(look: Look) -> Line2D:
    return Line2D([], [], color=look.colour, marker=look.marker, markersize=4.5)


def _legend(
    figure: Figure,
    handles: Sequence[Line2D | Patch],
    labels: list[str],
    width: float,
    where: Literal["outside lower center", "outside upper center"] = "outside lower center",
) -> None:
    """A legend outside the panels; above them where the figure has a common label below, which it would cover."""
    figure.legend(handles, labels, loc=where, ncols=style.legend_columns(labels, width))


def _wrapped(text: str, width: int) -> str:
    """Text on several lines of `width` characters, broken anywhere: a name need not hold spaces."""
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))
