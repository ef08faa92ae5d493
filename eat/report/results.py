"""The input of a report: the files of a study, checked, and its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, ValidationError

from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json
from eat.results import columns
from eat.results.noise import NoiseFloor
from eat.results.rows import of_task, read_rows, rows_of
from eat.study.stock import STOCK_AGAIN, STOCK_PREFIX
from eat.validation import Strict

NEVER_EMPTY = (
    "accuracy", "accuracy_low", "accuracy_high", "delta_accuracy", "delta_low", "delta_high", "avg_depth",
    "avg_retention", "retention_full_depth", "flops_ratio", "ece_raw", "ece_calibrated",
)  # fmt: skip
"""Columns of summary.csv that have a value in the row of every trained system."""

_TIMING_KEYS = (
    "device", "engines", "precisions", "threads", "n_timed", "tokenization_ms_per_text", "foreign_load",
    "foreign_load_busiest_block", "busy", "machine", "versions", "agreement",
)  # fmt: skip

TIMED = ("latency_ms_p50", "examples_per_s", "speedup_vs_dense", "speedup_low", "speedup_high", "speedup_mean")
"""Columns that have a value in every row whose `n_timed` is above 0."""


class RuleTime(Strict):
    """The jobs of a rule: their number, their total seconds, and those of the longest."""

    rule: str
    jobs: int
    seconds: float
    longest: float


class Provenance(Strict):
    """The provenance of a report. Unknown keys are refused; only keys with a default may be omitted."""

    commit: str
    """The commit of the code, or a description if there is none."""
    date: str
    """The date of the run, as text. The report never reads the clock: it can be rendered again byte for byte."""
    command: str
    """The command that reproduces this study."""
    pdf_command: str = ""
    """The command that typesets the report."""
    reference: str
    """The dense system that represents BERT (`reference` of the configuration)."""
    seeds: list[int]
    """The seeds trained and timed."""
    versions: dict[str, str]
    """Package -> version, of the environment that rendered the report."""
    lock: str = ""
    """The start of the sha256 of `dvc.lock`, as it was when the report was rendered."""
    durations: list[RuleTime] = Field(default_factory=list)
    """The duration of the jobs of each rule, in the order they ran."""
    ablation: bool = False
    """Whether the study has an ablation."""
    importance: bool = False
    """Whether the study compares scores of importance with saliency."""
    triage: bool = False
    """Whether the mistakes on some task have a cost."""
    environment: str = ""
    """The software environment of the run: a virtual environment, conda, a container."""
    differing: list[str] = Field(default_factory=list)
    """The files that the run could read and that differed from the commit."""


@dataclass(frozen=True)
class TaskFiles:
    """The recorded results of one task. key: its name in the files. name: its name in the report.

    promises: empty if no system makes one.
    """

    key: str
    name: str
    summary: pd.DataFrame
    paper_columns: pd.DataFrame
    exits: pd.DataFrame
    lengths: pd.DataFrame
    retention: pd.DataFrame
    cost: pd.DataFrame
    buckets: pd.DataFrame
    promises: pd.DataFrame
    ablation: pd.DataFrame | None
    importance: pd.DataFrame | None
    card: dict[str, Any]
    timing: dict[str, Any]
    triage: pd.DataFrame | None = None


def read_provenance(given: Mapping[str, Any]) -> Provenance:
    """The provenance of a report, checked. Raises `EatError` that names each wrong key."""
    try:
        return Provenance.model_validate(dict(given))
    except ValidationError as error:
        faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].lower()}" for fault in error.errors()]
        known = listed(Provenance.model_fields)
        raise EatError(f"provenance: {'; '.join(faults)}; known keys: {known}") from None


def read_tasks(
    study: str,
    tasks: Mapping[str, str],
    results: Path,
    data: Path,
    ablation: bool = False,
    importance: bool = False,
    triage: bool = False,
) -> list[TaskFiles]:
    """Read the files of each task. tasks: name in the files -> name in the report.

    ablation, importance, triage: whether it has those.

    Raises `EatError` if one is missing, damaged, of another study, or has gaps.
    """
    metrics = read_json(results / "metrics.json")
    if metrics.get("study") != study:
        raise EatError(
            f"{results}/metrics.json: belongs to study {metrics.get('study')!r}, not {study!r}; give the folder of "
            f"{study!r}"
        )
    summary = read_rows(results / "summary.csv", columns.SUMMARY_COLUMNS)
    _refuse_gaps(summary, results / "summary.csv")
    exits = read_rows(results / "curves" / "exits.csv", ("task", "system", "tau", "chosen", "exit", "fraction", "n"))
    lengths = read_rows(
        results / "curves" / "lengths.csv", ("task", "system", "tau", "chosen", "length_mean", "retention")
    )
    retention = read_rows(results / "curves" / "retention.csv", ("task", "system", "tau", "over", "layer", "observed"))
    cost = read_rows(results / "curves" / "cost.csv", columns.COST_COLUMNS, may_be_empty=True)
    buckets = read_rows(results / "buckets.csv", columns.BUCKET_COLUMNS)
    complete = set(columns.PROMISE_COLUMNS) - {"tau", "thresholds"}
    promises = read_rows(
        results / "promises.csv", columns.PROMISE_COLUMNS, complete=sorted(complete), may_be_empty=True
    )

    def optional(name: str, required: Sequence[str], is_there: bool) -> pd.DataFrame | None:
        return read_rows(results / name, required) if is_there else None

    costs = optional("triage.csv", columns.TRIAGE_COLUMNS, triage)
    found = []
    for task, title in tasks.items():
        timing = read_json(results / "timing" / f"{task}.json")
        missing = [key for key in _TIMING_KEYS if key not in timing]
        if missing:
            raise DamagedFile(f"{results}/timing/{task}.json: lacks {listed(missing)}; delete it and run again")
        found.append(
            TaskFiles(
                key=task,
                name=title,
                summary=rows_of(summary, task).assign(task=title),
                paper_columns=read_rows(results / f"summary_{task}.csv", ("model", "tau", "latency_ms", "accuracy")),
                exits=of_task(exits, task),
                lengths=of_task(lengths, task),
                retention=of_task(retention, task),
                cost=of_task(cost, task, may_be_empty=True),
                buckets=of_task(buckets, task),
                promises=of_task(promises, task, may_be_empty=True),
                ablation=optional(f"summary_ablation_{task}.csv", columns.ABLATION_COLUMNS, ablation),
                importance=optional(f"importance/{task}.csv", columns.IMPORTANCE_COLUMNS, importance),
                card=read_json(data / task / "card.json"),
                timing=timing,
                triage=None if costs is None else of_task(costs, task, may_be_empty=True),
            )
        )
    return found


def _refuse_gaps(summary: pd.DataFrame, path: Path) -> None:
    trained = summary[~summary["system"].astype(str).str.startswith(STOCK_PREFIX)]
    timed = summary[summary["n_timed"] > 0]
    for rows, never_empty in ((trained, NEVER_EMPTY), (timed, TIMED)):
        for column in never_empty:
            gaps = rows.loc[rows[column].isna(), "system"]
            if not gaps.empty:
                raise DamagedFile(f"{path}: {column} of {gaps.iloc[0]} is empty; delete it and run again")


def noise_floor(rows: pd.DataFrame, task: str, batch: int) -> NoiseFloor:
    """The A/A ratio of a task at one batch size, from the row `hf-dense-again`. Raises `EatError` without it."""
    again = rows[(rows["task"] == task) & (rows["system"] == STOCK_AGAIN) & (rows["batch_size"] == batch)]
    if len(again) != 1:
        raise EatError(
            f"task {task!r}: {len(again)} rows of {STOCK_AGAIN} at batch size {batch}, not 1; time the A/A pair"
        )
    row = again.iloc[0]
    return NoiseFloor(
        *(float(row[name]) for name in ("speedup_vs_dense", "speedup_low", "speedup_high", "speedup_mean"))
    )
