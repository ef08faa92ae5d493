"""Tokens alive: after each layer as scheduled and observed (figure 2 of the paper), and by length (figure 5)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from eat import rounding
from eat.figures import style
from eat.figures.canvas import PER_CENT, Output, canvas, legend, line_of, say, wrapped
from eat.figures.style import Look, Spot
from eat.results.rows import chosen_thresholds, in_precision_of, is_true, of_task, rows_of


def plot_retention(
    summary: pd.DataFrame, retention: pd.DataFrame, task: str, reference: str, *, out_pdf: Output, out_svg: Output
) -> None:
    """The part of the tokens alive after each layer: as scheduled, and as observed.

    A panel for each system in the reference's precision that removes tokens; a reducer that learns how many has no
    schedule. Filled markers: all examples, run to full
    depth; open markers: at the chosen threshold, over the examples still running at that layer.
    """
    rows = rows_of(summary, task)
    curves = of_task(retention, task)
    looks = style.looks(rows, reference)
    removing = set(curves.loc[(curves["scheduled"] < 1) | (curves["observed"] < 1), "system"])
    shown = [name for name in looks if name in removing & in_precision_of(rows, reference)]
    chosen = chosen_thresholds(rows)
    with style.figure_style():
        columns = min(4 if len(shown) > 6 else 3, max(1, len(shown)))
        width = style.COLUMN if columns == 1 else style.FULL
        lines = -(-len(shown) // columns)
        figure = canvas(width, 0.55 + 1.75 * max(1, lines))
        if not shown:
            say(figure, "No system of this study removes tokens.")
        panels: list[Axes] = []
        if shown:
            panels = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel())
        spots: list[Spot] = []
        for panel, name in zip(panels, shown, strict=False):
            own = curves[curves["system"] == name]
            _draw_retention(panel, own, chosen.get(name), looks[name])
            panel.set_title(wrapped(looks[name].label, 22 if columns > 3 else 30))
            spots += _layer_spots(panel, own[own["over"] == "all"], name)
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        if shown:
            figure.supxlabel("Layer", fontsize=8)
            figure.supylabel("Tokens alive (%)", fontsize=8)
            handles = [
                Line2D([], [], color="#777777", linestyle="--"),
                Line2D([], [], color="#333333", marker="o"),
                Line2D([], [], color="#333333", marker="o", markerfacecolor="white", linestyle=":"),
            ]
            names = ["scheduled", "observed, all texts", "observed, still running (chosen threshold)"]
            legend(figure, handles, names, width, where="outside upper center")
        style.save(figure, out_pdf, out_svg, spots)


def _layer_spots(panel: Axes, everyone: pd.DataFrame, system: str) -> Iterator[Spot]:
    for row in everyone.to_dict("records"):
        text = (
            f"{system}, after layer {rounding.count(row['layer'])}: {rounding.with_percent(row['observed'])} alive of "
            f"{rounding.count(row['n'])} texts at full depth"
        )
        if not pd.isna(row["scheduled"]):  # what is learned has no schedule
            text += f"; scheduled {rounding.with_percent(row['scheduled'])}"
        yield Spot(panel, row["layer"], row["observed"], text)


def _draw_retention(panel: Axes, own: pd.DataFrame, tau: float | None, look: Look) -> None:
    everyone, still = (own[own["over"] == over].sort_values("layer") for over in ("all", "running"))
    layers = [0, *everyone["layer"].astype(int)]
    if everyone["scheduled"].notna().all():
        panel.step(layers, [1.0, *everyone["scheduled"]], where="post", color="#777777", linestyle="--", linewidth=1.0)
    panel.plot(layers, [1.0, *everyone["observed"]], color=look.colour, marker=look.marker, markersize=3.8)
    running = still[(still["tau"].isna() if tau is None else np.isclose(still["tau"], tau)) & (still["n"] > 0)]
    if not running.empty:
        panel.plot(
            running["layer"],
            running["observed"],
            color=look.colour,
            marker=look.marker,
            markerfacecolor="white",
            markersize=3.8,
            linestyle=":",
        )
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    panel.yaxis.set_major_formatter(PER_CENT)
    panel.set_ylim(0, 1.05)


def plot_lengths(
    summary: pd.DataFrame, lengths: pd.DataFrame, task: str, reference: str, *, out_pdf: Output, out_svg: Output
) -> None:
    """Final retention against the length of the input, for the chosen threshold of each adaptive system.

    The strip below shows how many texts are in each bin of length.
    """
    rows = rows_of(summary, task)
    curves = of_task(lengths, task)
    curves = curves[is_true(curves["chosen"]) & (curves["n"] > 0)]
    looks = style.looks(rows, reference)
    known = set(curves["system"]) & in_precision_of(rows, reference)
    shown = [name for name, look in looks.items() if look.role == "adaptive" and name in known]
    with style.figure_style():
        labels = [looks[name].label for name in shown]
        figure = canvas(style.COLUMN, 2.9 + style.legend_height(labels, style.COLUMN))
        spots: list[Spot] = []
        if not shown:
            say(figure, "No system of this study is adaptive.")
        else:
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
            for order, name in enumerate(shown):
                own = curves[curves["system"] == name].sort_values("length_mean")
                look = looks[name]
                size = 3.0 + 2.5 * (1 - order / len(shown))  # a line below another one still shows at its edges
                upper.plot(
                    own["length_mean"],
                    own["retention"],
                    color=look.colour,
                    marker=look.marker,
                    markersize=size,
                    linewidth=size / 3,
                )
                spots += _length_spots(upper, own, name)
            upper.set_ylabel("Final retention (%)")
            upper.yaxis.set_major_formatter(PER_CENT)
            upper.set_ylim(0, 1.05)
            bins = curves[curves["system"] == shown[0]].sort_values("low")
            lower.bar(
                bins["low"],
                bins["n"],
                width=bins["high"] - bins["low"],
                align="edge",
                color="#BBBBBB",
                edgecolor="white",
            )
            lower.set_ylabel("Texts")
            lower.set_xlabel("Length of the input (tokens)")
            lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=2))
            figure.align_ylabels()
            legend(figure, [line_of(looks[name]) for name in shown], labels, style.COLUMN)
        style.save(figure, out_pdf, out_svg, spots)


def _length_spots(panel: Axes, own: pd.DataFrame, system: str) -> Iterator[Spot]:
    for row in own.to_dict("records"):
        longest = rounding.count(row["high"] - 1)
        text = (
            f"{system}, {rounding.count(row['low'])} to {longest} tokens: {rounding.with_percent(row['retention'])} "
            f"alive when answered, {rounding.count(row['n'])} texts"
        )
        yield Spot(panel, row["length_mean"], row["retention"], text)
