"""`metrics.json`: key numbers of a study's chosen operating points, for comparing two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from eat.study.study import Study


NUMBERS = (
    "tau", "accuracy", "delta_accuracy_pp", "speedup", "speedup_low", "speedup_high", "avg_depth", "flops_ratio",
)  # fmt: skip


def metrics(study: Study, summary: pd.DataFrame) -> dict[str, Any]:
    """The chosen operating point of each system at batch 1, for comparing two runs. Empty values are null."""
    rows = summary[summary["chosen"] & (summary["batch_size"] == 1)]
    return {
        "study": study.study,
        "tasks": {str(task): _task_metrics(study, own) for task, own in rows.groupby("task", sort=False)},
    }


def _task_metrics(study: Study, rows: pd.DataFrame) -> dict[str, Any]:
    dense = rows[rows["system"] == study.reference].iloc[0]
    rows = rows.assign(delta_accuracy_pp=100.0 * rows["delta_accuracy"], speedup=rows["speedup_vs_dense"])
    return {
        "dense_accuracy": float(dense["accuracy"]),
        "n": int(dense["n"]),
        "systems": {
            row["system"]: {name: None if pd.isna(row[name]) else float(row[name]) for name in NUMBERS}
            for row in rows.to_dict("records")
            if row["system"] in study.systems
        },
    }
