"""Tables about single systems: the verdict on each, what it does with a text, and all that was measured of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from eat import rounding
from eat.report.quantities import (
    ACCURACY,
    DELTA,
    DEPTH,
    INT8,
    MCNEMAR,
    P50,
    P90,
    P99,
    PACKED,
    RATE,
    RETENTION,
    SPEEDUP,
    SPEEDUP_MEAN,
    SYSTEM,
    THRESHOLD,
    WORK,
    Quantity,
    table_of,
)
from eat.report.table import Cell, Column, Group, Row, Table
from eat.report.verdicts import accuracy_verdict
from eat.results.noise import NoiseFloor, speed_verdict
from eat.results.picks import is_choice
from eat.results.rows import Record, is_true

DEEP = Quantity("vs. deep", "speedup_vs_deep", rounding.ratio, unit="median")

_ACCURACY = {"undecided": "not decided", "no loss shown": "no loss shown", "no loss": "no loss"}


def verdict_table(trained: pd.DataFrame, task: str, noise: Mapping[int, NoiseFloor], reference: str) -> Table:
    """Whether each system is faster and as accurate, as far as the intervals show. trained: its chosen rows."""
    batches = sorted(noise)
    quantities = [
        SYSTEM,
        *(Quantity("Speed", f"speed_{batch}", unit=f"batch {batch}") for batch in batches),
        Quantity("Accuracy", "verdict"),
        Quantity("Budget", "budget", unit="calibration"),
    ]
    alone = trained[trained["batch_size"] == 1]
    has_deep = alone["speedup_vs_deep"].notna().any()
    if has_deep:
        quantities.append(DEEP)
    rows: list[Record] = []
    for row in alone.to_dict("records"):
        own = trained[trained["system"] == row["system"]].set_index("batch_size")
        speeds = {f"speed_{batch}": _speed(own, batch, noise[batch]) for batch in batches}
        rows.append({**row, **speeds, "verdict": _accuracy(row, reference), "budget": _budget(row)})
    caption = (
        f"Verdicts on {task} at the chosen thresholds. Speed: against the stock dense model, faster or slower only if "
        "the 95 % interval lies outside the noise floor. Accuracy: against the dense reference, higher or lower only "
        "if the interval excludes 0; no loss shown: the difference is at least 0 and the interval excludes a loss of "
        "one point; not decided: none of these. Budget: whether a threshold kept the accuracy budget on the "
        "calibration split; if none did, the most accurate one was chosen."
    )
    if has_deep:
        caption += " vs. deep: the speed-up over a deeper stock model with random weights, batch size 1."
    return table_of(caption, f"verdicts:{task}", quantities, [("", rows)])


def _speed(own: pd.DataFrame, batch: int, noise: NoiseFloor) -> str:
    low, high = (float(own[name].get(batch, math.nan)) for name in ("speedup_low", "speedup_high"))
    return "not timed" if math.isnan(low) else speed_verdict(low, high, noise)


def _accuracy(row: Record, reference: str) -> str:
    if row["system"] == reference:
        return "reference"
    if pd.isna(row["delta_low"]) or pd.isna(row["delta_high"]):
        return "not compared"
    verdict = accuracy_verdict(
        row["delta_accuracy"], row["delta_low"], row["delta_high"], int(row["seeds"]), int(row["n"])
    )
    return _ACCURACY.get(verdict, verdict)


def _budget(row: Record) -> str:
    if pd.isna(row["tau"]) and not isinstance(row.get("thresholds"), str):
        return rounding.DASH
    return "kept" if is_true(pd.Series([row["within_budget"]])).all() else "not kept"


def behaviour_table(single: Sequence[Record], exits: pd.DataFrame, task: str) -> Table | None:
    """Depth, early exits and live tokens of each adaptive system at its choice; `None` if no system adapts."""
    rows = []
    for row in single:
        own = exits[(exits["system"] == row["system"]) & is_true(exits["chosen"])]
        last = exits.loc[exits["system"] == row["system"], "exit"].max()
        early = float(own.loc[own["exit"] < last, "fraction"].sum())
        if pd.isna(row["tau"]) and row["retention_full_depth"] >= 1 and early == 0:
            continue
        rows.append({**row, "early": early})
    if not rows:
        return None
    quantities = (
        SYSTEM,
        THRESHOLD,
        DEPTH,
        Quantity("Exit early", "early", rounding.percent, unit="% of texts"),
        RETENTION,
        Quantity("", "retention_full_depth", rounding.retention, unit="full depth"),
    )
    caption = (
        f"What the systems do with a text of {task}, at the chosen thresholds: layers executed on average, texts that "
        "exit before the system's last layer, and tokens alive when the prediction is made and at full depth."
    )
    return table_of(caption, f"behaviour:{task}", quantities, [("", rows)])


@dataclass(frozen=True)
class Details:
    """All that was measured of one system. anchor: its place in the page. brief: its speed and accuracy at batch 1."""

    name: str
    anchor: str
    brief: str
    table: Table


def system_tables(trained: pd.DataFrame, task: str, anchor: str) -> list[Details]:
    """All that was measured of each system at its choice: a row for each quantity, a column for each batch size.

    anchor: that of the task.
    """
    batches = sorted(int(batch) for batch in trained["batch_size"].unique())
    quantities = (
        ACCURACY, DELTA, MCNEMAR, THRESHOLD, DEPTH, RETENTION, WORK, P50, P90, P99, RATE, SPEEDUP, SPEEDUP_MEAN, INT8,
        PACKED, DEEP,
    )  # fmt: skip
    columns = (Column("Quantity", align="left"), *(Column("Batch", f"{batch}") for batch in batches))
    found: list[Details] = []
    for name, own in trained.groupby("system", sort=False):
        by_batch = {int(row["batch_size"]): row for row in own.to_dict("records")}
        rows = []
        title = ""
        for quantity in quantities:
            title = quantity.title or title
            cells = [quantity.cell(by_batch[batch]) if batch in by_batch else Cell(rounding.DASH) for batch in batches]
            if any(cell.text != rounding.DASH for cell in cells):
                unit = f" ({quantity.unit})" if quantity.unit else ""
                rows.append(Row((Cell(f"{title}{unit}"), *cells)))
        has_choice = any(is_choice(row) for row in by_batch.values())
        caption = f"{name} on {task}{', at the chosen threshold' if has_choice else ''}."
        table = Table(caption, f"system:{task}:{name}", columns, (Group("", tuple(rows)),))
        found.append(Details(str(name), f"{anchor}-system-{len(found) + 1}", _brief(by_batch.get(1)), table))
    return found


def _brief(row: Record | None) -> str:
    """Speed-up over the stock model and difference from the reference, as far as they were measured."""
    if row is None:
        return ""
    parts: list[str] = []
    if not pd.isna(row["speedup_vs_dense"]):
        parts.append(f"{rounding.x_times(row['speedup_vs_dense'])} the speed of the stock model")
    if not pd.isna(row["delta_accuracy"]):
        parts.append(f"{rounding.points(row['delta_accuracy'])} points")
    return ", ".join(parts)
