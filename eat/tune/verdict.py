"""What the clock and the dev texts, seen once, say of the best row beside the hand-made rows and the dense model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from eat import rounding
from eat.errors import EatError, listed
from eat.results.rows import Record, is_true, of_task
from eat.results.timed_calls import Point as TimedPoint
from eat.results.timed_calls import at_point, by_unit, paired
from eat.statistics import Estimate, median_ratio
from eat.study.stock import STOCK, STRONGEST
from eat.tune.options import Budget
from eat.tune.rows import TUNED

if TYPE_CHECKING:
    from collections.abc import Mapping

MEASURED = (
    "tau", "accuracy", "accuracy_low", "accuracy_high", "delta_accuracy", "delta_low", "delta_high", "latency_ms_p50",
    "latency_ms_p90", "speedup_vs_int8", "avg_depth",
)  # fmt: skip
"""The columns of summary.csv that are kept of a row."""


@dataclass(frozen=True)
class Verdict:
    """sentence: whether the best row keeps its budget on dev and beats the others. rows: what was measured of each."""

    sentence: str
    rows: Mapping[str, Mapping[str, Any]]


def verdict(
    summary: pd.DataFrame, calls: pd.DataFrame, task: str, beside: Sequence[str], budget: Budget, reference: str
) -> Verdict:
    """Compare the best row with the rows beside it and the dense model in int8, one text at a time, on dev.

    summary: summary.csv. calls: the timed calls of the task. It beats a row if it keeps the budget on dev and is faster
    (the 95 % interval of paired ratios is above 1), or under a budget of time is more accurate; a row beside it that
    breaks the budget on dev is beaten, too, if the best row keeps it.
    """
    rows = of_task(summary, task)
    rows = rows[(rows["batch_size"] == 1) & is_true(rows["chosen"])]
    by_system: dict[str, Record] = {str(row["system"]): row for row in rows.to_dict("records")}
    compared = [name for name in (*beside, STRONGEST) if name in by_system and name != TUNED]
    if missing := [name for name in (TUNED, reference) if name not in by_system]:
        raise EatError(f"{listed(missing)}: no row in the summary; run again")
    timed = {name: by_unit(at_point(calls[calls["batch_size"] == 1], _point(by_system[name]))) for name in compared}
    own = by_unit(at_point(calls[calls["batch_size"] == 1], _point(by_system[TUNED])))
    ratios = {name: _times_as_fast(own, times, name, task) for name, times in timed.items()}
    tuned = by_system[TUNED]
    kept = _keeps(budget, tuned)
    parts = [
        f"On dev the best row answers {_accuracy(tuned)} right ({_delta(tuned)} points against {reference}) in "
        f"{rounding.milliseconds(tuned['latency_ms_p50'])} ms (median; 90th percentile "
        f"{rounding.milliseconds(tuned['latency_ms_p90'])} ms): the budget, {budget}, is "
        f"{'kept' if kept else 'not kept'}"
    ]
    parts += [_against(name, by_system[name], tuned, ratios[name], budget, kept) for name in compared]
    shown = [name for name in (TUNED, *beside, reference, STOCK, STRONGEST) if name in by_system]
    measured = {
        name: {key: _plain(by_system[name].get(key)) for key in MEASURED}
        | ({"tuned_times_as_fast": _ends(ratios[name])} if name in ratios else {})
        for name in shown
    }
    return Verdict("; ".join(parts) + ".", measured)


def _against(name: str, row: Record, tuned: Record, ratio: Estimate, budget: Budget, kept: bool) -> str:
    """Whether the best row beats another one."""
    speed = f"{rounding.with_interval(ratio.value, ratio.low, ratio.high, rounding.speedup)} times as fast"
    more = tuned["accuracy"] - row["accuracy"]
    accuracy = f"{rounding.points(more)} points of accuracy"
    if not kept:
        beats = False
    elif not _keeps(budget, row):
        beats = True
    else:
        beats = more > 0 if budget.kind == "p90_ms" else ratio.low > 1
    breaks = "" if _keeps(budget, row) else ", which does not keep the budget"
    return f"it {'beats' if beats else 'does not beat'} {name}{breaks}: {speed}, {accuracy}"


def _keeps(budget: Budget, row: Record) -> bool:
    if budget.kind == "p90_ms":
        return bool(row["latency_ms_p90"] <= budget.limit)
    return bool(-row["delta_accuracy"] <= budget.limit + 1e-9)


def _times_as_fast(own: pd.DataFrame, other: pd.DataFrame, name: str, task: str) -> Estimate:
    point: TimedPoint = (name, None)
    mine, others = paired({point: other}, point, own, task)
    return median_ratio(others, mine, own.index.get_level_values("block").to_numpy())


def _point(row: Record) -> TimedPoint:
    tau = row["tau"]
    return str(row["system"]), None if pd.isna(tau) else float(tau)


def _accuracy(row: Record) -> str:
    within = rounding.interval(row["accuracy_low"], row["accuracy_high"], rounding.percent)
    return f"{rounding.with_percent(row['accuracy'])} {within}"


def _delta(row: Record) -> str:
    return rounding.with_interval(row["delta_accuracy"], row["delta_low"], row["delta_high"], rounding.points)


def _ends(ratio: Estimate) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(ratio).items()}


def _plain(value: Any) -> Any:
    return None if value is None or pd.isna(value) else float(value)
