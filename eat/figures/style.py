"""The style of all figures and how they are saved: one colour per system, the same bytes on every run.

Colours follow the paper (BERT black, DistilBERT blue, EAT orange). Colour-blind readers can distinguish them: they come
from the palette of Okabe and Ito, and each system has its own marker. Text is plain text: a name with `$`, `%` or a
backslash is drawn as it is.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.sax.saxutils import escape, quoteattr

from eat.errors import EatError, listed
from eat.files import replacing, write_text
from eat.study.stock import STOCK_PREFIX

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.3
"""Width of a journal's column, in inches."""
WIDE_COLUMN = 4.6
"""Width of one panel with the names of its systems at its right, in inches."""
FULL = 6.9
"""Width of a page's text, in inches."""
SMALL = 6.5
"""Size in points of the smallest text that is readable in print."""

Role = Literal["stock", "reference", "dense", "adaptive"]

_BLACK, _GREY = "#000000", "#767676"
_BLUES = ("#0072B2", "#56B4E9", "#003C6B", "#7FA6C9")
_ORANGE_LED = ("#E69F00", "#CC3D00", "#009E73", "#CC79A7", "#8C5A00", "#5E3C99", "#B8A800", "#7A0019")
_ADAPTIVE_MARKERS = ("o", "D", "^", "v", "P", "X", "p", "<", ">", "h")
_STOCK_MARKERS = ("X", "*", "P", "8", "p", "H")
_DENSE_MARKERS = ("s", "d", "H", "8")

EXIT_COLOURS = ("#FDE3B5", "#FBC87A", "#F0A030", "#CC6F00", "#934700", "#5C2A00")
"""From light to dark: the deeper the exit, the darker."""
LAST_EXIT_COLOUR = "#FFFFFF"
"""Texts that went through all layers; hatched, so that in grey they differ from every exit."""

FONT = "DejaVu Sans"
"""Part of matplotlib, so it is the same on every machine."""
LEGEND_POINTS = 7.0
TITLE_POINTS = 8.5

_RC: dict[str, Any] = {
    "font.family": FONT,
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": LEGEND_POINTS,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.4,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100.0,
    "savefig.dpi": 300.0,
    "text.parse_math": False,
    "text.usetex": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "eat",
}


@dataclass(frozen=True)
class Look:
    """How one system is drawn. `label` is its name, with characters that the font lacks spelt out."""

    role: Role
    colour: str
    marker: str
    label: str


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply the style of all figures; the user's matplotlibrc has no effect."""
    import matplotlib.style

    with matplotlib.style.context(["default", _RC]):
        yield


def looks(summary: pd.DataFrame, reference: str) -> dict[str, Look]:
    """The look of each system of `summary`, by its role and by the order of the systems.

    summary: rows of summary.csv of one task. reference: the dense system in the role of BERT. A system is adaptive if
    it has thresholds, removes tokens, exits early or uses window attention; otherwise it is dense. With more
    systems than colours, colours and markers repeat in other combinations. Raises `EatError` if the reference has no
    row.
    """
    names = list(dict.fromkeys(summary["system"].astype(str)))
    if reference not in names:
        raise EatError(f"the reference {reference!r} has no row in the summary; the summary has: {listed(names)}")
    found: dict[str, Look] = {}
    stock = blue = orange = 0
    for name in names:
        rows = summary[summary["system"].astype(str) == name]
        if name.startswith(STOCK_PREFIX):
            found[name] = Look("stock", _GREY, _STOCK_MARKERS[stock % len(_STOCK_MARKERS)], drawable(name))
            stock += 1
        elif name == reference:
            found[name] = Look("reference", _BLACK, "s", drawable(name))
        elif _is_adaptive(rows):
            found[name] = Look("adaptive", *_pair(orange, _ORANGE_LED, _ADAPTIVE_MARKERS), drawable(name))
            orange += 1
        else:
            found[name] = Look("dense", *_pair(blue, _BLUES, _DENSE_MARKERS), drawable(name))
            blue += 1
    return found


def _pair(number: int, colours: Sequence[str], markers: Sequence[str]) -> tuple[str, str]:
    """A colour and a marker; no pair repeats until all combinations are used."""
    turn, place = divmod(number, len(colours))
    return colours[place], markers[(place + turn) % len(markers)]


