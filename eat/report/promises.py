"""Thresholds with risk control: the promised risk, and the risk observed on the dev texts."""

from __future__ import annotations

from collections.abc import Mapping

from eat import rounding
from eat.report import verdicts
from eat.report.quantities import SYSTEM, THRESHOLD, Quantity, table_of
from eat.report.results import TaskFiles
from eat.report.table import Table
from eat.report.verdicts import Kept
from eat.results.rows import Record

_RISKS = {
    "disagreement": "answered differently from the same system without early exits",
    "accuracy": "answered incorrectly although the same system without early exits is correct",
}

_KEPT: Mapping[Kept, str] = {"kept": "kept", "broken": "broken", "undecided": "not decided"}


def promises_table(task: TaskFiles) -> Table | None:
    """Each promise of a task: its risk and threshold, and whether it was kept; `None` if no system makes one."""
    if task.promises.empty:
        return None
    quantities = (
        SYSTEM,
        Quantity("Seed", "seed", rounding.count),
        Quantity("Risk", "risk"),
        Quantity("Promised", "epsilon", rounding.risk, unit="at most, %"),
        Quantity("Confidence", "confidence", rounding.percent, unit="%"),
        Quantity("Texts", "n", rounding.count, unit="calibration"),
        Quantity("Bad", "bad", rounding.count, unit="calibration"),
        THRESHOLD,
        Quantity("Texts", "n_dev", rounding.count, unit="dev"),
        Quantity("Bad", "bad_dev", rounding.count, unit="dev"),
        Quantity("Observed", "observed", rounding.risk, ("observed_low", "observed_high"), unit="%"),
        Quantity("On dev", "on_dev"),
    )
    rows = [
        {**row, "confidence": 1.0 - row["delta"], "on_dev": _KEPT[_verdict(row)]}
        for row in task.promises.to_dict("records")
    ]
    caption = (
        f"Risk control on {task.name}: the promised upper bound of the risk and its confidence, the threshold that "
        "Learn-then-Test chose on the calibration split, and the observed risk on the dev texts, with its exact 95 % "
        "interval. Kept: the interval ends at or below the promised bound; broken: it begins above it. With a "
        "threshold of 1.00 no text exits early."
    )
    return table_of(caption, f"promises:{task.name}", quantities, [("", rows)])


def _verdict(row: Record) -> Kept:
    return verdicts.promise_verdict(row["epsilon"], row["observed_low"], row["observed_high"])
