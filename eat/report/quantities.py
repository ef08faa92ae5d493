"""Columns of tables that are read from a column of a results file, with its interval."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from eat import rounding
from eat.report.table import Cell, Column, Group, Row, Table
from eat.results.rows import Record
from eat.rounding import Rounder, or_dash


@dataclass(frozen=True)
class Quantity:
    """A column of a table made from a column of a results file, with the columns of its interval.

    rounder: `None` for a column of text.
    """

    title: str
    source: str
    rounder: Rounder | None = None
    bounds: tuple[str, str] | None = None
    unit: str = ""

    def column(self) -> Column:
        """The heading of the column."""
        align: Literal["left", "right"] = "left" if self.rounder is None else "right"
        return Column(self.title, self.unit, align, interval=self.bounds is not None)

    def cell(self, row: Record, best: bool = False) -> Cell:
        """The value of a row of the file, rounded, with its interval; a dash if it is empty."""
        if self.rounder is None:
            return Cell(rounding.DASH if pd.isna(row[self.source]) else str(row[self.source]))
        text = or_dash(row[self.source], self.rounder)
        if self.bounds is None or text == rounding.DASH:
            return Cell(text)
        low, high = (row[name] for name in self.bounds)
        # the interval of the reference against itself is not printed
        no_interval = pd.isna(low) or pd.isna(high) or low == high
        return Cell(text, "" if no_interval else rounding.interval(low, high, self.rounder), best)


class _Threshold(Quantity):
    """The threshold of an operating point; of one with several, by exit, class or seed, the lowest and the highest."""

    def cell(self, row: Record, best: bool = False) -> Cell:
        """As `Quantity`."""
        given = row.get("thresholds")
        if not isinstance(given, str):
            return super().cell(row, best)
        found = json.loads(given)
        values = [value for one in (found if isinstance(found, list) else [found]) for value in _numbers(one)]
        ends = dict.fromkeys(rounding.threshold(value) for value in (min(values), max(values)))
        return Cell("-".join(ends))


def _numbers(thresholds: Mapping[str, float | list[float]]) -> Iterator[float]:
    """Thresholds by layer, each a number or one for each class."""
    for value in thresholds.values():
        yield from value if isinstance(value, list) else [value]


def table_of(
    caption: str, label: str, quantities: Sequence[Quantity], groups: Iterable[tuple[str, Iterable[Record]]]
) -> Table:
    """A table with a column for each quantity. groups: the heading and the rows of each group."""
    parts = [
        Group(heading, tuple(Row(tuple(quantity.cell(row) for quantity in quantities)) for row in rows))
        for heading, rows in groups
    ]
    return Table(caption, label, tuple(quantity.column() for quantity in quantities), tuple(parts))


SYSTEM = Quantity("System", "system")
THRESHOLD = _Threshold("Threshold", "tau", rounding.threshold)
ACCURACY = Quantity("Accuracy", "accuracy", rounding.percent, ("accuracy_low", "accuracy_high"), unit="%")
DELTA = Quantity("Difference", "delta_accuracy", rounding.points, ("delta_low", "delta_high"), unit="pp")
F1 = Quantity("F1", "f1", rounding.percent, unit="%")
MCNEMAR = Quantity("McNemar", "mcnemar_p", rounding.p_value, unit="p")
P50 = Quantity("Latency", "latency_ms_p50", rounding.milliseconds, unit="p50, ms")
P90 = Quantity("", "latency_ms_p90", rounding.milliseconds, unit="p90, ms")
P99 = Quantity("", "latency_ms_p99", rounding.milliseconds, unit="p99, ms")
SPEEDUP = Quantity("Speed-up", "speedup_vs_dense", rounding.speedup, ("speedup_low", "speedup_high"), unit="median")
SPEEDUP_MEAN = Quantity("", "speedup_mean", rounding.speedup, unit="mean")
_INT8_ENDS = ("speedup_vs_int8_low", "speedup_vs_int8_high")
INT8 = Quantity("vs. dense int8", "speedup_vs_int8", rounding.speedup, _INT8_ENDS, unit="median")
PACKED = Quantity("vs. packed", "speedup_vs_packed_dense", rounding.speedup, unit="median")
RATE = Quantity("Rate", "examples_per_s", rounding.throughput, unit="texts/s")
DEPTH = Quantity("Depth", "avg_depth", rounding.depth, unit="layers")
RETENTION = Quantity("Retention", "avg_retention", rounding.retention)
COMPUTE = Quantity("FLOPs", "compute", rounding.retention, unit="own / dense")
WORK = Quantity("FLOPs", "flops_ratio", rounding.ratio, unit="dense / own")
