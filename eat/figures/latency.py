"""The distribution of the times of single calls: a density, with p50, p90 and p99."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eat import rounding
from eat.figures import style
from eat.figures.canvas import Drawing, at_threshold, canvas, entry, headline, legend, ratio_axis, wrapped
from eat.figures.figure import Figure
from eat.figures.style import Spot
from eat.results.rows import is_true, rows_of, without_repeats

if TYPE_CHECKING:
    import pandas as pd

_MARKERS = {"p50": "o", "p90": "D", "p99": "|"}


def plot_latency(summary: pd.DataFrame, calls: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw the times of single calls at batch size 1: one row per system at its chosen threshold, the fastest on top.

    summary: summary.csv. calls: the timed calls of the task (`timing/{task}.parquet`). The axis is logarithmic. The
    densities are those of the logarithms, all of the same height, without the outermost 0.5 % of calls on either side.
    """
    import pandas as pd
    import seaborn
    from matplotlib.patches import Patch

    rows = rows_of(summary, task)
    looks = style.looks(rows, reference)
    single = without_repeats(rows[(rows["batch_size"] == 1) & (rows["n_timed"] > 0)])
    points = single[is_true(single["chosen"])].sort_values("latency_ms_p50", kind="stable").to_dict("records")
    timed = calls[calls["batch_size"] == 1].assign(system=calls["system"].astype(str))
    times = [_times_of(timed, str(point["system"]), point["tau"]) for point in points]
    inner = [own[own.between(*own.quantile([0.005, 0.995]))] for own in times]
    long = pd.concat([pd.DataFrame({"ms": own, "line": str(line)}) for line, own in enumerate(inner)])
    figure = canvas(style.FULL, 1.0 + 0.28 * len(points))
    axes = figure.subplots()
    seaborn.violinplot(
        data=long, x="ms", y="line", hue="line", orient="h", log_scale=(True, False), inner=None, cut=0, width=0.85,
        linewidth=0.5, palette=[looks[str(point["system"])].colour for point in points], alpha=0.35, legend=False,
        density_norm="width", ax=axes,
    )  # fmt: skip
    spots = []
    for line, (point, own) in enumerate(zip(points, times, strict=True)):
        colour = looks[str(point["system"])].colour
        for name, marker in _MARKERS.items():
            time = point[f"latency_ms_{name}"]
            face = "white" if name == "p90" else colour
            size = 10.0 if marker == "|" else 3.6
            axes.plot(time, line, linestyle="", marker=marker, color=colour, markerfacecolor=face, markersize=size)
            quoted = f"{name} {rounding.milliseconds(time)} ms over {rounding.count(len(own))} calls"
            spots.append(Spot(axes, time, line, f"{at_threshold(point['system'], point['tau'])}: {quoted}"))
    names = [wrapped(at_threshold(looks[str(point["system"])].label, point["tau"]), 34) for point in points]
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="Time per call (ms, batch 1)", ylabel="")
    ratio_axis(axes)
    handles = [entry(linestyle="", marker=marker, color="#444444") for marker in _MARKERS.values()]
    handles[1].set_markerfacecolor("white")
    density = Patch(facecolor="#BBBBBB", edgecolor="#444444", linewidth=0.5)
    legend(figure, [*handles, density], [*_MARKERS, "density of the calls"], style.FULL)
    tails = [point["latency_ms_p99"] / point["latency_ms_p50"] for point in points]
    headline(figure, f"The 99th percentile of the calls is {rounding.span(tails, rounding.speedup)} times the median")
    return figure, spots


FIGURE = Figure("latency", plot_latency, reads=("summary", "timing"), place="results")


def _times_of(timed: pd.DataFrame, system: str, tau: float) -> pd.Series:
    own = timed[timed["system"] == system]
    return own.loc[own["tau"].isna() if math.isnan(tau) else own["tau"] == tau, "ms"]
