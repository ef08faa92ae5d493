"""A state of a study's results, read from a folder."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from eat.errors import EatError, listed
from eat.files import read_json
from eat.results.rows import read_rows

FILES = ("summary.csv", "records.json", "timing/*.json")
"""The files of `results/{study}` that a comparison reads; the records may be missing."""

COLUMNS = (
    "task", "system", "tau", "calibration", "chosen", "batch_size", "device", "threads", "accuracy", "accuracy_low",
    "accuracy_high", "avg_depth", "avg_retention", "flops_ratio", "gflops", "gflops_pattern", "speedup_vs_dense",
    "speedup_low", "speedup_high",
)  # fmt: skip
"""The columns of summary.csv that a comparison reads."""


@dataclass(frozen=True)
class State:
    """A state of the results.

    name: the name that the user gave. summary: summary.csv. busy: the tasks that were timed on a busy machine. records:
    output -> its sha256 and how Snakemake made it; empty if there are none.
    """

    name: str
    summary: pd.DataFrame
    busy: frozenset[str]
    records: dict[str, dict[str, Any]]


def read_state(name: str, folder: Path) -> State:
    """Read a state.

    Raises `DamagedFile` if its summary is missing or damaged, and `EatError` if its files lack columns or
    keys that this version of the project writes.
    """
    summary = read_rows(folder / "summary.csv")
    _require(COLUMNS, summary.columns, name, "summary.csv")
    busy = set()
    for path in sorted(folder.glob("timing/*.json")):
        facts = read_json(path)
        _require(["busy"], facts, name, f"timing/{path.name}")
        if facts["busy"]:
            busy.add(path.stem)
    records = folder / "records.json"
    return State(name, summary, frozenset(busy), read_json(records) if records.is_file() else {})


def _require(needed: Collection[str], found: Container[str], name: str, file: str) -> None:
    missing = [key for key in needed if key not in found]
    if missing:
        raise EatError(
            f"{name}: {file} lacks {listed(missing)}; these results are older than this code: compare a later "
            "revision, or run the study again"
        )
