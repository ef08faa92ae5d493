"""The systems that answer the reader's question: the fastest without a loss, and the fastest within a point.

A system without a loss is one for which a loss of more than a point of accuracy is excluded by the interval. A system
within a point is one whose measured accuracy is at most a point below that of the dense reference. Both are compared
with what a user would take otherwise: the dense model in int8 in ONNX Runtime, or the stock model if that was not
timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eat.results.noise import NoiseFloor, Speed, speed_verdict
from eat.results.rows import Record, is_true, without_repeats
from eat.study.stock import AGAIN, STOCK, STOCK_PREFIX, STRONGEST

if TYPE_CHECKING:
    import pandas as pd

LOSS_BOUND = 0.01
"""One point of accuracy: the loss that must be excluded before the text may state that there is no loss."""

STOCK_COLUMNS = ("speedup_vs_dense", "speedup_low", "speedup_high")
INT8_COLUMNS = ("speedup_vs_int8", "speedup_vs_int8_low", "speedup_vs_int8_high")
"""The columns of summary.csv with the ratio to a baseline and the ends of its interval."""


@dataclass(frozen=True)
class Baseline:
    """What a user would take otherwise. columns: those of the ratio to it.

    noise: the ratio of the baseline to itself, or that of the stock model if the baseline was not timed twice; `None`
    if neither was.
    """

    system: str
    columns: tuple[str, str, str]
    noise: NoiseFloor | None

    def ratio(self, row: Record) -> tuple[float, float, float]:
        """The median paired speed-up of a row over the baseline, and its interval; NaN if there is none."""
        middle, low, high = (float(row[name]) for name in self.columns)
        return middle, low, high

    def verdict(self, row: Record) -> Speed:
        """Whether a row is faster or slower than the baseline."""
        _, low, high = self.ratio(row)
        return speed_verdict(low, high, self.noise or NoiseFloor(1.0, 1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Picks:
    """The rows at batch 1 that answer the question. candidates: how many systems they were picked from.

    no_loss, within: `None` if no system qualifies; `within` is also `None` if it is the same system.
    """

    baseline: Baseline
    candidates: int
    no_loss: Record | None
    within: Record | None

    @property
    def systems(self) -> list[str]:
        """The names of the picked systems."""
        return [str(row["system"]) for row in (self.no_loss, self.within) if row is not None]


def baseline_of(rows: pd.DataFrame) -> Baseline:
    """The baseline of a task. rows: those of summary.csv of the task at batch size 1."""
    is_there = ((rows["system"] == STRONGEST) & rows["speedup_vs_int8"].notna()).any()
    name = STRONGEST if is_there else STOCK
    columns = INT8_COLUMNS if is_there else STOCK_COLUMNS
    noise = _noise(rows, f"{name}{AGAIN}", columns) or _noise(rows, f"{STOCK}{AGAIN}", STOCK_COLUMNS)
    return Baseline(name, columns, noise)


def _noise(rows: pd.DataFrame, again: str, columns: tuple[str, str, str]) -> NoiseFloor | None:
    """The ratio of a baseline to its own second run, if there is such a row."""
    found = rows[(rows["system"] == again) & rows[columns[1]].notna()].to_dict("records")
    if not found:
        return None
    middle, low, high = (float(found[0][name]) for name in columns)
    return NoiseFloor(middle, low, high, middle)


def chosen_at_1(rows: pd.DataFrame) -> pd.DataFrame:
    """The chosen rows at batch size 1 with a time, without the runs of the noise floor."""
    chosen = rows[(rows["batch_size"] == 1) & is_true(rows["chosen"])]
    return without_repeats(chosen[chosen["latency_ms_p50"].notna()])


def is_choice(row: Record) -> bool:
    """Whether a row is the chosen one of a system that has a choice: of a threshold, or of one for each exit."""
    is_gap = row["tau"] is None or row["tau"] != row["tau"]
    has_choice = not is_gap or isinstance(row.get("thresholds"), str)
    return has_choice and str(row["chosen"]).lower() == "true"


def picks_of(rows: pd.DataFrame, reference: str) -> Picks:
    """The picked systems of a task. rows: those of summary.csv of the task. The reference and rivals are no candidates.

    Systems that are shown to be faster than the baseline come first, then the one with the greatest ratio.
    """
    baseline = baseline_of(rows[rows["batch_size"] == 1])
    chosen = chosen_at_1(rows)
    own = chosen[~chosen["system"].str.startswith(STOCK_PREFIX) & (chosen["system"] != reference)]
    own = own[own[list(baseline.columns)].notna().all(axis=1) & own["delta_low"].notna()]
    candidates: list[Record] = [*own.to_dict("records")]
    no_loss = _fastest([row for row in candidates if row["delta_low"] >= -LOSS_BOUND], baseline)
    within = _fastest([row for row in candidates if row["delta_accuracy"] >= -LOSS_BOUND], baseline)
    if no_loss is not None and within is not None and no_loss["system"] == within["system"]:
        within = None
    return Picks(baseline, len(candidates), no_loss, within)


def _fastest(rows: Sequence[Record], baseline: Baseline) -> Record | None:
    return max(rows, key=lambda row: (baseline.verdict(row) == "faster", baseline.ratio(row)[0]), default=None)


def pareto_front(x: np.ndarray, accuracy: np.ndarray, low_is_good: bool = True) -> list[int]:
    """Indices of the points that no other point dominates, starting from the best `x`.

    A point is dominated by one that is at least as accurate and at least as good in `x`, and better in one of the two.
    x, accuracy: float (n,). Of equal points the first is kept.
    """
    cost = x if low_is_good else -x
    front: list[int] = []
    for index in sorted(range(len(cost)), key=lambda i: (cost[i], -accuracy[i])):
        if not front or accuracy[index] > accuracy[front[-1]]:
            front.append(index)
    return front
