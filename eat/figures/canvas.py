"""What every figure begins and ends with: its canvas, its legend, and text that fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from eat import rounding
from eat.figures import style
from eat.figures.style import Look

Output = Path | str

PER_CENT = FuncFormatter(lambda value, _: f"{100 * value:g}")


Values = npt.NDArray[np.float64] | pd.Series


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches; its parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


def say(figure: Figure, sentence: str) -> None:
    """Write a sentence where there is nothing to draw."""
    figure.text(0.5, 0.5, sentence, ha="center", va="center")


def line_of(look: Look) -> Line2D:
    """How a system stands in a legend."""
    return Line2D([], [], color=look.colour, marker=look.marker, markersize=4.5)


def points_of(axes: Axes, x: Values, y: Values, look: Look, face: str) -> None:
    """A system's points: its marker in its colour, filled with `face`."""
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
    """A legend outside the panels; above them where the figure has a common label below, which it would cover."""
    figure.legend(handles, labels, loc=where, ncols=style.legend_columns(labels, width))


def wrapped(text: str, width: int) -> str:
    """Text on several lines of `width` characters, broken anywhere: a name need not hold spaces."""
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))


def at_threshold(system: str, tau: float | None) -> str:
    """An operating point in words: `eat-6, τ = 0.80`."""
    if tau is None or math.isnan(tau):
        return system
    return f"{system}, \N{GREEK SMALL LETTER TAU} = {rounding.threshold(tau)}"


def ratio_axis(axes: Axes, most: int = 12) -> None:
    """A logarithmic horizontal axis, on which equal speed-ups are equally wide, with at most so many plain numbers."""
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis, most)


def upright_ratio_axis(axes: Axes, most: int = 12) -> None:
    """The same upright."""
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis, most)


def both_ratio_axes(axes: Axes) -> None:
    """The same for both axes."""
    ratio_axis(axes)
    upright_ratio_axis(axes)


def _plain_numbers(axis: Axis, most: int) -> None:
    axis.set_major_locator(_RoundNumbers(most))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


class _RoundNumbers(LogLocator):
    """Ticks at round numbers of each power of ten, as dense as `most` of them allow."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        for digits in ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 3.0, 5.0), (1.0, 2.0, 5.0), (1.0,)):
            self.set_params(subs=digits)
            ticks = list(super().tick_values(vmin, vmax))
            if sum(vmin <= tick <= vmax for tick in ticks) <= self.most:
                break
        return ticks
