"""The share of texts that exit after each layer (figure 6 of the paper, for every threshold)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eat import rounding
from eat.figures import style
from eat.figures.canvas import Drawing, at_threshold, canvas, entry, headline, legend, note, percent_axis, wrapped
from eat.figures.figure import Figure
from eat.figures.style import Spot
from eat.results.rows import in_precision_of, is_true, of_task, rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_exits(summary: pd.DataFrame, exits: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw the share of texts that exit after each layer: one stacked bar per threshold of each system with exits.

    Systems that have no exit rule are left out, and so are systems in a precision other than the reference's.
    summary: summary.csv. exits: curves/exits.csv.
    """
    from matplotlib.patches import Patch

    rows = rows_of(summary, task)
    curves = of_task(exits, task)
    curves = curves[curves["tau"].notna() | (curves["fraction"] > 0)]
    looks = style.looks(rows, reference)
    several = curves.groupby("system")["exit"].nunique() > 1
    plain = in_precision_of(rows, reference)
    shown = [name for name in looks if name in plain and several.get(name, False)]
    if not shown:
        return note("No system of this study has an early exit.", 1.0)
    groups = [(name, _thresholds(curves[curves["system"] == name])) for name in shown]
    layers = int(curves["exit"].max())
    depths = sorted(int(depth) for depth in curves.loc[curves["system"].isin(shown), "exit"].unique())
    names = [f"after layer {depth}" for depth in depths]
    columns = _columns(groups)
    tallest = max(_height(column) for column in columns)
    width = style.COLUMN if len(columns) == 1 else style.FULL
    figure = canvas(width, 0.75 + tallest + style.legend_height(names, width))
    spots: list[Spot] = []
    parts = figure.subfigures(1, len(columns), squeeze=False)[0]
    for part, column in zip(parts, columns, strict=True):
        # a shorter column is filled up with empty space, so that all bars have the same height
        heights = [len(taus) + 0.3 for _, taus in column]
        rest = (tallest - _height(column)) / BAR_HEIGHT
        panels = part.subplots(
            len(column) + (rest > 0), 1, sharex=True, squeeze=False, height_ratios=heights + [rest] * (rest > 0)
        )[:, 0]
        for panel, (name, taus) in zip(panels, column, strict=False):
            spots += _draw_exits(panel, curves[curves["system"] == name], taus, layers)
            panel.set_title(wrapped(looks[name].label, 38), loc="left", pad=2.5)
        for panel in panels[len(column) :]:
            panel.set_axis_off()
        panels[len(column) - 1].set_xlabel("Texts (%)")
        panels[len(column) - 1].tick_params(labelbottom=True)
    handles = [Patch(**_fill(depth, layers)) for depth in depths]
    arrow = entry(linestyle="", marker=">", color="black")
    legend(figure, [*handles, arrow], [*names, "chosen"], width)
    headline(figure, _title(curves[curves["system"].isin(shown)]))
    return figure, spots


FIGURE = Figure("exits", plot_exits, reads=("summary", "curve:exits"), place="adaptive")


def _title(curves: pd.DataFrame) -> str:
    """The shares of texts that exit before the last layer of their system, at the chosen points."""
    chosen = curves[is_true(curves["chosen"])]
    last = chosen.groupby("system")["exit"].transform("max")
    early = chosen["fraction"].where(chosen["exit"] < last, 0.0).groupby(chosen["system"]).sum().tolist()
    return f"At the chosen thresholds {rounding.span(early, rounding.percent, ' %')} of the texts exit early"


_Group = tuple[str, list[float | None]]
"""A system and its thresholds, with one bar each."""

BAR_HEIGHT = 0.17
"""Inches."""
TALLEST = 7.0
"""The height in inches of a column of bars above which a second column is used."""


def _height(column: list[_Group]) -> float:
    return sum(BAR_HEIGHT * len(taus) + 0.27 for _, taus in column)


def _columns(groups: list[_Group]) -> list[list[_Group]]:
    """The systems in at most three columns of similar height, in their order."""
    number = min(3, -(-int(_height(groups) * 100) // int(TALLEST * 100)))
    columns: list[list[_Group]] = [[]]
    for group in groups:
        if columns[-1] and _height([*columns[-1], group]) > _height(groups) / number + 0.5 and len(columns) < number:
            columns.append([])
        columns[-1].append(group)
    return columns


def _draw_exits(panel: Axes, own: pd.DataFrame, taus: list[float | None], layers: int) -> list[Spot]:
    """Draw the bars of a system; returns the spots of their segments."""
    ticks, spots = [], []
    for row, tau in enumerate(taus):
        bar = own[own["tau"].isna()] if tau is None else own[own["tau"] == tau]
        bar = bar.sort_values("exit")
        left = 0.0
        for depth, fraction in zip(bar["exit"].astype(int), bar["fraction"].astype(float), strict=True):
            colour = style.exit_colour(depth, layers)
            panel.barh(row, fraction, left=left, height=0.82, **_fill(depth, layers))
            spots.append(_spot(panel, bar, depth, fraction, left, row))
            if fraction >= 0.09:
                panel.text(
                    left + fraction / 2, row, f"{100 * fraction:.0f}", ha="center", va="center_baseline",
                    fontsize=style.SMALL, color=style.ink_on(colour),
                    bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6},
                )  # fmt: skip
            left += fraction
        ticks.append(
            ("\N{BLACK RIGHT-POINTING TRIANGLE} " if is_true(bar["chosen"]).any() else "") + _tau_name(tau, taus)
        )
    panel.set_yticks(range(len(taus)), ticks)
    panel.set_ylim(len(taus) - 0.4, -0.6)
    panel.set_xlim(0, 1)
    percent_axis(panel.xaxis)
    panel.grid(False)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    return spots


def _fill(depth: int, layers: int) -> dict[str, Any]:
    """How the share of texts that exit after layer `depth` is filled."""
    hatch = {"hatch": "//////", "hatch_linewidth": 0.3} if depth >= layers else {}
    return {"facecolor": style.exit_colour(depth, layers), "edgecolor": "#777777", "linewidth": 0.4, **hatch}


def _spot(panel: Axes, bar: pd.DataFrame, depth: int, fraction: float, left: float, row: int) -> Spot:
    point = at_threshold(bar["system"].iloc[0], bar["tau"].iloc[0])
    texts = f"{rounding.with_percent(fraction)} of {rounding.count(bar['n'].iloc[0])} texts"
    return Spot(panel, left, row - 0.41, f"{point}: {texts} exit after layer {depth}", left + fraction, row + 0.41)


def _tau_name(tau: float | None, taus: list[float | None]) -> str:
    """The name of an operating point; beside thresholds, the point without one has those that calibration found."""
    if tau is None:
        return "no threshold" if len(taus) == 1 else "chosen"
    return f"\N{GREEK SMALL LETTER TAU} = {rounding.threshold(tau)}"


def _thresholds(rows: pd.DataFrame) -> list[float | None]:
    taus = sorted(float(tau) for tau in rows["tau"].dropna().unique())
    return [*([None] if rows["tau"].isna().any() else []), *taus]
