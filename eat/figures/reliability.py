"""Accuracy against confidence at each exit, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from eat import rounding
from eat.errors import EatError
from eat.figures import style
from eat.figures.canvas import Drawing, at_most, canvas, headline, percent_axis, wrapped
from eat.figures.figure import Figure
from eat.figures.style import Look, Spot
from eat.results.rows import in_precision_of, is_true, of_task, rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MANY = 5
"""With more systems than this, one exit of each is shown."""


def plot_reliability(summary: pd.DataFrame, reliability: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw accuracy against confidence at each exit, before and after temperature scaling.

    There is a row for each system in the reference's precision with early exits (for every system if none has any) and
    a column for each exit. With more than `MANY` systems, only the deepest early exit of each is shown. The area of a
    marker grows with the number of texts in its bin. summary: summary.csv. reliability: curves/reliability.csv.

    Raises `EatError` if the curves contain none of the systems.
    """
    rows = rows_of(summary, task)
    curves = of_task(reliability, task)
    curves = curves[curves["n"] > 0]
    looks = style.looks(rows, reference)
    lines = _lines(curves, [name for name in looks if name in in_precision_of(rows, reference)])
    if not lines:
        raise EatError(f"task {task!r}: the reliability curves contain no system of the summary")
    columns = max(len(line) for line in lines)
    start = np.floor(10 * min(float(curves["confidence"].min()), float(curves["accuracy"].min()))) / 10
    width = style.WIDE_COLUMN if columns <= 2 else style.FULL
    figure = canvas(width, 0.65 + (width - 0.5) / max(columns, 3) * len(lines) + 0.2 * len(lines))
    grid = figure.subplots(len(lines), columns, sharex=True, sharey=True, squeeze=False)
    spots: list[Spot] = []
    for panels, line in zip(grid, lines, strict=True):
        for panel in panels[len(line) :]:
            panel.set_axis_off()
        for place, (panel, (name, depth)) in enumerate(zip(panels, line, strict=False)):
            own = curves[(curves["system"] == name) & (curves["exit"] == depth)]
            _draw_reliability(panel, own, looks[name])
            spots += _spots(panel, own, name)
            is_first = place == 0 or line[place - 1][0] != name
            room = max(19, 14 * (columns - place)) if line[-1][0] == name else 19
            title = f"{wrapped(looks[name].label, room)}\n" if is_first else ""
            panel.set_title(f"{title}layer {depth}", fontsize=7, pad=3, loc="left")
            panel.set(xlim=(start - 0.03, 1.03), ylim=(start - 0.03, 1.03))
            at_most(panel.xaxis, 3)
            at_most(panel.yaxis, 4)
    for column in grid.T:  # the lowest visible panel, which may have empty places below it
        next(panel for panel in column[::-1] if panel.axison).tick_params(labelbottom=True)
    figure.supxlabel("Confidence (%)", fontsize=8)
    figure.supylabel("Accuracy (%)", fontsize=8)
    key = "Open: raw. Filled: calibrated. On the line, confidence equals accuracy."
    headline(figure, _title(rows, {name for line in lines for name, _ in line}), key)
    return figure, spots


FIGURE = Figure("reliability", plot_reliability, reads=("summary", "curve:reliability"), place="calibration")


def _title(rows: pd.DataFrame, shown: set[str]) -> str:
    """For how many of the systems with fitted temperatures scaling lowers the calibration error at the chosen point."""
    fitted = rows["system"].isin(shown) & (rows["calibration"] != "raw")
    chosen = rows[fitted & is_true(rows["chosen"])].drop_duplicates("system")
    if chosen.empty:
        return "No temperature is fitted"
    lower = int((chosen["ece_calibrated"] < chosen["ece_raw"]).sum())
    return (
        f"Temperature scaling lowers the calibration error of {rounding.count(lower)} of {rounding.count(len(chosen))} "
        "systems"
    )


def _lines(curves: pd.DataFrame, known: list[str]) -> list[list[tuple[str, int]]]:
    """The panels, (system, exit), line by line."""
    exits = {
        name: sorted(int(depth) for depth in curves.loc[curves["system"] == name, "exit"].unique()) for name in known
    }
    present = [name for name in known if exits[name]]
    shown = [name for name in present if len(exits[name]) > 1] or present
    if len(shown) <= MANY:
        return [[(name, depth) for depth in exits[name]] for name in shown]
    deepest = [(name, exits[name][max(len(exits[name]) - 2, 0)]) for name in shown]
    return [deepest[start : start + MANY] for start in range(0, len(deepest), MANY)]


def _spots(panel: Axes, own: pd.DataFrame, system: str) -> Iterator[Spot]:
    for row in own.to_dict("records"):
        text = (
            f"{system}, layer {rounding.count(row['exit'])}, {row['stage']}: {rounding.with_percent(row['accuracy'])} "
            f"correct at a confidence of {rounding.with_percent(row['confidence'])}, {rounding.count(row['n'])} texts"
        )
        yield Spot(panel, row["confidence"], row["accuracy"], text)


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
        percent_axis(axis)
