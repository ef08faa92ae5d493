"""`metrics.json`: key numbers of a study's chosen operating points, for comparing two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from eat.study.study import Study


def metrics(study: Study, summary: pd.DataFrame) -> dict[str, Any]:
    """The chosen operating point of each system at batch 1, for comparing two runs. Empty values are null."""
    rows = summary[summary["chosen"] & (summary["batch_size"] == 1)]
    return {
        "study": study.study,
        "tasks": {str(task): _task_metrics(study, own) for task, own in rows.groupby("task", sort=False)},
    }


def _task_metrics(study: Study, rows: pd.DataFrame) -> dict[str, Any]:
    dense = rows[rows["system"] == study.reference].iloc[0]
    return {
        "dense_accuracy": float(dense["accuracy"]),
        "n": int(dense["n"]),
        "systems": {
            row["system"]: {
                "tau": _or_none(row["tau"]),
                "accuracy": _or_none(row["accuracy"]),
                "delta_accuracy_pp": _or_none(100.0 * row["delta_accuracy"]),
                "speedup": _or_none(row["speedup_vs_dense"]),
                "speedup_low": _or_none(row["speedup_low"]),
                "speedup_high": _or_none(row["speedup_high"]),
                "avg_depth": _or_none(row["avg_depth"]),
                "flops_ratio": _or_none(row["flops_ratio"]),
            }
            for row in rows.to_dict("records")
            if row["system"] in study.systems
        },
    }


def _or_none(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
