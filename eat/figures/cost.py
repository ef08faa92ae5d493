"""The time predicted by the cost model, equation (5) of the paper, against the measured time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eat import rounding
from eat.figures import labels, style
from eat.figures.canvas import Drawing, at_threshold, both_ratio_axes, canvas, headline, note, points_of
from eat.figures.figure import Figure
from eat.figures.labels import Name
from eat.figures.style import Spot
from eat.results.columns import COST_MODELS
from eat.results.rows import of_task, rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_cost(summary: pd.DataFrame, cost: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw predicted against observed mean time per text, both in ms.

    Open markers: equation (5). Filled markers: with a constant per layer. Both axes are logarithmic and have the same
    limits; points on the diagonal are predicted exactly. The names stand at the right, at the heights of the slowest
    points. summary: summary.csv. cost: curves/cost.csv, which has no rows for a task whose texts have too few different
    lengths for a fit.
    """
    rows = rows_of(summary, task)
    looks = style.looks(rows, reference)
    points = of_task(cost, task, may_be_empty=True)
    shown = [name for name in looks if name in set(points["system"])]
    plain, full = COST_MODELS
    if points.empty:
        return note("Too few lengths to fit a cost model.", 1.2)
    figure = canvas(style.WIDE_COLUMN, max(3.7, 1.1 + labels.height_of_names(len(shown))))
    axes = figure.subplots()
    ends = points[["observed_ms", "predicted_ms"]].to_numpy(float)
    span = (0.85 * ends.min(), 1.18 * ends.max())
    axes.plot(span, span, color="#999999", linewidth=0.8, zorder=1)
    names = []
    for name in shown:
        look = looks[name]
        for model, face in ((plain, "white"), (full, look.colour)):
            own = points[(points["system"] == name) & (points["model"] == model)]
            points_of(axes, own["observed_ms"], own["predicted_ms"], look, face)
        # `own` holds the filled markers
        names.append(Name(float(own["observed_ms"].max()), float(own["predicted_ms"].max()), look))
    both_ratio_axes(axes)
    axes.set(xlim=span, ylim=span, xlabel="Observed (ms per text)", ylabel="Predicted (ms per text)")
    key = "Open: equation 5. Filled: with a constant per layer. On the line, the prediction is exact."
    headline(figure, _title(points), key)
    labels.beside(figure, {axes: names})
    return figure, list(_spots(axes, points))


FIGURE = Figure("cost", plot_cost, reads=("summary", "curve:cost"), place="cost model", may_be_empty=("curve:cost",))


def _title(points: pd.DataFrame) -> str:
    """The errors of both models over all points."""
    spans = [
        rounding.span(points.loc[points["model"] == model, "error"].tolist(), rounding.signed_percent, " %")
        for model in COST_MODELS
    ]
    return f"Equation 5 errs by {spans[0]}, with a constant per layer by {spans[1]}"


def _spots(axes: Axes, points: pd.DataFrame) -> Iterator[Spot]:
    for row in points.to_dict("records"):
        text = (
            f"{at_threshold(row['system'], row['tau'])}, {row['model']}: predicted "
            f"{rounding.milliseconds(row['predicted_ms'])} ms, observed {rounding.milliseconds(row['observed_ms'])} ms "
            f"({rounding.signed_percent(row['error'])} %)"
        )
        yield Spot(axes, row["observed_ms"], row["predicted_ms"], text)
