"""The figures of the bench, in the style of the study's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter

from eat.figures import style
from eat.figures.canvas import canvas, entry, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")

_COLOURS = ("#000000", "#0072B2", "#E69F00", "#CC3D00", "#009E73", "#CC79A7", "#56B4E9", "#8C5A00", "#5E3C99")
_STOCK = "#767676"
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p", "<", ">", "h", "d", "H", "8")
Dashes = Literal["-", "--", ":", "-."]
Look = tuple[str, str, Dashes]
"""Colour, marker and dashes of a system."""
_DASHES: dict[str, Dashes] = {"float32": "-", "float16": "-.", "bfloat16": ":", "int8": "--"}


def _looks(table: pd.DataFrame) -> dict[str, Look]:
    """Stock models are grey, dashes show the precision."""
    found: dict[str, Look] = {}
    colours = 0
    for name, precision in table[["system", "precision"]].drop_duplicates().itertuples(index=False):
        colour = _STOCK
        if not name.startswith("hf-"):
            colour, colours = _COLOURS[colours % len(_COLOURS)], colours + 1
        found[name] = (colour, _MARKERS[len(found) % len(_MARKERS)], _DASHES.get(precision, "-"))
    return found


def plot_engine(table: pd.DataFrame) -> Figure:
    """Speed-up over stock sdpa against length, a panel per batch size; mixed lengths: a dot per system and order."""
    looks = _looks(table)
    reference = table["system"].iloc[0]
    sizes = list(dict.fromkeys(table["batch_size"]))
    equal, mixed = table[table["case"] != "mixed"], table[table["case"] == "mixed"]
    panels = [(size, equal[equal["batch_size"] == size], "equal") for size in sizes if len(equal)]
    panels += [(size, rows, "mixed") for size in sizes if len(rows := mixed[mixed["batch_size"] == size])]
    labels = [style.drawable(name) for name in looks]
    width, columns = style.FULL, min(len(panels), 2)
    lines = -(-len(panels) // columns)
    figure = canvas(width, 2.9 * lines + style.legend_height(labels, width))
    for axes, (size, rows, kind) in zip(figure.subplots(lines, columns, squeeze=False).ravel(), panels, strict=False):
        axes.axhline(1.0, color="#999999", linewidth=0.8, zorder=1)
        (_draw_lines if kind == "equal" else _draw_dots)(axes, rows, looks)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(_PLAIN)
        axes.set(title=f"batch {size}, {kind} lengths", ylabel=f"Speed-up over {reference}")
    for axes in figure.axes[len(panels) :]:
        axes.set_axis_off()
    _legend(figure, looks, width)
    return figure


def _draw_lines(axes: Axes, rows: pd.DataFrame, looks: dict[str, Look]) -> None:
    for name, (colour, marker, dashes) in looks.items():
        own = rows[rows["system"] == name].sort_values("length")
        if own.empty:
            continue
        bars = np.abs(np.stack([own["speedup"] - own["speedup_low"], own["speedup_high"] - own["speedup"]]))
        axes.errorbar(
            own["length"].astype(float), own["speedup"], yerr=bars, color=colour, marker=marker, linestyle=dashes,
            elinewidth=0.5, markersize=3.2, alpha=0.45 if name.endswith("-again") else 1.0,
        )  # fmt: skip
    _log_sizes(axes, sorted(set(rows["length"].astype(int))))
    axes.set_xlabel("Length (tokens)")


def _draw_dots(axes: Axes, rows: pd.DataFrame, looks: dict[str, Look]) -> None:
    orders = list(dict.fromkeys(rows["order"]))
    for name, (colour, marker, dashes) in looks.items():
        own = rows[rows["system"] == name]
        places = [orders.index(order) for order in own["order"]]
        axes.plot(places, own["speedup"], color=colour, marker=marker, linestyle=dashes, linewidth=0.7, markersize=4)
    axes.set_xticks(range(len(orders)), orders)
    axes.set_xlim(-0.3, len(orders) - 0.7)
    axes.set_xlabel("Order of the texts")


def plot_growth(table: pd.DataFrame) -> Figure:
    """Time and memory against length at batch 1, and per text and call against batch size; all axes are logarithmic."""
    systems = list(dict.fromkeys(table["system"]))
    looks: dict[str, Look] = {
        name: (_STOCK if name.startswith("hf-") else _COLOURS[index % len(_COLOURS)], _MARKERS[index], "-")
        for index, name in enumerate(systems)
    }
    labels = [style.drawable(name) for name in systems]
    width = style.FULL
    figure = canvas(width, 4.8 + style.legend_height(labels, width))
    panels = figure.subplots(2, 2, squeeze=False)
    for column, (against, title) in enumerate((("length", "Length (tokens)"), ("batch", "Batch size"))):
        rows = table[table["against"] == against]
        divisor = rows["batch_size"] if against == "batch" else 1
        for axes, values, named in (
            (panels[0, column], rows["ms_p50"] / divisor, "Time (ms)" if against == "length" else "Time per text (ms)"),
            (panels[1, column], rows["call_mb"], "Memory of a call (MB)"),
        ):
            for name, (colour, marker, line) in looks.items():
                own = rows["system"] == name
                sizes = rows.loc[own, "size"].astype(float)
                drawn = values[own].astype(float)
                shown = drawn.notna() & (drawn > 0)
                axes.plot(
                    sizes[shown], drawn[shown], color=colour, marker=marker, linestyle=line, markersize=3.2,
                    linewidth=1.0,
                )  # fmt: skip
            if (values.astype(float) > 0).any():
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(_PLAIN)
                positive = values[values.astype(float) > 0].astype(float)
                wide = positive.max() > 10 * positive.min()
                axes.yaxis.set_minor_formatter(NullFormatter() if wide else _PLAIN)
            else:
                axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
            _log_sizes(axes, sorted({int(size) for size in rows["size"]}))
            axes.set(xlabel=title, ylabel=named)
    _legend(figure, looks, width)
    return figure


def plot_training(table: pd.DataFrame) -> Figure:
    """Tokens per second of each way to train, and the speed-up over padded training; grouped by number of threads."""
    figure = canvas(style.FULL, 0.9 + 0.32 * table["system"].nunique() * table["threads"].nunique())
    left, right = figure.subplots(1, 2, sharey=True)
    ticks = []
    for place, row in enumerate(table.itertuples(index=False)):
        colour = _COLOURS[2] if str(row.system).startswith("packed") else _STOCK
        left.barh(place, row.tokens_per_s, color=colour, height=0.7)
        low, high = float(row.speedup) - float(row.speedup_low), float(row.speedup_high) - float(row.speedup)  # type: ignore[arg-type]
        right.errorbar(row.speedup, place, xerr=[[max(low, 0)], [max(high, 0)]], color=colour, marker="o", markersize=4)
        ticks.append(f"{style.drawable(str(row.system))}, {row.threads} thread{'s' if row.threads != 1 else ''}")
    left.set_yticks(range(len(ticks)), ticks)
    left.set_ylim(len(ticks) - 0.4, -0.6)
    left.set_xlabel("Tokens per second")
    right.axvline(1.0, color="#999999", linewidth=0.8, zorder=1)
    right.set_xlabel("Speed-up over padded training")
    return figure


def _log_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    """A logarithmic axis of base 2, labelled at sizes that are powers of two, or at all sizes if few are."""
    axes.set_xscale("log", base=2)
    powers = [size for size in sizes if size & (size - 1) == 0]
    axes.set_xticks(powers if len(powers) > 1 else list(sizes))
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelrotation=45 if len(sizes) > 8 else 0)


def _legend(figure: Figure, looks: Mapping[str, Look], width: float) -> None:
    handles = [
        entry(color=colour, marker=marker, linestyle=line, markersize=4) for colour, marker, line in looks.values()
    ]
    legend(figure, handles, [style.drawable(name) for name in looks], width)
