"""Two states of a frontier in one figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eat import rounding
from eat.compare.states import State
from eat.figures import labels, style
from eat.figures.canvas import Drawing, at_threshold, canvas, entry, legend, percent_axis, ratio_axis
from eat.figures.labels import Label
from eat.figures.style import Look, Spot
from eat.results.picks import is_choice
from eat.results.rows import is_true, rows_of, without_repeats
from eat.study.stock import STOCK


def plot_overlay(before: State, after: State, task: str, reference: str) -> Drawing:
    """Draw accuracy against the speed-up at batch 1: the earlier state in outline and dotted, the later one filled.

    The speed-up is used instead of the latency because it is a ratio within one process.
    """
    parts = {state.name: _drawn(rows_of(state.summary, task)) for state in (before, after)}
    looks = style.looks(pd.concat([rows_of(state.summary, task) for state in (before, after)]), reference)
    entries = ["before", "after", "chosen on the calibration split"]
    figure = canvas(style.FULL, 4.2 + style.legend_height(entries, style.FULL))
    axes = figure.subplots()
    spots: list[Spot] = []
    for name, rows in parts.items():
        is_old = name == before.name
        for system, own in rows.sort_values("tau").groupby("system", sort=False):
            look = looks[str(system)]
            looks_of: dict[str, Any] = {
                "color": look.colour, "marker": look.marker, "markerfacecolor": "white" if is_old else look.colour,
                "alpha": 0.6 if is_old else 1.0,
            }  # fmt: skip
            line = own[own["tau"].notna()]  # a point with a threshold for each exit is in no order
            axes.plot(
                line["speedup_vs_dense"], line["accuracy"], linestyle=":" if is_old else "-", linewidth=0.9,
                markersize=3.0, **looks_of,
            )  # fmt: skip
            chosen = own[is_true(own["chosen"])]
            axes.plot(chosen["speedup_vs_dense"], chosen["accuracy"], linestyle="", markersize=6.0, **looks_of)
        spots += _spots(axes, rows, name)
    ratio_axis(axes)
    percent_axis(axes.yaxis)
    axes.set(xlabel=f"Speed-up against {STOCK}, median (batch 1)", ylabel="Accuracy (%)")
    handles = [
        entry(color="#444444", marker="o", markersize=3.0, markerfacecolor="white", linestyle=":"),
        entry(color="#444444", marker="o", markersize=3.0),
        entry(color="#444444", marker="o", markersize=6.0, linestyle=""),
    ]
    legend(figure, handles, entries, style.FULL)
    _name(figure, axes, parts, after.name, looks)
    return figure, spots


def _name(figure: Figure, axes: Axes, parts: dict[str, pd.DataFrame], after: str, looks: dict[str, Look]) -> None:
    """The name of each system beside its chosen point, of the later state if it is there."""
    figure.draw_without_rendering()
    columns = ["speedup_vs_dense", "accuracy"]
    chosen = {name: rows[is_true(rows["chosen"])] for name, rows in parts.items()}
    taken = [box for rows in chosen.values() for box in labels.around(axes, rows[columns].to_numpy(float), 4.0)]
    points = pd.concat([chosen[after], *chosen.values()]).drop_duplicates("system").to_dict("records")
    made = [
        Label(
            row["speedup_vs_dense"], row["accuracy"], looks[row["system"]].label,
            style.darker(looks[row["system"]].colour),
        )
        for row in points
    ]  # fmt: skip
    labels.place(figure, axes, made, taken, far=True)


def _drawn(rows: pd.DataFrame) -> pd.DataFrame:
    is_drawn = (rows["batch_size"] == 1) & rows["accuracy"].notna() & rows["speedup_vs_dense"].notna()
    return without_repeats(rows[is_drawn])


def _spots(axes: Axes, rows: pd.DataFrame, state: str) -> Iterator[Spot]:
    for row in rows.to_dict("records"):
        within = rounding.interval(row["speedup_low"], row["speedup_high"], rounding.speedup)
        chosen = ", chosen" if is_choice(row) else ""
        text = (
            f"{state}: {at_threshold(row['system'], row['tau'])}{chosen}: {rounding.with_percent(row['accuracy'])}, "
            f"{rounding.x_times(row['speedup_vs_dense'])} {within}"
        )
        yield Spot(axes, row["speedup_vs_dense"], row["accuracy"], text)
