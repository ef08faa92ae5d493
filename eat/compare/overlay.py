"""Two states of a frontier in one figure."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes

from eat import rounding
from eat.compare.states import State
from eat.figures import style
from eat.figures.canvas import Drawing, at_threshold, canvas, entry, legend, line_of, percent_axis, ratio_axis
from eat.figures.style import Spot
from eat.results.rows import is_true, rows_of, without_repeats
from eat.study.stock import STOCK


def plot_overlay(before: State, after: State, task: str, reference: str) -> Drawing:
    """Draw accuracy against the speed-up at batch 1: the earlier state in outline and dotted, the later one filled.

    The speed-up is used instead of the latency because it is a ratio within one process.
    """
    parts = {state.name: _drawn(rows_of(state.summary, task)) for state in (before, after)}
    looks = style.looks(pd.concat([rows_of(state.summary, task) for state in (before, after)]), reference)
    shown = [name for name in looks if any(name in set(rows["system"]) for rows in parts.values())]
    entries = [*(looks[name].label for name in shown), "before", "after"]
    figure = canvas(style.FULL, 3.4 + style.legend_height(entries, style.FULL))
    axes = figure.subplots()
    spots: list[Spot] = []
    for name, rows in parts.items():
        is_old = name == before.name
        for system, own in rows.sort_values("tau").groupby("system", sort=False):
            look = looks[str(system)]
            axes.plot(
                own["speedup_vs_dense"], own["accuracy"], color=look.colour, marker=look.marker, markersize=4.2,
                markerfacecolor="white" if is_old else look.colour, linestyle=":" if is_old else "-",
                alpha=0.6 if is_old else 1.0, linewidth=0.9,
            )  # fmt: skip
        spots += _spots(axes, rows, name)
    ratio_axis(axes)
    percent_axis(axes.yaxis)
    axes.set(xlabel=f"Speed-up against {STOCK}, median (batch 1)", ylabel="Accuracy (%)")
    handles = [line_of(looks[name]) for name in shown]
    handles.append(entry(color="#444444", marker="o", markerfacecolor="white", linestyle=":"))
    handles.append(entry(color="#444444", marker="o"))
    legend(figure, handles, entries, style.FULL)
    return figure, spots


def _drawn(rows: pd.DataFrame) -> pd.DataFrame:
    is_drawn = (rows["batch_size"] == 1) & rows["accuracy"].notna() & rows["speedup_vs_dense"].notna()
    return without_repeats(rows[is_drawn])


def _spots(axes: Axes, rows: pd.DataFrame, state: str) -> Iterator[Spot]:
    for row in rows.assign(is_chosen=is_true(rows["chosen"])).to_dict("records"):
        within = rounding.interval(row["speedup_low"], row["speedup_high"], rounding.speedup)
        chosen = ", chosen" if row["is_chosen"] and pd.notna(row["tau"]) else ""
        text = (
            f"{state}: {at_threshold(row['system'], row['tau'])}{chosen}: {rounding.with_percent(row['accuracy'])}, "
            f"{rounding.x_times(row['speedup_vs_dense'])} {within}"
        )
        yield Spot(axes, row["speedup_vs_dense"], row["accuracy"], text)
