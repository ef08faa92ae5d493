"""The tables of a study's results, made from summary.csv and from the summary of an ablation.

A value is marked as the best of its column only if its interval lies entirely on the better side of all others;
columns without intervals are never marked.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from eat import rounding
from eat.errors import EatError, listed
from eat.report.quantities import (
    ACCURACY,
    COMPUTE,
    DELTA,
    DEPTH,
    F1,
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
from eat.report.table import Group, Row, Table
from eat.results.picks import is_choice
from eat.results.rows import is_true, rows_of, without_repeats
from eat.study.stock import STOCK, STOCK_PREFIX


def judged_by_f1(card: Mapping[str, Any]) -> bool:
    """Whether F1 of the positive class is reported as well: for pairs of texts with two classes, as in GLUE."""
    return bool(card["pair"]) and len(card["labels"]) == 2


def main_table(summary: pd.DataFrame, task: str, f1: bool = False) -> Table:
    """The chosen row of each system at batch 1: accuracy and its difference, time, and executed computation.

    f1: whether the task is also judged by F1 (`judged_by_f1`).
    """
    rows = chosen_rows(rows_of_batch(rows_of(summary, task), task, 1))
    quality = (ACCURACY, DELTA, *((F1,) if f1 else ()))
    quantities = (*quality, P50, SPEEDUP, SPEEDUP_MEAN, *_against_int8(rows), PACKED, DEPTH, RETENTION, WORK)
    rival = "" if INT8 not in quantities else ", over the dense model in int8 in ONNX Runtime"
    caption = (
        f"Results on {task}: each system at the threshold chosen on the calibration split, batch size 1, with 95 % "
        f"intervals. Differences are from the dense reference. Speed-ups are over its stock export{rival}, and over "
        "the reference in the packed engine. Retention is the share of tokens alive at the prediction. FLOPs are the "
        "reference's divided by the system's: above 1 is less work."
    )
    return _summary_table(rows, quantities, caption, f"results:{task}")


def throughput_table(summary: pd.DataFrame, task: str) -> Table | None:
    """The same systems at the largest timed batch size; `None` if only batch 1 was timed."""
    rows = rows_of(summary, task)
    batch = int(rows["batch_size"].max())
    if batch == 1:
        return None
    chosen = chosen_rows(rows_of_batch(rows, task, batch))
    quantities = (ACCURACY, RATE, SPEEDUP, SPEEDUP_MEAN, *_against_int8(chosen), PACKED, WORK)
    caption = (
        f"Throughput on {task} at batch size {rounding.count(batch)}: each system at its chosen threshold. Speed-ups "
        "are over the stock model with padding, in the order of arrival."
    )
    return _summary_table(chosen, quantities, caption, f"throughput:{task}")


def _against_int8(rows: pd.DataFrame) -> tuple[Quantity, ...]:
    """The speed-up over the dense model in int8 in ONNX Runtime, if that was timed."""
    return (INT8,) if rows["speedup_vs_int8"].notna().any() else ()


def frontier_table(summary: pd.DataFrame, task: str, f1: bool = False) -> Table:
    """Every operating point at batch 1. f1: see `main_table`."""
    rows = rows_of_batch(rows_of(summary, task), task, 1)
    quantities = (ACCURACY, DELTA, *((F1,) if f1 else ()), MCNEMAR, P50, P90, P99, SPEEDUP, DEPTH, RETENTION)
    caption = f"All operating points on {task}, batch size 1. A triangle marks the threshold that was chosen."
    return _summary_table(rows, quantities, caption, f"frontier:{task}", mark=False, choices=True)


ABLATIONS = {
    "switched_off": "parts of the trained system are switched off, nothing is retrained",
    "retrained": "each variant is trained separately",
}


def ablation_table(rows: pd.DataFrame, task: str) -> Table:
    """The reference, a system with all its parts, and its variants. rows: summary_ablation_{task}.csv."""
    parts = (Quantity(title, title.lower()) for title in ("Reducer", "Attention", "Exits"))
    measured = (ACCURACY, DELTA, MCNEMAR, COMPUTE, P50, SPEEDUP, DEPTH, RETENTION)
    caption = (
        f"Ablation on {task}: {ABLATIONS[rows['ablation'].iloc[0]]}. Each row is at its chosen threshold, batch "
        "size 1. Differences and FLOPs are relative to the dense reference, speed-ups are over its stock export."
    )
    quantities = (SYSTEM, *parts, THRESHOLD, *measured)
    return table_of(caption, f"ablation:{task}", quantities, [("", rows.to_dict("records"))])


def calibration_table(summary: pd.DataFrame, task: str) -> Table:
    """Calibration of each system at its chosen threshold: ECE before and after scaling, debiased ECE, Brier score, NLL.

    If the systems are calibrated in different modes, the caption lists the mode of each.
    """
    rows = chosen_rows(rows_of_batch(rows_of(summary, task), task, 1))
    rows = rows[rows["ece_raw"].notna() & ~rows["system"].isin([STOCK])]
    quantities = (
        Quantity("ECE raw", "ece_raw", rounding.calibration_error, unit="%"),
        Quantity("calibrated", "ece_calibrated", rounding.calibration_error, unit="%"),
        Quantity(
            "debiased", "ece_debiased", rounding.calibration_error, ("ece_debiased_low", "ece_debiased_high"), unit="%"
        ),
        Quantity("Brier", "brier", rounding.score),
        Quantity("NLL", "nll", rounding.score),
        Quantity("Temperature", "temperature", rounding.temperature),
    )
    caption = (
        f"Calibration on {task}: expected calibration error before and after temperature scaling, of the deepest exit "
        "at which texts may exit early (the last head if there is none)."
    )
    modes = {str(mode): own["system"] for mode, own in rows.groupby("calibration", sort=False)}
    if len(modes) > 1:
        caption += f" Calibration is {'; '.join(f'{mode} for {listed(systems)}' for mode, systems in modes.items())}."
    return _summary_table(rows, quantities, caption, f"calibration:{task}", mark=False)


def rows_of_batch(rows: pd.DataFrame, task: str, batch: int) -> pd.DataFrame:
    """The rows of summary.csv of one batch size, without the stock model's second run.

    Raises `EatError` if there is no row of this batch size.
    """
    found = rows[rows["batch_size"] == batch]
    if found.empty:
        sizes = sorted(int(size) for size in rows["batch_size"].unique())
        raise EatError(f"task {task!r}: no row of batch size {batch}; the summary has {listed(sizes)}")
    return without_repeats(found)


def chosen_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows at the chosen thresholds, and those of systems without a threshold."""
    return rows[is_true(rows["chosen"]) | rows["tau"].isna()]


