"""A state of a study's results, as it is read from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from eat.files import read_json, read_table

FILES = ("summary.csv", "records.json", "timing/*.json")
"""What a comparison reads of `results/{study}`; a state may lack the records."""


@dataclass(frozen=True)
class State:
    """A state of the results.

    name: as the person called it. summary: summary.csv. busy: the tasks that were timed on a busy machine. records:
    output -> its sha256 and how Snakemake made it; empty where nobody gathered them.
    """

    name: str
    summary: pd.DataFrame
    busy: frozenset[str]
    records: dict[str, dict[str, Any]]


def read_state(name: str, folder: Path) -> State:
    """Read a state. Raises `DamagedFile` where its summary is missing or damaged."""
    summary = read_table(folder / "summary.csv", ("task", "system", "tau", "chosen", "batch_size", "accuracy"))
    busy = {path.stem for path in sorted(folder.glob("timing/*.json")) if read_json(path)["busy"]}
    records = folder / "records.json"
    return State(
        name,
        summary.assign(task=summary["task"].astype(str), system=summary["system"].astype(str)),
        frozenset(busy),
        read_json(records) if records.is_file() else {},
    )
