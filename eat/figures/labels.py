"""Labels beside their points: each at the nearest free place, without covering points, lines or other labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from eat.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

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
                taken.append(box)
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
