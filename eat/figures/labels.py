"""Labels beside their points, without covering points, lines or other labels; and names beside a whole panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from eat.figures import style
from eat.figures.canvas import wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    from eat.figures.style import Look

NEAR = (
    (0, 5, "center", "bottom"),
    (0, -5, "center", "top"),
    (5, 3, "left", "bottom"),
    (-5, 3, "right", "bottom"),
    (5, -3, "left", "top"),
    (-5, -3, "right", "top"),
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (9, 7, "left", "bottom"),
    (-9, 7, "right", "bottom"),
    (9, -7, "left", "top"),
    (-9, -7, "right", "top"),
)
"""Positions of a label: offset in points from its marker, and the side of the text that is placed there."""

FAR = tuple(
    (across * side, up, "left" if side > 0 else "right", "center")
    for up in (14, -14, 22, -22, 30, -30, 40, -40, 52, -52, 66, -66, 80, -80)
    for across in (10, 30)
    for side in (1, -1)
)
"""Positions that are so far away that a thin line leads back to the point."""


@dataclass(frozen=True)
class Label:
    """A text beside a point, in the data of the axes."""

    x: float
    y: float
    text: str
    colour: str
    weight: str = "normal"


def place(
    figure: Figure, axes: Axes, labels: Iterable[Label], taken: list[Bbox], size: float = style.SMALL, far: bool = False
) -> None:
    """Write labels beside their points, the first ones first; a label for which there is no room is left out.

    taken: what no label may cover, in pixels; the boxes of the labels are added. far: whether a label may stand further
    away, with a line to its point. The figure must have been laid out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    frame = axes.get_window_extent(renderer)
    gap = size * figure.dpi / 144.0  # pixels between two labels on a line: half the size of the letters
    for label in labels:
        text = axes.annotate(
            label.text, (label.x, label.y), (0, 0), textcoords="offset points", fontsize=size, color=label.colour,
            fontweight=label.weight, zorder=6, path_effects=[withStroke(linewidth=1.6, foreground="white")],
        )  # fmt: skip
        text.set_in_layout(False)
        for dx, dy, across, up in (*NEAR, *FAR) if far else NEAR:
            text.set(position=(dx, dy), ha=across, va=up)
            box = text.get_window_extent(renderer)
            is_inside = frame.contains(*box.min) and frame.contains(*box.max)
            if is_inside and not any(box.overlaps(other) for other in taken):
                taken.append(box.padded(gap, 0.0))
                if max(abs(dx), abs(dy)) > 9:
                    axes.annotate(
                        "", (label.x, label.y), (dx, dy), textcoords="offset points", zorder=2,
                        arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.5, "alpha": 0.6},
                    ).set_in_layout(False)  # fmt: skip
                break
        else:
            text.remove()


def around(axes: Axes, points: Any, radius: float = 3.0) -> list[Bbox]:
    """Boxes around points (n, 2), given in the data of the axes, with a radius in points."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    reach = radius * figure.dpi / 72.0
    places = axes.transData.transform(points)
    return [Bbox.from_bounds(x - reach, y - reach, 2 * reach, 2 * reach) for x, y in places]


def along(axes: Axes, corners: Any) -> list[Bbox]:
    """Small boxes along the line through `corners` (n, 2), given in the data of the axes."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi / 72.0
    boxes = []
    for start, end in pairwise(axes.transData.transform(corners)):
        steps = max(2, int(np.hypot(*(end - start)) / (2 * scale)))
        boxes += [Bbox.from_bounds(x, y, 0.5, 0.5) for x, y in np.linspace(start, end, steps)]
    return boxes


@dataclass(frozen=True)
class Name:
    """The name of a system beside a panel, at the height of a point in the data of the axes."""

    x: float
    y: float
    look: Look


LONGEST = 26
"""The most characters in a line of a name."""

LINE = 2.6
"""The space between two names below each other, in points."""


def height_of_names(number: int) -> float:
    """The height in inches of a panel beside which this many names have room."""
    return number * (style.SMALL + LINE) / 72.0


def beside(figure: Figure, names: Mapping[Axes, Sequence[Name]], leads: bool = False) -> None:
    """Write names with their markers at the right of each panel, at the heights of their points if there is room.

    They stand in the place of a legend. leads: draw a thin line from the point to its name, for points that end a line.
    The panels must have their limits and scales; the figure is laid out.
    """
    from matplotlib.transforms import offset_copy

    written = []
    for axes, own in names.items():
        shift = {points: offset_copy(axes.transAxes, figure, x=points, units="points") for points in (7, 13)}
        ordered = sorted(own, key=lambda name: -_up(axes, name))
        for name in ordered:
            look, up = name.look, _up(axes, name)
            (marker,) = axes.plot(
                [1.0], [up], transform=shift[7], marker=look.marker, color=look.colour, linestyle="", markersize=4.0,
                clip_on=False, scalex=False, scaley=False,
            )  # fmt: skip
            text = axes.text(
                1.0, up, wrapped(look.label, LONGEST), transform=shift[13], va="center", fontsize=style.SMALL,
                color=style.darker(look.colour),
            )  # fmt: skip
            written.append((axes, name, marker, text))
    figure.draw_without_rendering()  # gives the names their room
    for axes in names:
        own_parts = [part for part in written if part[0] is axes]
        inches = axes.get_window_extent().height / figure.dpi
        step = min((style.SMALL + LINE) / 72.0 / inches, 1.0 / max(len(own_parts), 1))
        heights = spread([_up(axes, name) for _, name, _, _ in own_parts], step)
        for (_, name, marker, text), up in zip(own_parts, heights, strict=True):
            marker.set_ydata([up])
            text.set_y(up)
            if leads:
                axes.annotate(
                    "", (name.x, name.y), (1.0, up), textcoords="axes fraction", zorder=1.5, annotation_clip=False,
                    arrowprops={
                        "arrowstyle": "-", "color": name.look.colour, "linewidth": 0.5, "alpha": 0.5,
                        "shrinkA": 0, "shrinkB": 2,
                    },
                ).set_in_layout(False)  # fmt: skip


def _up(axes: Axes, name: Name) -> float:
    """The height of a name's point as a share of the panel, within it."""
    place = axes.transAxes.inverted().transform(axes.transData.transform((name.x, name.y)))
    return float(min(max(place[1], 0.0), 1.0))


def spread(wanted: Sequence[float], step: float) -> list[float]:
    """Heights from the top down, at least `step` apart and within 0 and 1, near those wanted. wanted: descending."""
    found: list[float] = []
    for height in wanted:
        found.append(min(height, found[-1] - step) if found else min(height, 1.0))
    if found and found[-1] < 0.0:
        floor = 0.0
        for place in range(len(found) - 1, -1, -1):
            found[place] = max(found[place], floor)
            floor = found[place] + step
    return found
