"""What a figure declares: its name, the function that draws it, and what that function is given.

Each module of a figure ends in such a declaration, and `registry` gathers them. Snakemake reads all of them each time
it starts. Therefore the modules of figures import matplotlib, seaborn and pandas within functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Value = Literal["task", "reference", "exit_rules"]
"""What a figure can be given besides results.

task: the name of its task. reference: the dense system that the others are compared with. exit_rules: for each system
the `rule` of its exits and their thresholds, `tau`.
"""

SEVERAL = ("shapes",)
"""Results that are several files: `shapes` are the shapes of all systems (JSON), in the order of the configuration."""


@dataclass(frozen=True)
class Figure:
    """The declaration of a figure.

    name: stands in the names of its files and of its caption, `report/captions/{name}.rst`.
    draw: called with what the names in `reads` and in `takes` stand for, in this order, and with `out_pdf` and
    `out_svg`, the two files to write. A table is a `pandas.DataFrame`, shapes are a list of dictionaries.
    reads: the results it is drawn from, as `StudyPaths.result` names them, or `shapes`.
    place: where the report shows it, one of `PLACES` in `eat/report/figures.py`.
    takes: what `draw` is given besides results.
    of: whether there is one for each task, or one for the whole study.
    needs: the key of a configuration without which a study does not have this figure.
    may_be_empty: those of `reads` that may be tables without rows.
    """

    name: str
    draw: Callable[..., None]
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


def option_of(name: str) -> str:
    """The option by which the command that draws a figure gets a result or a value: `curve:exits` by `--exits`."""
    return "--" + name.rpartition(":")[2].replace("_", "-")
