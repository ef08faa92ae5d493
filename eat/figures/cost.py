"""The time predicted by the cost model, equation (5) of the paper, against the measured time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eat import rounding
from eat.figures import style
from eat.figures.canvas import (
    Drawing,
    at_threshold,
    both_ratio_axes,
    canvas,
    entry,
    legend,
    line_of,
    note,
    points_of,
)
from eat.figures.figure import Figure
from eat.figures.style import Spot
from eat.results.columns import COST_MODELS
from eat.results.rows import of_task, rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_cost(summary: pd.DataFrame, cost: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw predicted against observed mean time per text, both in ms.

    Open markers: equation (5). Filled markers: with a constant per layer. Both axes are logarithmic and have the same
    limits; points on the diagonal are predicted exactly. summary: summary.csv. cost: curves/cost.csv, which has no rows
    for a task whose texts have too few different lengths for a fit.
    """
    rows = rows_of(summary, task)
    looks = style.looks(rows, reference)
    points = of_task(cost, task, may_be_empty=True)
    shown = [name for name in looks if name in set(points["system"])]
    plain, full = COST_MODELS
    entries = [*(looks[name].label for name in shown), plain, full, "prediction equals observation"]
    if points.empty:
        return note("Too few lengths to fit a cost model.", 1.2)
    figure = canvas(style.COLUMN, 3.0 + style.legend_height(entries, style.COLUMN))
    axes = figure.subplots()
    ends = points[["observed_ms", "predicted_ms"]].to_numpy(float)
    span = (0.85 * ends.min(), 1.18 * ends.max())
    axes.plot(span, span, color="#999999", linewidth=0.8, zorder=1)
    for name in shown:
        look = looks[name]
        for model, face in ((plain, "white"), (full, look.colour)):
            own = points[(points["system"] == name) & (points["model"] == model)]
            points_of(axes, own["observed_ms"], own["predicted_ms"], look, face)
    both_ratio_axes(axes)
    axes.set(xlim=span, ylim=span, xlabel="Observed (ms per text)", ylabel="Predicted (ms per text)")
    handles = [line_of(looks[name]) for name in shown]
    handles.append(entry(linestyle="", marker="o", color="#444444", markerfacecolor="white"))
    handles.append(entry(linestyle="", marker="o", color="#444444"))
    handles.append(entry(color="#999999", linewidth=0.8))
    legend(figure, handles, entries, style.COLUMN)
    return figure, list(_spots(axes, points))


FIGURE = Figure("cost", plot_cost, reads=("summary", "curve:cost"), place="cost model", may_be_empty=("curve:cost",))


def _spots(axes: Axes, points: pd.DataFrame) -> Iterator[Spot]:
    for row in points.to_dict("records"):
        text = (
            f"{at_threshold(row['system'], row['tau'])}, {row['model']}: predicted "
            f"{rounding.milliseconds(row['predicted_ms'])} ms, observed {rounding.milliseconds(row['observed_ms'])} ms "
            f"({rounding.signed_percent(row['error'])} %)"
        )
        yield Spot(axes, row["observed_ms"], row["predicted_ms"], text)
