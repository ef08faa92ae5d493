"""What figures share: the canvas, the legend, axes with plain numbers, and text that fits."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from eat import rounding
from eat.figures import style
from eat.figures.style import Look, Spot

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    Values = npt.NDArray[np.float64] | pd.Series

Drawing = tuple["Figure", Sequence[Spot]]
"""A figure, and the places that show their values under the pointer."""


def canvas(width: float, height: float) -> Figure:
    """An empty figure of this width and height in inches, with matplotlib's constrained layout."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def headline(figure: Figure, message: str, key: str = "") -> None:
    """Write what a figure shows above it, in lines as wide as the figure.

    key: what lines and markers mean, in a line of its own, where a legend would hide the panels or be far from them.
    """
    line = int(72 * figure.get_size_inches()[0] / (0.54 * style.TITLE_POINTS))
    lines = [textwrap.fill(style.drawable(text), line) for text in (message, key) if text]
    figure.suptitle("\n".join(lines), fontsize=style.TITLE_POINTS, x=0.01, ha="left")


def note(sentence: str, height: float) -> Drawing:
    """A figure of a column's width that has nothing to draw but this sentence."""
    figure = canvas(style.COLUMN, height)
    figure.text(0.5, 0.5, sentence, ha="center", va="center")
    return figure, []


def entry(**properties: Any) -> Line2D:
    """The legend handle of a line or a marker. properties: those of a `matplotlib.lines.Line2D`."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **properties)


def line_of(look: Look) -> Line2D:
    """The legend handle of a system."""
    return entry(color=look.colour, marker=look.marker, markersize=4.5)


def points_of(axes: Axes, x: Values, y: Values, look: Look, face: str) -> None:
    """Draw the points of a system with its marker and colour, filled with `face`. x, y: float (n,), in data units."""
    axes.plot(
        x, y, linestyle="", marker=look.marker, color=look.colour, markerfacecolor=face, markersize=4.2,
        markeredgewidth=0.8,
    )  # fmt: skip


def legend(
    figure: Figure,
    handles: Sequence[Line2D | Patch],
    labels: list[str],
    width: float,
    where: Literal["outside lower center", "outside upper center"] = "outside lower center",
) -> None:
    """Draw a legend outside the panels of a figure `width` inches wide.

    The legend is below the panels by default. A figure with a shared label for the horizontal axes needs it above,
    since it would cover that label.
    """
    figure.legend(handles, labels, loc=where, ncols=style.legend_columns(labels, width))


def wrapped(text: str, width: int) -> str:
    """Wrap text into lines of `width` characters. Lines break anywhere, since a name may contain no spaces."""
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))


def at_threshold(system: str, tau: float | None) -> str:
    """The name of an operating point:  `eat-6, τ = 0.80`."""
    if tau is None or math.isnan(tau):
        return system
    return f"{system}, \N{GREEK SMALL LETTER TAU} = {rounding.threshold(tau)}"


def percent_axis(axis: Axis) -> None:
    """Label fractions as percentages, without the per cent sign."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))


def at_most(axis: Axis, intervals: int, whole: bool = False) -> None:
    """Divide a linear axis into at most this many intervals. whole: label whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=intervals, integer=whole))


def ratio_axis(axes: Axes, most: int = 12) -> None:
    """Make the horizontal axis logarithmic, with at most this many plain numbers: equal ratios are equally wide."""
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis, most)


def upright_ratio_axis(axes: Axes, most: int = 12) -> None:
    """The same for the vertical axis."""
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis, most)


def both_ratio_axes(axes: Axes) -> None:
    """The same for both axes."""
    ratio_axis(axes)
    upright_ratio_axis(axes)


def _plain_numbers(axis: Axis, most: int) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    from eat.figures.ticks import RoundNumbers

    axis.set_major_locator(RoundNumbers(most))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
