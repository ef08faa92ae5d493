"""Measured speed-up against the reduction of FLOPs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eat import rounding
from eat.figures import labels, style
from eat.figures.canvas import Drawing, at_threshold, both_ratio_axes, canvas, headline, points_of
from eat.figures.figure import Figure
from eat.figures.labels import Name
from eat.figures.style import Spot
from eat.results.rows import in_setting_of, is_true, rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_flops(summary: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw the speed-up against the reference in the same engine and precision, against the ratio of FLOPs.

    The batch size is 1. Both ratios are the reference's value divided by the system's. On the diagonal, time falls as
    much as FLOPs do. The names stand at the right, at the heights of the chosen points. summary: summary.csv.
    """
    rows = rows_of(summary, task)
    looks = style.looks(rows, reference)
    drawn = rows["speedup_vs_packed_dense"].notna() & rows["flops_ratio"].notna() & (rows["batch_size"] == 1)
    points = rows[drawn & rows["system"].isin(in_setting_of(rows, reference))]
    shown = [name for name, look in looks.items() if look.role != "stock" and name in set(points["system"])]
    points = points[points["system"].isin(shown)]
    figure = canvas(style.WIDE_COLUMN, max(3.5, 0.9 + labels.height_of_names(len(shown))))
    axes = figure.subplots()
    ends = points[["flops_ratio", "speedup_vs_packed_dense"]].to_numpy(float)
    span = (0.9 * min(1.0, ends.min()), 1.12 * max(1.0, ends.max()))
    axes.plot(span, span, color="#999999", linewidth=0.8, zorder=1)
    names: list[Name] = []
    for name in shown:
        own, look = points[points["system"] == name].sort_values("tau"), looks[name]
        chosen = is_true(own["chosen"]).to_numpy()
        x, y = own["flops_ratio"].to_numpy(float), own["speedup_vs_packed_dense"].to_numpy(float)
        axes.plot(x, y, color=look.colour, linewidth=0.7)
        names += [Name(float(x[at]), float(y[at]), look) for at in chosen.nonzero()[0]]
        for mask, face in ((~chosen, "white"), (chosen, look.colour)):
            points_of(axes, x[mask], y[mask], look, face)
    both_ratio_axes(axes)
    axes.set(xlim=span, ylim=span, xlabel="FLOPs, dense / system")
    axes.set_ylabel("Time, dense / system (median, same engine)")
    headline(figure, _title(points, reference), "Filled: chosen. On the line, time falls as much as FLOPs.")
    labels.beside(figure, {axes: names})
    return figure, list(_spots(axes, points))


FIGURE = Figure("flops", plot_flops, reads=("summary",), place="theory")


def _title(points: pd.DataFrame, reference: str) -> str:
    """For how many systems time falls less than FLOPs do, at the chosen points."""
    chosen = points[is_true(points["chosen"]) & (points["system"] != reference)]
    less = int((chosen["speedup_vs_packed_dense"] < chosen["flops_ratio"]).sum())
    return (
        f"Time falls less than FLOPs for {rounding.count(less)} of {rounding.count(len(chosen))} systems at their "
        "chosen points"
    )


def _spots(axes: Axes, points: pd.DataFrame) -> Iterator[Spot]:
    for row in points.to_dict("records"):
        text = (
            f"{at_threshold(row['system'], row['tau'])}: {rounding.x_times(row['flops_ratio'])} fewer FLOPs, "
            f"{rounding.x_times(row['speedup_vs_packed_dense'])} as fast"
        )
        yield Spot(axes, row["flops_ratio"], row["speedup_vs_packed_dense"], text)