def _summary_table(
    rows: pd.DataFrame,
    quantities: Sequence[Quantity],
    caption: str,
    label: str,
    mark: bool = True,
    choices: bool = False,
) -> Table:
    """The study's systems, then the dense rivals, with those without an accuracy last.

    mark: mark the best value of a column. choices: mark the rows that were chosen.
    """
    best = {
        # rows that are measured for latency only have no answers and are not compared
        quantity.source: best_row(rows[rows["accuracy"].notna()], quantity.source, quantity.bounds) if mark else None
        for quantity in quantities
    }
    quantities = (SYSTEM, *([THRESHOLD] if rows["tau"].notna().any() else []), *quantities)
    is_stock = rows["system"].str.startswith(STOCK_PREFIX)
    stock = rows[is_stock].sort_values(
        ["accuracy", "system"],
        key=lambda column: column.isna() if column.name == "accuracy" else column.str.len(),
        kind="stable",
    )
    groups = []
    for heading, part in (("", rows[~is_stock]), ("Dense rivals", stock)):
        lines = []
        for index, row in zip(part.index, part.to_dict("records"), strict=True):
            cells = [quantity.cell(row, best=index == best.get(quantity.source)) for quantity in quantities]
            lines.append(Row(tuple(cells), chosen=choices and is_choice(row)))
        if lines:
            groups.append(Group(heading, tuple(lines)))
    return Table(caption, label, tuple(quantity.column() for quantity in quantities), tuple(groups))


def best_row(rows: pd.DataFrame, source: str, bounds: tuple[str, str] | None) -> Hashable | None:
    """The index of the row whose interval lies entirely above those of all others; `None` if there is no such row.

    For rows without an interval (the reference against itself) the value is used.
    """
    if bounds is None:
        return None
    known = rows[rows[source].notna()]
    if len(known) < 2:
        return None
    ranked = known.assign(
        low=known[bounds[0]].fillna(known[source]), high=known[bounds[1]].fillna(known[source])
    ).sort_values(source, ascending=False, kind="stable")
    leads = ranked["low"].iloc[0] > ranked["high"].iloc[1:].max()
    return ranked.index.tolist()[0] if leads else None
