"""Columns of tables that are read from a column of a results file, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from eat import rounding
from eat.report.table import Cell, Column
from eat.results.rows import Record
from eat.rounding import Rounder, or_dash


@dataclass(frozen=True)
class Quantity:
    """A column of a table made from a column of a results file, with the columns of its interval."""

    title: str
    unit: str
    source: str
    rounder: Rounder
    bounds: tuple[str, str] | None = None

    def column(self) -> Column:
        """The heading of the column."""
        return Column(self.title, self.unit, interval=self.bounds is not None)

    def cell(self, row: Record, best: bool = False) -> Cell:
        """The value of a row of the file, rounded, with its interval; a dash if it is empty."""
        text = or_dash(row[self.source], self.rounder)
        if self.bounds is None or text == rounding.DASH:
            return Cell(text)
        low, high = (row[name] for name in self.bounds)
        # the interval of the reference against itself is not printed
        no_interval = pd.isna(low) or pd.isna(high) or low == high
        return Cell(text, "" if no_interval else rounding.interval(low, high, self.rounder), best)


ACCURACY = Quantity("Accuracy", "%", "accuracy", rounding.percent, ("accuracy_low", "accuracy_high"))
DELTA = Quantity("Difference", "pp", "delta_accuracy", rounding.points, ("delta_low", "delta_high"))
F1 = Quantity("F1", "%", "f1", rounding.percent)
MCNEMAR = Quantity("McNemar", "p", "mcnemar_p", rounding.p_value)
P50 = Quantity("Latency", "p50, ms", "latency_ms_p50", rounding.milliseconds)
P90 = Quantity("", "p90, ms", "latency_ms_p90", rounding.milliseconds)
P99 = Quantity("", "p99, ms", "latency_ms_p99", rounding.milliseconds)
SPEEDUP = Quantity("Speed-up", "median", "speedup_vs_dense", rounding.speedup, ("speedup_low", "speedup_high"))
SPEEDUP_MEAN = Quantity("", "mean", "speedup_mean", rounding.speedup)
INT8 = Quantity(
    "vs. dense int8", "median", "speedup_vs_int8", rounding.speedup, ("speedup_vs_int8_low", "speedup_vs_int8_high")
)
PACKED = Quantity("vs. packed", "median", "speedup_vs_packed_dense", rounding.speedup)
RATE = Quantity("Rate", "texts/s", "examples_per_s", rounding.throughput)
DEPTH = Quantity("Depth", "layers", "avg_depth", rounding.depth)
RETENTION = Quantity("Retention", "", "avg_retention", rounding.retention)
COMPUTE = Quantity("FLOPs", "own / dense", "compute", rounding.retention)
WORK = Quantity("FLOPs", "dense / own", "flops_ratio", rounding.ratio)
