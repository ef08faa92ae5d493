"""The architecture of each system (figure 1 of the paper): layers, token removal, attention, exits."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from eat import rounding
from eat.errors import listed
from eat.figures import style
from eat.figures.canvas import Drawing, canvas, headline
from eat.figures.figure import Figure
from eat.figures.style import Spot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY = 8
"""With more drawings than this, there are five in a row instead of four, and they are smaller."""
LAYER_HEIGHT = 0.52
BELOW, ABOVE = 1.9, 1.9
"""Space for the lines below a drawing and for a name of two lines above it, in layers."""

_READS = {
    "cls": "heads read [CLS]",
    "mean": "heads read the mean",
    "max": "heads read the maximum",
    "cls_mean_max": "heads read [CLS], mean, maximum",
    "attention": "heads attend",
}


@dataclass(frozen=True)
class Drawn:
    """A system as the overview draws it.

    name: the system, or several with the same architecture. shape: the one stored beside its trace. rule: the rule of
    its exits, empty if there are no early exits. taus: its thresholds.
    """

    name: str
    shape: Mapping[str, Any]
    rule: Sequence[str]
    taus: Sequence[float]


def alike(systems: Sequence[Drawn]) -> list[Drawn]:
    """The systems, with one entry for those that differ only in name and precision."""
    groups: dict[str, list[Drawn]] = {}
    for system in systems:
        built = {key: value for key, value in system.shape.items() if key not in ("precision", "parameters")}
        groups.setdefault(repr((built, system.rule, system.taus)), []).append(system)
    return [
        Drawn(listed(one.name for one in same), same[0].shape, same[0].rule, same[0].taus) for same in groups.values()
    ]


def plot_overview(systems: Sequence[Drawn]) -> Drawing:
    """Draw a column of layers for each system, from the input upwards.

    The width of a layer is the scheduled share of tokens that reach it. A reducer without a fixed ratio is named beside
    its layer. A hatched layer attends within a window. An arrow is an exit.
    """
    shown = alike(systems)
    # step: inches from one layer to the next, with a line between
    most, step = (4, 0.28) if len(shown) <= MANY else (5, 0.24)
    columns = min(most, len(shown))
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    tall = [max(int(system.shape["layers"]) for system in row) + BELOW + ABOVE - 1 for row in rows]
    width = style.COLUMN if columns <= 2 else style.FULL
    figure = canvas(width, 0.2 + step * sum(tall))
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=tall)
    spots: list[Spot] = []
    for places, row, units in zip(grid, rows, tall, strict=True):
        for axes, system in zip_longest(places, row):
            axes.set_axis_off()
            axes.set(xlim=(-0.04, 1.62), ylim=(-BELOW, units - BELOW))
            if system is not None:
                spots += _draw_system(axes, system)
    headline(figure, _title(shown))
    return figure, spots


def _title(shown: Sequence[Drawn]) -> str:
    """How many architectures there are, and how many of them adapt to the text in which way."""
    removes = sum(bool(system.shape["reducer"].get("after")) for system in shown)
    exits = sum(bool(system.rule) for system in shown)
    return (
        f"{rounding.count(len(shown))} different architectures: {rounding.count(removes)} remove tokens, "
        f"{rounding.count(exits)} have early exits"
    )


def plot_shapes(shapes: Sequence[Mapping[str, Any]], exit_rules: Mapping[str, Any]) -> Drawing:
    """The overview of systems given by the shapes of their traces, in the order of `exit_rules`.

    exit_rules: system -> the `rule` of its exits and their thresholds, `tau`.
    """
    systems = [
        Drawn(name, shape, exits["rule"], exits["tau"])
        for (name, exits), shape in zip(exit_rules.items(), shapes, strict=True)
    ]
    return plot_overview(systems)


FIGURE = Figure("overview", plot_shapes, reads=("shapes",), place="run", takes=("exit_rules",), of="study")


def _draw_system(axes: Axes, system: Drawn) -> list[Spot]:
    from matplotlib.patches import Rectangle

    shape = system.shape
    layers, reducer = int(shape["layers"]), shape["reducer"]
    removed_after = set(reducer.get("after", []))
    ratio = reducer.get("ratio") if removed_after else None
    windowed = shape["attention"]["kind"] != "dense"
    leaves = set(shape["exits"]) - {layers} if system.rule else set()
    kept, spots = 1.0, []
    for layer in range(1, layers + 1):
        wide, low = kept, layer - 1.0
        box = Rectangle(
            ((1 - wide) / 2, low), wide, LAYER_HEIGHT, facecolor="#F4E3C8" if wide < 1 else "#E4E4E4",
            edgecolor="#444444", linewidth=0.6, hatch="////" if windowed else None, hatch_linewidth=0.25,
        )  # fmt: skip
        axes.add_patch(box)
        axes.text(
            0.5, low + LAYER_HEIGHT / 2, str(layer), ha="center", va="center_baseline", fontsize=style.SMALL,
            bbox={"facecolor": box.get_facecolor(), "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
        text = [f"layer {layer}", f"{shape['attention']['kind']} attention"]
        if layer in removed_after:
            text.append(f"then {_removal(reducer)}")
            axes.text(
                -0.02, low + (1 + LAYER_HEIGHT) / 2, _removal(reducer), fontsize=style.SMALL, color="#934700",
                va="center_baseline",
            )  # fmt: skip
            kept = kept * (1 - ratio) if ratio else kept
        if layer in leaves or layer == layers:
            _draw_exit(axes, low + LAYER_HEIGHT / 2, (1 + wide) / 2, "answer" if layer == layers else "exit")
            text.append("a head at which texts may exit" if layer in leaves else "the last head")
        spots.append(
            Spot(axes, (1 - wide) / 2, low, f"{system.name}: {listed(text)}", (1 + wide) / 2, low + LAYER_HEIGHT)
        )
    below = ["tokens", _READS.get(shape["read"], f"heads read {shape['read']}"), *(_rule(system) if leaves else [])]
    for line, words in enumerate(below):
        axes.text(0.5, -0.3 - 0.46 * line, words, ha="center", va="center_baseline", fontsize=style.SMALL)
    name = textwrap.fill(style.drawable(system.name), 26)
    # directly above the layers, or above the removal after the last of them
    top = layers - 1 + LAYER_HEIGHT + (0.7 if layers in removed_after else 0.2)
    axes.text(0.5, top, name, fontsize=7, ha="center", va="bottom")
    return spots


def _draw_exit(axes: Axes, height: float, start: float, word: str) -> None:
    colour = "#0072B2" if word == "exit" else "#444444"
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 6}
    axes.annotate("", (1.16, height), (start, height), arrowprops=arrow)
    axes.text(1.19, height, word, va="center_baseline", fontsize=style.SMALL, color=colour)


def _removal(reducer: Mapping[str, Any]) -> str:
    ratio = reducer.get("ratio")
    return f"{reducer['kind']}: {rounding.share(ratio)} removed" if ratio else f"{reducer['kind']} removes"


def _rule(system: Drawn) -> list[str]:
    """The rule of the exits and, on a line of their own, the thresholds."""
    rule = " and ".join(system.rule)
    if not system.taus:
        return [rule]
    low, high = (rounding.threshold(tau) for tau in (min(system.taus), max(system.taus)))
    return [rule, f"\N{GREEK SMALL LETTER TAU} {low}" + (f" to {high}" if high != low else "")]