def _is_adaptive(rows: pd.DataFrame) -> bool:
    removes = (rows["avg_retention"] < 1 - 1e-9).any()
    attends_to_part = (rows["gflops_pattern"] < rows["gflops"] * (1 - 1e-9)).any()
    return bool(rows["tau"].notna().any() or removes or attends_to_part)


def exit_colour(depth: int, layers: int) -> str:
    """The colour of an exit after layer `depth` of `layers`: light for early, dark for late, white for the last."""
    if depth >= layers:
        return LAST_EXIT_COLOUR
    return EXIT_COLOURS[round((depth - 1) / max(layers - 2, 1) * (len(EXIT_COLOURS) - 1))]


def ink_on(colour: str) -> str:
    """Black or white, whichever is easier to read on `colour`."""
    red, green, blue = (channel / 255 for channel in bytes.fromhex(colour.removeprefix("#")))
    return _BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "#FFFFFF"


def darker(colour: str) -> str:
    """The same hue, dark enough for small text on white."""
    return "#" + "".join(f"{round(channel * 0.72):02X}" for channel in bytes.fromhex(colour.removeprefix("#")))


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())


def drawable(text: str) -> str:
    """`text` with each character that the figures' font lacks written as U+ and its number."""
    return "".join(letter if ord(letter) in _glyphs() else f"[U+{ord(letter):04X}]" for letter in text)


def legend_columns(labels: list[str], width: float) -> int:
    """How many columns of a legend with these labels fit into `width` inches."""
    longest = max((len(label) for label in labels), default=1)
    column = (0.58 * longest * LEGEND_POINTS + 34) / 72
    return max(1, min(len(labels), math.floor(width / column)))


def legend_height(labels: list[str], width: float) -> float:
    """The height in inches that a legend with these labels takes below a figure of `width` inches."""
    return 0.1 + 0.155 * math.ceil(len(labels) / legend_columns(labels, width))


@dataclass(frozen=True)
class Spot:
    """A place of a figure that shows its values when the pointer is over it, in a browser.

    x, y: a point in the data of `axes`, or, with `x_end` and `y_end`, the corners of an area.
    """

    axes: Axes
    x: float
    y: float
    text: str
    x_end: float | None = None
    y_end: float | None = None


SPOT_RADIUS = 5.0
"""The radius in points within which the pointer finds a spot."""


def write(draw: Callable[[], tuple[Figure, Sequence[Spot]]], out_pdf: Path | str, out_svg: Path | str) -> None:
    """Draw a figure in the style of all figures, and save it."""
    with figure_style():
        figure, spots = draw()
        save(figure, out_pdf, out_svg, spots)


def save(figure: Figure, out_pdf: Path | str, out_svg: Path | str, spots: Sequence[Spot] = ()) -> None:
    """Write the figure as PDF and as SVG, each whole or not at all, without dates, so that equal data give equal bytes.

    The SVG holds an invisible shape with a title for each spot: a browser shows the title under the pointer. The title
    of the figure, which is drawn as outlines, is also its label for screen readers.
    """
    with replacing(out_pdf) as temporary:
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    shapes = "\n".join(_shape(figure, spot) for spot in spots)
    body, end, rest = drawn.getvalue().rpartition("</svg>")
    said = figure.get_suptitle() or " ".join(text.get_text() for text in figure.texts)
    body = body.replace("<svg ", f"<svg aria-label={quoteattr(' '.join(said.split()))} ", 1) if said else body
    values = f'<g class="values" fill="none" pointer-events="all">\n{shapes}\n</g>\n' if spots else ""
    write_text(out_svg, body + values + end + rest)


def _shape(figure: Figure, spot: Spot) -> str:
    """The SVG element of a spot, in points from the upper left corner."""
    height = 72.0 * figure.get_size_inches()[1]

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = spot.axes.transData.transform((x, y)) * 72.0 / figure.dpi
        return across, height - up

    left, upper = place(spot.x, spot.y)
    title = f"<title>{escape(spot.text)}</title>"
    if spot.x_end is None or spot.y_end is None:
        return f'<circle cx="{left:.1f}" cy="{upper:.1f}" r="{SPOT_RADIUS:g}">{title}</circle>'
    right, lower = place(spot.x_end, spot.y_end)
    wide, high = abs(right - left), abs(lower - upper)
    return (
        f'<rect x="{min(left, right):.1f}" y="{min(upper, lower):.1f}" width="{wide:.1f}" height="{high:.1f}">'
        f"{title}</rect>"
    )
