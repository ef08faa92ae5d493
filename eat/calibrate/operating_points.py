"""Every threshold's accuracy, depth, retention and FLOPs, from the trace alone.

A trace contains the output of every exit for every text. `replay` lets a text exit at the first exit at which the rule
of the engine would have fired. No model runs again, so a new list of thresholds requires no training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.calibrate.cost import escalation_level
from eat.errors import EatError, listed
from eat.files import read_json
from eat.model.exit_policy import ExitPolicy
from eat.progress import Progress
from eat.results.calibrated import Promised, promised_of, temperatures_of
from eat.results.replay import policies, replay
from eat.results.trace import Trace
from eat.statistics import macro_f1, positive_f1
from eat.study.specs.calibrate import OperatingSpec

if TYPE_CHECKING:
    from eat.study.study import Study
    from eat.study.tasks import Triage

COLUMNS = (
    "task", "system", "seed", "split", "tau", "thresholds", "escalate_below", "calibration", "chosen", "within_budget",
    "n", "accuracy", "macro_f1", "f1", "avg_depth", "avg_retention", "retention_full_depth", "gflops",
    "gflops_pattern", "exit_fractions",
)  # fmt: skip

_SAME = 1e-9  # accuracies are counts over n: smaller differences are rounding


def operating_points(
    traces: Mapping[str, Trace],
    spec: OperatingSpec,
    temperatures: Mapping[int, float],
    promised: Promised | None = None,
    triage: Triage | None = None,
    costs: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """One row per threshold and split of a trained system.

    traces: split -> trace, `calibration` among them. temperatures: layer -> T. promised: as in `policies`. triage,
    costs: of the task, if its mistakes have a cost; costs by class.
    Rows hold split, tau, thresholds (JSON, layer -> threshold, of the point that calibration found, else `None`),
    escalate_below (the confidence at full depth below which a person decides, chosen on the calibration split; NaN
    without triage), calibration, n, accuracy, macro_f1, f1 (of class 1 if there are two classes, else NaN), avg_depth,
    avg_retention (at the answer), retention_full_depth (tokens that enter the last layer, which the last head reads;
    0.49 in the paper), gflops and gflops_pattern (mean per text), exit_fractions (JSON, layer -> share of the texts).
    """
    points = policies(spec, temperatures, promised)
    levels = dict.fromkeys(points, math.nan)
    if triage is not None:
        chosen_on = traces["calibration"]
        for tau, policy in points.items():
            levels[tau] = escalation_level(replay(chosen_on, policy), chosen_on, costs, triage.review)
    return [
        {
            "split": split,
            "tau": tau,
            "thresholds": json.dumps(policy.as_point()["tau"]) if isinstance(policy.tau, Mapping) else None,
            "escalate_below": levels[tau],
            "calibration": spec.calibration,
            **_measured(trace, policy, split),
        }
        for split, trace in traces.items()
        for tau, policy in points.items()
    ]


def _measured(trace: Trace, policy: ExitPolicy, split: str) -> dict[str, Any]:
    found = replay(trace, policy, f"the {split} trace")
    return {
        "n": len(trace.labels),
        "accuracy": float(np.mean(found.predictions == trace.labels)),
        "macro_f1": macro_f1(trace.labels, found.predictions),
        "f1": positive_f1(trace.labels, found.predictions) if trace.shape["classes"] == 2 else math.nan,
        "avg_depth": float(found.depth.mean()),
        "avg_retention": float(found.retention.mean()),
        "retention_full_depth": float(np.mean(trace.fed[:, -1] / trace.lengths)),
        "gflops": float(found.flops.mean() / 1e9),
        "gflops_pattern": float(found.pattern_flops.mean() / 1e9),
        "exit_fractions": json.dumps({str(depth): float(np.mean(found.depth == depth)) for depth in trace.logits}),
    }


def choose(rows: pd.DataFrame, reference_accuracy: float, budget: float) -> float | None:
    """The chosen threshold of a system: the cheapest within the budget, else the most accurate.

    rows: operating points of one system on the calibration split, of all seeds; accuracy and FLOPs are averaged over
    seeds first, so that a system has one threshold. budget: the largest allowed distance below `reference_accuracy`.
    Returns tau, or None for a system without thresholds.
    """
    points = rows.groupby("tau", dropna=False)[["accuracy", "gflops"]].mean().reset_index()
    good = points[_stays_within(points["accuracy"], reference_accuracy, budget)]
    if good.empty:
        good = points[points["accuracy"] >= points["accuracy"].max() - _SAME]
    tau = good.sort_values(["gflops", "accuracy"], ascending=[True, False])["tau"].iloc[0]
    return None if pd.isna(tau) else float(tau)


def task_operating_points(
    study: Study,
    task: str,
    traces: Mapping[tuple[str, int], Mapping[str, Path | str]],
    calibrations: Mapping[tuple[str, int], Path | str],
) -> pd.DataFrame:
    """The table of one task: every system, seed, split and threshold, with the chosen ones marked.

    traces: (system, seed) -> split (`calibration`, `dev`) -> Parquet file of the trace. calibrations: (system, seed) ->
    JSON file. Raises `EatError` if a run of the study is missing, a file is damaged, or the reference was not given.
    """
    runs = [(system, seed) for system in study.systems for seed in study.seeds]
    given = set(traces) & set(calibrations)
    missing = [f"{system} seed {seed}" for system, seed in runs if (system, seed) not in given]
    if missing:
        raise EatError(f"task {task}: no trace or calibration of {listed(missing)}; run the workflow for them")
    rows: list[dict[str, Any]] = []
    with Progress("replayed", len(runs), "models", task) as progress:
        for system, seed in runs:
            read = {split: Trace.read(path) for split, path in traces[system, seed].items()}
            calibration = read_json(calibrations[system, seed])
            found = temperatures_of(calibration), promised_of(calibration)
            options = study.tasks[task]
            points = operating_points(read, study.operating_spec(system), *found, options.triage, options.costs)
            rows += [{"task": task, "system": system, "seed": seed, **row} for row in points]
            progress.advance()
    table = pd.DataFrame(rows).astype({"tau": "float64"})
    promised = [system for system, row in study.systems.items() if row.exits.choose.finds_thresholds]
    table["chosen"] = chosen_rows(table, study.reference, study.accuracy_budget, promised)
    table["within_budget"] = within_budget(table, study.reference, study.accuracy_budget)
    return table[list(COLUMNS)]


def chosen_rows(
    table: pd.DataFrame, reference: str, budget: float, promised: Collection[str] = ()
) -> npt.NDArray[np.bool_]:
    """Which rows of a task's operating points are at the threshold chosen for their system; bool, one per row.

    promised: the systems whose point was chosen by disagreement or by cost: the one without a single threshold.
    """
    calibration = table[table["split"] == "calibration"]
    reference_accuracy = _reference_accuracy(calibration, reference)
    taus = {
        str(system): None if system in promised else choose(rows, reference_accuracy, budget)
        for system, rows in calibration.groupby("system", sort=False)
    }
    chosen = table["system"].map(taus).astype("float64")
    return ((table["tau"] == chosen) | (table["tau"].isna() & chosen.isna())).to_numpy()


def within_budget(table: pd.DataFrame, reference: str, budget: float) -> npt.NDArray[np.bool_]:
    """Which rows are at a threshold within the budget on the calibration split; bool, one per row.

    A chosen threshold that is not within the budget is the most accurate of its system.
    """
    calibration = table[table["split"] == "calibration"]
    means = calibration.groupby(["system", "tau"], dropna=False)["accuracy"].mean().rename("kept").reset_index()
    kept = table[["system", "tau"]].merge(means, on=["system", "tau"], how="left")["kept"]
    return _stays_within(kept, _reference_accuracy(calibration, reference), budget).to_numpy()


def _stays_within(accuracy: pd.Series[float], reference_accuracy: float, budget: float) -> pd.Series[bool]:
    return accuracy >= reference_accuracy - budget - _SAME


def _reference_accuracy(calibration: pd.DataFrame, reference: str) -> float:
    return float(calibration.loc[calibration["system"] == reference, "accuracy"].mean())
