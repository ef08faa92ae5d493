"""Which row of a study to use, in one sentence: an adaptive int8 row that is shown to be better, or the dense one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eat import rounding
from eat.errors import EatError, listed
from eat.report.verdicts import Kept, promise_verdict
from eat.results.rows import Record, is_true, of_task, rows_of
from eat.study.stock import STRONGEST

if TYPE_CHECKING:
    import pandas as pd

    from eat.study.study import Study

MEASURED = (
    "accuracy", "accuracy_low", "accuracy_high", "delta_accuracy", "delta_low", "delta_high", "latency_ms_p50",
    "latency_ms_p90", "speedup_vs_int8", "speedup_vs_int8_low", "speedup_vs_int8_high", "avg_depth", "tau",
)  # fmt: skip
"""The columns of summary.csv that are kept of a row."""


@dataclass(frozen=True)
class Recommendation:
    """A row of a study. sentence: why. figures: what was measured of it at batch size 1, and its promise."""

    task: str
    system: str
    sentence: str
    figures: Mapping[str, Any]


def recommend(study: Study, task: str, summary: pd.DataFrame, promises: pd.DataFrame) -> Recommendation:
    """The row to use for a task.

    An adaptive row in int8 is recommended if a threshold keeps its promise, dev does not show it broken, it is faster
    than the dense model in int8 in ONNX Runtime (the 95 % interval is above 1), and its accuracy is neither shown to be
    lower than the reference's nor lower by more than the study's `accuracy_budget`; of several, the fastest. Otherwise
    it is that dense model. summary, promises: the study's tables. Raises `EatError` if that model was not timed.
    """
    rows = rows_of(summary, task)
    rows = rows[(rows["batch_size"] == 1) & is_true(rows["chosen"])]
    by_system: dict[str, Record] = {str(row["system"]): row for row in rows.to_dict("records")}
    if STRONGEST not in by_system:
        raise EatError(
            f"task {task!r}: no row {STRONGEST}; add {{engine: onnx, precision: int8}} to timing.stock and run again"
        )
    made = of_task(promises, task, may_be_empty=True)
    candidates = [name for name in by_system if _is_adaptive_int8(study, name)]
    reasons = {name: _against(study, by_system[name], _of_system(made, name)) for name in candidates}
    good = [name for name in candidates if not reasons[name]]
    dense = by_system[STRONGEST]
    if not good:
        return Recommendation(task, STRONGEST, _dense_sentence(dense, reasons), _figures(dense, []))
    best = max(good, key=lambda name: by_system[name]["speedup_vs_int8"])
    promised = _of_system(made, best)
    return Recommendation(
        task, best, _adaptive_sentence(by_system[best], dense, promised), _figures(by_system[best], promised)
    )


def model_of(study: Study, system: str) -> tuple[str, str]:
    """The (system, stage) whose weights a recommended row runs."""
    return study.models_of(system)[0]


def _is_adaptive_int8(study: Study, name: str) -> bool:
    row = study.systems.get(name)
    return row is not None and (row.engine, row.precision) == ("onnx", "int8") and bool(row.exits.rule)


def _of_system(promises: pd.DataFrame, name: str) -> list[Record]:
    """The promises of a system, one per seed."""
    return [*promises[promises["system"] == name].to_dict("records")]


def _against(study: Study, row: Record, promised: list[Record]) -> str:
    """Why an adaptive row is not recommended; empty if nothing is against it."""
    if not promised or any(one["tau"] >= 1 for one in promised):
        return "no threshold keeps its promise"
    if "broken" in [_verdict(one) for one in promised]:
        return f"its promise is broken on dev ({_observed(promised)})"
    if not row["speedup_vs_int8_low"] > 1:
        return f"is not shown to be faster ({_speed(row)} times)"
    if row["delta_high"] < 0 or row["delta_accuracy"] < -study.accuracy_budget:
        within = rounding.interval(row["delta_low"], row["delta_high"], rounding.points)
        return f"its accuracy differs by {rounding.points(row['delta_accuracy'])} points {within}"
    return ""


def _adaptive_sentence(row: Record, dense: Record, promised: list[Record]) -> str:
    verdicts = [_verdict(one) for one in promised]
    kept = "was kept on dev" if set(verdicts) == {"kept"} else "is neither shown to be kept nor broken on dev"
    return (
        f"Use {row['system']}: one text at a time it is {_speed(row)} times as fast as the dense model in int8 in ONNX "
        f"Runtime ({_ms(row)} against {_ms(dense)} ms, medians), its accuracy on dev is {_accuracy(row)} (dense in "
        f"int8: {_accuracy(dense)}), and its promise, at most {100 * promised[0]['epsilon']:g} % of texts "
        f"answered differently than at its full depth, {kept} ({_observed(promised)})."
    )


def _dense_sentence(dense: Record, reasons: Mapping[str, str]) -> str:
    others = "; ".join(f"{name} {_joined(why)}" for name, why in reasons.items())
    return (
        f"Use {STRONGEST}, the dense model in int8 in ONNX Runtime without early exits: its accuracy on dev is "
        f"{_accuracy(dense)}, and it takes {_ms(dense)} ms for a text (median)"
        + (f", while {others}." if others else ".")
    )


def _joined(why: str) -> str:
    return why if why.startswith("is ") else f"is not recommended, since {why}"


def _verdict(one: Record) -> Kept:
    return promise_verdict(one["epsilon"], one["observed_low"], one["observed_high"])


def _observed(promised: list[Record]) -> str:
    """The observed disagreement of each seed."""
    return listed(
        f"{rounding.risk(one['observed'])} % "
        f"{rounding.interval(one['observed_low'], one['observed_high'], rounding.risk)}"
        for one in promised
    )


def _speed(row: Record) -> str:
    ends = row["speedup_vs_int8_low"], row["speedup_vs_int8_high"]
    return rounding.with_interval(row["speedup_vs_int8"], *ends, rounding.speedup)


def _accuracy(row: Record) -> str:
    within = rounding.interval(row["accuracy_low"], row["accuracy_high"], rounding.percent)
    return f"{rounding.percent(row['accuracy'])} % {within}"


def _ms(row: Record) -> str:
    return rounding.milliseconds(row["latency_ms_p50"])


def _figures(row: Record, promised: list[Record]) -> dict[str, Any]:
    """What is kept of a row as JSON values; a gap is null."""
    found: dict[str, Any] = {name: _plain(row[name]) for name in MEASURED}
    names = ("seed", "epsilon", "delta", "tau", "n", "bad", "n_dev", "bad_dev", "observed", "observed_low")
    found["promises"] = [
        {name: _plain(one[name]) for name in (*names, "observed_high")} | {"on_dev": _verdict(one)} for one in promised
    ]
    return found


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value
