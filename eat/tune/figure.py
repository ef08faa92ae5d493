"""The figure of a search: accuracy against predicted time on the calibration texts, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eat import rounding
from eat.figures import style
from eat.figures.canvas import Drawing, canvas, entry, legend, percent_axis, ratio_axis
from eat.figures.style import Spot
from eat.tune.options import Budget, Point
from eat.tune.search import Found
from eat.tune.tables import front_of

_GREY, _BLUE, _ORANGE, _BLACK = "#767676", "#0072B2", "#E69F00", "#000000"

LABELS = ("trial", "pruned", "hand-made exits", "best", "Pareto front", "budget")


def write_figure(found: Sequence[Found], best: Found, budget: Budget, dense: Point, pdf: Path, svg: Path) -> None:
    """Draw the trials and save the figure. dense: the reference."""
    style.write(lambda: plot_search(found, best, budget, dense), pdf, svg)


def plot_search(found: Sequence[Found], best: Found, budget: Budget, dense: Point) -> Drawing:
    """Every trial at its best threshold, and the points of all curves that no other dominates.

    Hand-made exits are those of `adapt-6`. A trial that is far less accurate than the reference is not shown.
    """
    figure = canvas(style.COLUMN * 1.5, 3.0 + style.legend_height(list(LABELS), style.COLUMN * 1.5))
    axes = figure.subplots()
    front = [point for _, point in front_of(found)]
    lowest = min([dense.accuracy - 0.06, best.point.accuracy - 0.01])
    axes.plot(
        [point.ms for point in front],
        [point.accuracy for point in front],
        drawstyle="steps-post",
        color=_BLUE,
        zorder=2,
    )
    spots = [Spot(axes, dense.ms, dense.accuracy, _described("the reference", dense))]
    axes.plot([dense.ms], [dense.accuracy], linestyle="", marker="s", color=_BLACK, zorder=3)
    for one in found:
        if one.point.accuracy < lowest:
            continue
        colour, marker, face = _look(one)
        axes.plot(
            [one.point.ms], [one.point.accuracy], linestyle="", marker=marker, color=colour, markerfacecolor=face,
            markersize=4.5, zorder=4,
        )  # fmt: skip
        spots.append(Spot(axes, one.point.ms, one.point.accuracy, _described(one.candidate.row, one.point)))
    axes.plot([best.point.ms], [best.point.accuracy], linestyle="", marker="*", color=_ORANGE, markersize=9.0, zorder=5)
    if budget.kind == "accuracy_loss":
        axes.axhline(dense.accuracy - budget.limit, color=_GREY, linewidth=0.8, linestyle=":")
    ratio_axis(axes)
    percent_axis(axes.yaxis)
    axes.set_ylim(bottom=lowest - 0.002)
    axes.set(xlabel="Predicted time of a text (ms, batch 1)", ylabel="Accuracy on calibration texts (%)")
    handles = [
        entry(linestyle="", marker="o", color=_GREY, markerfacecolor=_GREY),
        entry(linestyle="", marker="o", color=_GREY, markerfacecolor="white"),
        entry(linestyle="", marker="D", color=_BLUE, markerfacecolor="white"),
        entry(linestyle="", marker="*", color=_ORANGE, markersize=9.0),
        entry(color=_BLUE),
        entry(color=_GREY, linewidth=0.8, linestyle=":"),
    ]
    labels = list(LABELS)
    if budget.kind != "accuracy_loss":
        # a line of the mean time cannot show a limit of the 90th percentile
        handles, labels = handles[:-1], labels[:-1]
    legend(figure, handles, labels, style.COLUMN * 1.5)
    return figure, spots


def _look(one: Found) -> tuple[str, str, str]:
    """Colour, marker and face."""
    if one.is_hand_made:
        return _BLUE, "D", "white"
    return _GREY, "o", _GREY if one.state == "complete" else "white"


def _described(name: str, point: Point) -> str:
    at = "" if point.tau >= 1 else f", threshold {point.tau:g}"
    return (
        f"{name}{at}: {rounding.with_percent(point.accuracy)}, {rounding.milliseconds(point.ms)} ms, "
        f"90th percentile {rounding.milliseconds(point.p90_ms)} ms"
    )
