"""The columns of summary.csv that do not depend on timing: accuracy, work and calibration.

They follow from the traces. `reference_rows` repeats them for the stock models that were timed with the systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.results.calibrated import temperatures_of
from eat.results.timed_calls import at_point
from eat.statistics import accuracy_interval, mcnemar_p
from eat.study.stock import AGAIN, SAME_MODEL, is_repeat

if TYPE_CHECKING:
    from eat.summarize.task_results import Results

Floats = npt.NDArray[np.float64]


def accuracy_rows(results: Results) -> pd.DataFrame:
    """Accuracy of each operating point and its paired difference from the reference, with intervals.

    thresholds: of a point that keeps a promise on disagreement. mcnemar_p is exact for one seed. For several it is
    twice the mean of the seeds' p-values, at most 1: this is a valid p-value for any dependence between seeds, unlike
    pooling the same texts.
    """
    rows = []
    for point in results.replays:
        first = results.rows_of(point).iloc[0]
        rows.append(
            {
                "system": point[0],
                "tau": point[1],
                "thresholds": _thresholds(results.rows_of(point)["thresholds"].dropna()),
                "chosen": results.is_chosen(point),
                "within_budget": bool(first["within_budget"]),
                "calibration": first["calibration"],
                "n": len(results.labels),
                **accuracy_interval(results.correct(point)).columns("accuracy"),
                "accuracy_sd": _sd(results.correct(point).mean(axis=0)),
                **results.difference(point).columns("delta_accuracy", "delta"),
                "mcnemar_p": _mcnemar(results.correct(point), results.correct(results.reference)),
            }
        )
    return pd.DataFrame(rows).astype({"tau": "float64"})


def _thresholds(found: pd.Series[str]) -> str | None:
    """Thresholds by exit as JSON: an object, or a list with one per seed; `None` for a point of one threshold."""
    return None if found.empty else found.iloc[0] if len(found) == 1 else f"[{', '.join(found)}]"


def _sd(values: Floats) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _mcnemar(own: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]) -> float:
    found = [mcnemar_p(own[:, seed], reference[:, seed]) for seed in range(own.shape[1])]
    return found[0] if len(found) == 1 else min(1.0, 2.0 * float(np.mean(found)))


def work_rows(results: Results) -> pd.DataFrame:
    """F1, depth, retention and FLOPs of each operating point, means over seeds.

    flops_ratio is the reference's FLOPs divided by the system's: above 1 is cheaper.
    """
    columns = ["macro_f1", "f1", "avg_depth", "avg_retention", "retention_full_depth", "gflops", "gflops_pattern"]
    table = results.points.groupby(["system", "tau"], dropna=False)[columns].mean().reset_index()
    reference = float(at_point(table, results.reference)["gflops"].iloc[0])
    return table.assign(flops_ratio=reference / table["gflops"])


def calibration_rows(results: Results) -> pd.DataFrame:
    """Calibration of each system's quoted exit on the dev split, repeated for each of its thresholds.

    Values are means over seeds, as are the ends of the interval: it is as wide as that of one seed. The quoted exit is
    the deepest at which texts exit early, the paper's P_4, and the last head for a system without a rule.
    """
    columns = {
        "ece_raw": ("raw", "ece"),
        "ece_calibrated": ("calibrated", "ece"),
        "ece_debiased": ("calibrated", "ece_debiased"),
        "ece_debiased_low": ("calibrated", "ece_debiased_low"),
        "ece_debiased_high": ("calibrated", "ece_debiased_high"),
        "brier": ("calibrated", "brier"),
        "nll": ("calibrated", "nll"),
    }
    rows = []
    for system, tau in results.replays:
        depth = quoted_exit(results, system)
        found = [_dev_measures(calibration, depth) for calibration in results.calibrations[system]]
        row = {name: np.mean([one[stage][measure] for one in found]) for name, (stage, measure) in columns.items()}
        fitted = [temperatures_of(calibration)[depth] for calibration in results.calibrations[system]]
        rows.append({"system": system, "tau": tau, **row, "temperature": np.mean(fitted)})
    return pd.DataFrame(rows).astype({"tau": "float64"})


def quoted_exit(results: Results, system: str) -> int:
    """The exit whose calibration is in the summary; curves/reliability.csv has all exits."""
    *early, last = results.traces[system][0].logits
    return early[-1] if early and results.study.systems[system].exits.rule else last


def _dev_measures(calibration: Mapping[str, Any], depth: int) -> dict[str, dict[str, Any]]:
    """Stage -> the measures of one exit on the dev split."""
    return {one["stage"]: one for one in calibration["exits"] if one["split"] == "dev" and one["exit"] == depth}


def reference_rows(results: Results, quality: pd.DataFrame) -> pd.DataFrame:
    """The rows of the stock models.

    Exports of the reference system have its accuracy and FLOPs, and a rival that is timed again has its own. The others
    have random weights or another precision and are measured for latency only: n is 0 and the rest is empty.
    """
    dense = at_point(quality, results.reference)
    rows = []
    for system in results.timing["system"].drop_duplicates():
        if system in SAME_MODEL:
            rows.append(dense.assign(system=system, chosen=True))
        elif is_repeat(system):
            own = at_point(quality, (system.removesuffix(AGAIN), None))
            rows.append(own.assign(system=system))
        elif system not in results.study.systems:
            rows.append(dense[["tau", "calibration"]].assign(system=system, chosen=True, n=0))
    return pd.concat(rows, ignore_index=True)
