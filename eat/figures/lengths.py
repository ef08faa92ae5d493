"""Tokens alive when a prediction is made, by the length of the input (figure 5 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eat import rounding
from eat.figures import labels, style
from eat.figures.canvas import Drawing, at_most, canvas, headline, note, percent_axis
from eat.figures.figure import Figure
from eat.figures.labels import Name
from eat.figures.style import Spot
from eat.results.rows import in_setting_of, is_true, of_task, rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_lengths(summary: pd.DataFrame, lengths: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw final retention against the length of the input, at the chosen threshold of each adaptive system.

    The panel below shows the number of texts in each bin of length. summary: summary.csv. lengths: curves/lengths.csv.
    """
    rows = rows_of(summary, task)
    curves = of_task(lengths, task)
    curves = curves[is_true(curves["chosen"]) & (curves["n"] > 0)]
    looks = style.looks(rows, reference)
    known = set(curves["system"]) & in_setting_of(rows, reference)
    shown = [name for name, look in looks.items() if look.role == "adaptive" and name in known]
    if not shown:
        return note("No system of this study is adaptive.", 3.0)
    figure = canvas(style.WIDE_COLUMN, max(3.3, 1.6 + labels.height_of_names(len(shown))))
    spots: list[Spot] = []
    names = []
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    for order, name in enumerate(shown):
        own = curves[curves["system"] == name].sort_values("length_mean")
        look = looks[name]
        size = 3.0 + 2.5 * (1 - order / len(shown))  # a line below another one remains visible at its edges
        upper.plot(
            own["length_mean"], own["retention"], color=look.colour, marker=look.marker, markersize=size,
            linewidth=size / 3,
        )  # fmt: skip
        spots += _spots(upper, own, name)
        names.append(Name(float(own["length_mean"].iloc[-1]), float(own["retention"].iloc[-1]), look))
    upper.set(ylabel="Final retention (%)", ylim=(0, 1.05))
    percent_axis(upper.yaxis)
    bins = curves[curves["system"] == shown[0]].sort_values("low")
    lower.bar(bins["low"], bins["n"], bins["high"] - bins["low"], align="edge", color="#BBBBBB", edgecolor="white")
    lower.set(xlabel="Length of the input (tokens)", ylabel="Texts")
    at_most(lower.yaxis, 2, whole=True)
    figure.align_ylabels()
    headline(figure, _title(curves, shown))
    labels.beside(figure, {upper: names}, leads=True)
    return figure, spots


FIGURE = Figure("lengths", plot_lengths, reads=("summary", "curve:lengths"), place="adaptive")


def _title(curves: pd.DataFrame, shown: list[str]) -> str:
    """How many systems keep a smaller share of the tokens on the longest texts than on the shortest."""
    ends = [
        curves[curves["system"] == name].sort_values("length_mean")["retention"].iloc[[0, -1]].tolist()
        for name in shown
    ]
    fewer = sum(long < short for short, long in ends)
    return (
        f"{rounding.count(fewer)} of {rounding.count(len(shown))} systems keep a smaller share of the tokens on the "
        "longest texts than on the shortest"
    )


def _spots(panel: Axes, own: pd.DataFrame, system: str) -> Iterator[Spot]:
    for row in own.to_dict("records"):
        longest = rounding.count(row["high"] - 1)
        text = (
            f"{system}, {rounding.count(row['low'])} to {longest} tokens: {rounding.with_percent(row['retention'])} "
            f"alive at the prediction, {rounding.count(row['n'])} texts"
        )
        yield Spot(panel, row["length_mean"], row["retention"], text)
