"""The output of a bench: a folder whose files appear together or not at all.

{bench}.csv     the table, unrounded          raw.parquet  every timed pass
{bench}.md      the table as it was printed   {bench}.svg, {bench}.pdf  the figure
run.json        command, machine, versions, options, how busy the machine was
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from eat import rounding
from eat.errors import EatError
from eat.files import replacing_folder, require_place, write_json, write_table, write_text
from eat.machine import BUSY, ForeignLoad, load_average, machine_facts, versions
from eat.report.quantities import Quantity, table_of
from eat.report.table import to_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("eat-study", "torch", "transformers", "numpy", "onnxruntime", "onnx", "openvino")

RUN = "run.json"


@dataclass
class Findings:
    """The results of a bench.

    bench: its name. tables: file name without ending -> table. raw: every timed pass. markdown: the printed text. draw:
    draws the figure when it is written. facts: the content of run.json besides machine and versions.
    """

    bench: str
    tables: dict[str, pd.DataFrame]
    raw: pd.DataFrame
    markdown: str
    draw: Callable[[], Figure]
    facts: dict[str, Any] = field(default_factory=dict)


def check_folder(out: Path, bench: str) -> None:
    """Refuse a folder whose content a result would replace, before anything is measured.

    Raises `EatError` if `out` is a file, a folder that no bench of this name wrote, or below a file.
    """
    if not out.exists():
        require_place(out, "--out")
        return
    if not out.is_dir():
        raise EatError(f"{out}: is a file; give a folder with --out")
    if not any(out.iterdir()):
        return
    try:
        wrote = json.loads((out / RUN).read_text(encoding="utf-8")).get("bench")
    except (OSError, ValueError, AttributeError):
        wrote = None
    if wrote != bench:
        raise EatError(
            f"{out}: contains other files than a result of `eat bench {bench}`; give another folder with --out"
        )


class Watch:
    """How busy the machine was while a bench ran, and when."""

    def __enter__(self) -> Watch:
        self._load = load_average()
        self._date = datetime.now(UTC).date().isoformat()
        self._foreign = ForeignLoad()
        self._foreign.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._foreign.__exit__()

    @property
    def warning(self) -> str:
        """A warning if other processes used much of the machine; else empty."""
        share = self._foreign.share
        if share <= BUSY:
            return ""
        return (
            f"\n**The machine was busy**: other processes used {rounding.with_percent(share)} of the cores' time. "
            "Measure again on a quiet machine.\n"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "date": self._date,
            "load_average": [self._load, load_average()],
            "foreign_load": self._foreign.share,
            "busy": self._foreign.share > BUSY,
        }


def write_findings(found: Findings, out: Path, command: str) -> None:
    """Write the folder."""
    from eat.figures import style

    check_folder(out, found.bench)
    run = {
        "bench": found.bench,
        "command": command,
        "machine": machine_facts(found.facts.get("device", "cpu")),
        "versions": versions(PACKAGES),
        **found.facts,
    }
    with replacing_folder(out) as folder:
        for name, table in found.tables.items():
            write_table(folder / f"{name}.csv", table)
        write_table(folder / "raw.parquet", found.raw)
        write_text(folder / f"{found.bench}.md", f"{_origin(run)}\n{found.markdown}")
        with style.figure_style():
            style.save(found.draw(), folder / f"{found.bench}.pdf", folder / f"{found.bench}.svg")
        write_json(folder / RUN, run)


def _origin(run: Mapping[str, Any]) -> str:
    """The heading of a page, and the origin of its numbers."""
    processor = run["machine"]["gpu"] or run["machine"]["cpu"]
    made_with = ", ".join(f"{name} {number}" for name, number in run["versions"].items() if number)
    return (
        f"# eat bench {run['bench']}\n\nMade by `{run['command']}` on {run['date']} ({processor}; "
        f"{made_with}; other processes used {rounding.with_percent(run['foreign_load'])} of the machine's time).\n"
    )


# --- printed tables ---------------------------------------------------------------------------------------------


def markdown(table: pd.DataFrame, columns: Sequence[Quantity], label: str) -> str:
    """A table as Markdown, with rounded numbers; a dash stands for values that were not measured."""
    return to_markdown(table_of("", label, columns, [("", table.to_dict("records"))]))
