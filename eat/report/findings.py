"""The findings of the tests of claims, and what several tests share: comparisons, and how their figures are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from eat import rounding
from eat.report.verdicts import Comparison, comparison
from eat.results.rows import Record

Bounds = tuple[float, float]
"""The ends of a 95 % interval."""


@dataclass(frozen=True)
class Finding:
    """The finding of a test: the measured figure as text, whether it supports the claim, and why.

    supported: `None` if there are too few texts to decide.
    """

    ours: str
    supported: bool | None
    reason: str


def beyond(low: float, high: float, bound: float) -> tuple[bool | None, str]:
    """Whether an interval lies above a bound (true), below it (false), or contains it (`None`), with a description."""
    if low > bound:
        return True, "lies above"
    if high < bound:
        return False, "lies below"
    return None, "includes"


FASTER: Mapping[Comparison, str] = {
    "higher": "faster",
    "lower": "slower",
    "no difference shown": "no difference shown",
}


def compared_speed(own: Record, other: Record) -> Comparison:
    """Compare two systems that are each measured against the stock dense model."""
    return comparison((own["speedup_low"], own["speedup_high"]), (other["speedup_low"], other["speedup_high"]))


def accuracy_difference(own: Record, other: Record, is_reference: bool) -> tuple[float, float, float]:
    """The difference in accuracy between two systems, as a fraction with its 95 % interval.

    is_reference: whether the other is the dense reference; the difference is then paired. Between two others it is that
    of their paired differences from the reference, which are taken as independent. That is conservative: the two cannot
    differ from the reference in opposite directions on one text, where it is either right or wrong.
    """
    if is_reference:
        return own["delta_accuracy"], own["delta_low"], own["delta_high"]
    difference = own["delta_accuracy"] - other["delta_accuracy"]
    below = math.hypot(own["delta_accuracy"] - own["delta_low"], other["delta_high"] - other["delta_accuracy"])
    above = math.hypot(own["delta_high"] - own["delta_accuracy"], other["delta_accuracy"] - other["delta_low"])
    return difference, difference - below, difference + above


def as_expected(verdict: str, expected: str) -> bool | None:
    """Whether a verdict on speed is the expected one; `None` if it shows no difference."""
    return None if verdict == "no difference shown" else verdict == expected


def compared(own: str, verdict: str, other: str) -> str:
    """The verdict of a comparison as a sentence."""
    if verdict == "no difference shown":
        return f"No difference in speed is shown between {own} and {other}."
    return f"{own} is {verdict} than {other}."


def ratio(row: Record) -> str:
    """The speed-up of an operating point over the stock dense model."""
    return times(row["speedup_vs_dense"], (row["speedup_low"], row["speedup_high"]))


def times(value: float, bounds: Bounds) -> str:
    """A speed-up with its interval."""
    return f"{rounding.x_times(value)} {rounding.interval(*bounds, rounding.speedup)}"


def points(difference: float, bounds: Bounds) -> str:
    """A difference in accuracy with its interval."""
    return f"{rounding.points(difference)} points {rounding.interval(*bounds, rounding.points)}"


def point_name(row: Record) -> str:
    """An operating point: the system, and its threshold if it has one."""
    return str(row["system"]) + ("" if pd.isna(row["tau"]) else f" at {rounding.threshold(row['tau'])}")


def texts(row: Record) -> str:
    """The number of texts behind a row."""
    return f"{rounding.count(row['n'])} texts"
