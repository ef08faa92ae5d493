"""The figures of a report: their places, captions and files, as the templates use them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from eat.errors import DamagedFile, EatError, listed
from eat.report.inline import inline_svg
from eat.report.latex import Latex

PLACES = ("first", "results", "frontier", "adaptive", "calibration", "lengths", "ablation", "cost model", "theory")
"""The places in which the templates show the figures of a task: a section, or for `cost model` a table on theory.

A place that a study does not have, such as `ablation`, shows none. Figures of the whole study are in `run`.
"""


@dataclass(frozen=True)
class Placed:
    """A figure of a study: its name in file names and captions, its place in the report, and of what it is.

    of: `task` for one figure per task, `study` for one in all.
    """

    name: str
    place: str
    of: str


@dataclass(frozen=True)
class Figure:
    """A figure as the templates print it.

    sample: the data behind it, which the page says once and a paper below each figure.
    """

    tex_path: Latex
    svg: Markup
    caption: str
    sample: str = ""


def placement(figures: Sequence[Mapping[str, str]]) -> list[Placed]:
    """The figures of a study, in their order within a place; figures: the fields of each.

    Raises `EatError` if the templates have no such place.
    """
    known = {"task": PLACES, "study": ("run",)}
    found = [Placed(**figure) for figure in figures]
    for one in found:
        if one.place not in known[one.of]:
            raise EatError(
                f"figure {one.name}: the report has no place {one.place!r} for figures of a {one.of}; known: "
                f"{listed(known[one.of])}"
            )
    return found


def by_place(figures: Sequence[Placed], drawn: Mapping[str, Figure]) -> dict[str, tuple[Figure, ...]]:
    """Place -> its figures in order; a place without figures has an empty tuple. drawn: name -> figure."""
    return {place: tuple(drawn[figure.name] for figure in figures if figure.place == place) for place in PLACES}


def read_figure(drawn: Path, beside: Path, caption: str, sample: str = "") -> tuple[Figure, dict[Path, Path]]:
    """A figure, and the copy that it needs if its name cannot be part of a TeX path.

    drawn: the figure's files without their ending. beside: the path of the copy. The copies are returned as target ->
    source. Raises `DamagedFile` if the figure is missing.
    """
    pdf = drawn.with_name(f"{drawn.name}.pdf")
    if not pdf.is_file():
        raise DamagedFile(f"{pdf}: no such file; run the rule that plots it")
    svg = inline_svg(drawn.with_name(f"{drawn.name}.svg"), prefix=f"{beside.stem}-")
    if re.fullmatch(r"[A-Za-z0-9._-]+", drawn.name):
        return Figure(Latex(rf"\eatfigures/{pdf.name}"), svg, caption, sample), {}
    return Figure(Latex(rf"\eatreport/{beside.name}"), svg, caption, sample), {beside: pdf}


def read_caption(folder: Path, name: str) -> str:
    """The caption of a figure in one line, from `{name}.rst`. Raises `EatError` if there is none."""
    path = folder / f"{name}.rst"
    if not path.is_file():
        found = sorted(other.stem for other in folder.glob("*.rst"))
        raise EatError(f"no caption {path.name}; captions found: {listed(found)}")
    return " ".join(path.read_text(encoding="utf-8").split())
