"""The declaration of a figure: its name, the function that draws it, and the arguments of that function.

The module of each figure ends with such a declaration, and `registry` collects them. Snakemake imports all of them each
time it starts. Therefore these modules import matplotlib, seaborn and pandas within functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from eat.figures import style
from eat.figures.canvas import Drawing

Value = Literal["task", "reference", "exit_rules"]
"""The arguments of a figure besides results.

task: the name of the task. reference: the dense system that the others are compared with. exit_rules: the `rule` of
the exits of each system, and their thresholds `tau`.
"""

SEVERAL = ("shapes",)
"""Results that are several files: `shapes` are the shapes of all systems (JSON), in the order of the configuration."""


@dataclass(frozen=True)
class Figure:
    """The declaration of a figure.

    name: part of the names of its files and of its caption, `report/captions/{name}.rst`.
    draw: maps the values named in `reads` and in `takes`, in this order, to a `Drawing`. A table is a
    `pandas.DataFrame`, shapes are a list of dictionaries.
    reads: the results it is drawn from, as `StudyPaths.result` names them, or `shapes`.
    place: where the report shows it, one of `PLACES` in `eat/report/figures.py`.
    takes: the arguments of `draw` besides results.
    of: whether there is one figure per task, or one for the whole study.
    needs: the configuration key that a study must have for this figure to be drawn.
    may_be_empty: those of `reads` that may be tables without rows.
    """

    name: str
    draw: Callable[..., Drawing]
    reads: tuple[str, ...]
    place: str
    takes: tuple[Value, ...] = ("task", "reference")
    of: Literal["task", "study"] = "task"
    needs: str | None = None
    may_be_empty: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module that draws it, for example `eat.figures.frontier`."""
        return self.draw.__module__

    def write(self, *given: Any, out_pdf: Path | str, out_svg: Path | str) -> None:
        """Draw it and write both files; given: the arguments of `draw`."""
        style.write(partial(self.draw, *given), out_pdf, out_svg)


def option_of(name: str) -> str:
    """The option that passes a result or a value to the command that draws a figure: `--exits` for `curve:exits`."""
    return "--" + name.rpartition(":")[2].replace("_", "-")
