"""The tests of the paper's claims: one class per kind of test; `report/claims.yaml` refers to these classes.

A test examines one task and returns its finding, with an interval if there is one. It raises `Untestable` if the study
lacks what the test needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from eat import rounding
from eat.report.evidence import Evidence, Model, Untestable
from eat.report.verdicts import Comparison, accuracy_verdict, comparison
from eat.results.noise import speed_verdict
from eat.results.rows import Record, is_true
from eat.statistics import proportion_interval
from eat.validation import Strict


@dataclass(frozen=True)
class Finding:
    """The finding of a test: the measured figure as text, whether it supports the claim, and why.

    supported: `None` if there are too few texts to decide.
    """

    ours: str
    supported: bool | None
    reason: str


def _beyond(low: float, high: float, bound: float) -> tuple[bool | None, str]:
    """Whether an interval lies above a bound (true), below it (false), or contains it (`None`), with a description."""
    if low > bound:
        return True, "lies above"
    if high < bound:
        return False, "lies below"
    return None, "includes"


class Speed(Strict):
    """A model is faster or slower than the stock dense model at batch 1."""

    kind: Literal["speed"]
    model: Model
    expect: Literal["faster", "slower"]

    def judge(self, seen: Evidence) -> Finding:
        """Use the interval of the paired speed-up and the noise floor of the clock."""
        row = seen.chosen(self.model)
        verdict = speed_verdict(row["speedup_low"], row["speedup_high"], seen.noise)
        reason = _compared(_point_name(row), verdict, "the stock dense model")
        return Finding(_ratio(row), _as_expected(verdict, self.expect), reason)


class SpeedAgainst(Strict):
    """A model is faster or slower than another model in the same engine, at batch 1."""

    kind: Literal["speed_against"]
    model: Model
    other: Model
    expect: Literal["faster", "slower"]

    def judge(self, seen: Evidence) -> Finding:
        """Both are measured against the stock dense model; they differ if their intervals lie apart."""
        own, other = seen.chosen(self.model), seen.chosen(self.other)
        verdict = _FASTER[_compared_speed(own, other)]
        ours = f"{_ratio(own)} against {_ratio(other)} of {other['system']}"
        return Finding(
            ours, _as_expected(verdict, self.expect), _compared(_point_name(own), verdict, _point_name(other))
        )


class AccuracyAgainst(Strict):
    """A model is more or less accurate than another."""

    kind: Literal["accuracy_against"]
    model: Model
    other: Model
    expect: Literal["higher", "lower"]

    def judge(self, seen: Evidence) -> Finding:
        """Against BERT, use the paired interval; against another model, both intervals, taken as independent."""
        own, other = seen.chosen(self.model), seen.chosen(self.other)
        if self.other == "bert":
            difference, low, high = own["delta_accuracy"], own["delta_low"], own["delta_high"]
        else:
            difference = own["accuracy"] - other["accuracy"]
            low = difference - math.hypot(
                own["accuracy"] - own["accuracy_low"], other["accuracy_high"] - other["accuracy"]
            )
            high = difference + math.hypot(
                own["accuracy_high"] - own["accuracy"], other["accuracy"] - other["accuracy_low"]
            )
        verdict = accuracy_verdict(difference, low, high, int(own["seeds"]), int(own["n"]))
        ours = f"{rounding.points(difference)} points {rounding.interval(low, high, rounding.points)}"
        if verdict not in ("higher", "lower"):
            reason = f"{_texts(own)} show no difference between {_point_name(own)} and {_point_name(other)}."
            return Finding(ours, None, reason)
        accurate = {"higher": "more accurate", "lower": "less accurate"}[verdict]
        return Finding(ours, verdict == self.expect, _compared(_point_name(own), accurate, _point_name(other)))


class KeepsAccuracy(Strict):
    """A model keeps a part of BERT's accuracy."""

    kind: Literal["keeps_accuracy"]
    model: Model
    part: float

    def judge(self, seen: Evidence) -> Finding:
        """Use the lower end of the paired interval of the difference."""
        own, dense = seen.chosen(self.model), seen.chosen("bert")
        kept, low, high = (
            1.0 + own[name] / dense["accuracy"] for name in ("delta_accuracy", "delta_low", "delta_high")
        )
        within = rounding.interval(low, high, rounding.percent)
        supported, side = _beyond(low, high, self.part)
        reason = f"{_point_name(own)}: the interval {side} {rounding.with_percent(self.part)}."
        return Finding(f"{rounding.with_percent(kept)} {within}", supported, reason)


class Frontier(Strict):
    """The threshold trades speed for accuracy: a higher threshold costs time."""

    kind: Literal["frontier"]
    model: Model

    def judge(self, seen: Evidence) -> Finding:
        """The lowest threshold must be faster than the highest by more than their intervals; slower refutes it."""
        own = seen.points(self.model)
        if own["tau"].nunique() < 2:
            raise Untestable(f"{seen.systems[self.model]} has fewer than two thresholds.")
        low, *_, high = own.to_dict("records")
        ours = f"{_ratio(low)} at {rounding.threshold(low['tau'])}, {_ratio(high)} at {rounding.threshold(high['tau'])}"
        verdict = _FASTER[_compared_speed(low, high)]
        gained = rounding.points(high["accuracy"] - low["accuracy"])
        reason = f"{_compared(_point_name(low), verdict, _point_name(high))} Accuracy changes by {gained} points."
        return Finding(ours, _as_expected(verdict, "faster"), reason)


class Near(Strict):
    """A measured column lies near a stated value."""

    kind: Literal["near"]
    model: Model
    column: Literal["retention_full_depth", "avg_retention"]
    value: float
    within: float

    def judge(self, seen: Evidence) -> Finding:
        """Use the mean over all texts."""
        row = seen.chosen(self.model)
        found = float(row[self.column])
        near = abs(found - self.value) <= self.within
        reason = (
            f"{_point_name(row)}, mean over {_texts(row)}: {'within' if near else 'more than'} "
            f"{rounding.retention(self.within)} {'of' if near else 'from'} {rounding.retention(self.value)}."
        )
        return Finding(rounding.retention(found), near, reason)


class LeavesEarly(Strict):
    """At a threshold, at least a given share of the texts exits before the last layer."""

    kind: Literal["leaves_early"]
    model: Model
    tau: float
    at_least: float

    def judge(self, seen: Evidence) -> Finding:
        """Use Wilson's interval of a proportion over the texts, as wide as that of a single seed."""
        own = seen.exits[(seen.exits["system"] == seen.chosen(self.model)["system"]) & (seen.exits["tau"] == self.tau)]
        if own.empty:
            raise Untestable(f"{seen.systems[self.model]} has no threshold {rounding.threshold(self.tau)}.")
        early = float(own.loc[own["exit"] < own["exit"].max(), "fraction"].sum())
        n = int(own["n"].iloc[0]) // int(seen.chosen(self.model)["seeds"])  # the curve counts each text once per seed
        low, high = proportion_interval(round(early * n), n)
        ours = f"{rounding.with_percent(early)} {rounding.interval(low, high, rounding.percent)}"
        supported, side = _beyond(low, high, self.at_least)
        reason = f"Of {rounding.count(n)} texts; the interval {side} {rounding.with_percent(self.at_least)}."
        return Finding(ours, supported, reason)


class ShortTextsLoseMore(Strict):
    """Shorter texts keep a smaller part of their tokens than longer ones."""

    kind: Literal["short_texts_lose_more"]
    model: Model

    def judge(self, seen: Evidence) -> Finding:
        """Compare the bin of the shortest texts with that of the longest, at the chosen threshold."""
        own = seen.lengths[seen.lengths["system"] == seen.chosen(self.model)["system"]]
        own = own[is_true(own["chosen"])].sort_values("length_mean")
        if len(own) < 2:
            raise Untestable("All texts have the same length.")
        shortest, *_, longest = own.to_dict("records")
        ours = " and ".join(
            f"{rounding.retention(one['retention'])} at {rounding.count(one['length_mean'])} tokens"
            for one in (shortest, longest)
        )
        kept = "a smaller share" if shortest["retention"] < longest["retention"] else "no smaller share"
        few, many = (rounding.count(one["n"]) for one in (shortest, longest))
        reason = f"The shortest texts (n = {few}) keep {kept} of their tokens than the longest (n = {many})."
        return Finding(ours, shortest["retention"] < longest["retention"], reason)


class ScalingHelps(Strict):
    """Temperature scaling reduces the calibration error of the exit."""

    kind: Literal["scaling_helps"]
    model: Model

    def judge(self, seen: Evidence) -> Finding:
        """The error before scaling must lie above the interval of the error after it; below it, the claim is refuted.

        Both errors are the plain ones, which chance inflates equally; the debiased interval is shifted to the plain
        error.
        """
        row = seen.chosen(self.model)
        if row["calibration"] == "raw":
            raise Untestable(f"The probabilities of {row['system']} are not scaled.")
        if pd.isna(row["ece_debiased_high"]):
            raise Untestable(f"The calibration error of {row['system']} has no interval.")
        raw, after = row["ece_raw"], row["ece_calibrated"]
        low, high = (after + row[end] - row["ece_debiased"] for end in ("ece_debiased_low", "ece_debiased_high"))
        within = rounding.interval(max(0.0, low), high, rounding.calibration_error)
        is_worse, side = _beyond(low, high, raw)
        reason = f"{row['system']}: the interval after scaling {side} the error before scaling."
        ours = f"{rounding.calibration_error(raw)} % before, {rounding.calibration_error(after)} % {within} after"
        return Finding(ours, None if is_worse is None else not is_worse, reason)


class NormIsCompetitive(Strict):
    """The norm of a hidden state is as good a score of importance as others."""

    kind: Literal["norm_is_competitive"]

    def judge(self, seen: Evidence) -> Finding:
        """Use accuracy at equal retention and correlation with saliency: all must support it, any can refute it."""
        if not seen.norm:
            raise Untestable(
                "This needs systems that differ only in their score, such as those of config/systems.yaml."
            )
        found = list(dict.fromkeys(verdict for verdict, _ in seen.norm))
        supported: bool | None = None
        if "not competitive" in found:
            supported = False
        elif found == ["competitive"]:
            supported = True
        return Finding(", ".join(found), supported, " ".join(sentence for _, sentence in seen.norm))


class NotMeasured(Strict):
    """A claim that this project does not measure."""

    kind: Literal["not_measured"]
    reason: str

    def judge(self, seen: Evidence) -> Finding:
        """Raise `Untestable` with the reason."""
        raise Untestable(self.reason)


Test = Annotated[
    Speed | SpeedAgainst | AccuracyAgainst | KeepsAccuracy | Frontier | Near | LeavesEarly | ShortTextsLoseMore
    | ScalingHelps | NormIsCompetitive | NotMeasured,
    Field(discriminator="kind"),
]  # fmt: skip

LATENCY = (Speed, SpeedAgainst, Frontier)
"""The tests of measured times, which a run on a GPU can decide, too."""

_FASTER: Mapping[Comparison, str] = {
    "higher": "faster",
    "lower": "slower",
    "no difference shown": "no difference shown",
}


def _compared_speed(own: Record, other: Record) -> Comparison:
    """Compare two systems that are each measured against the stock dense model."""
    return comparison((own["speedup_low"], own["speedup_high"]), (other["speedup_low"], other["speedup_high"]))


def _as_expected(verdict: str, expected: str) -> bool | None:
    """Whether a verdict on speed is the expected one; `None` if it shows no difference."""
    return None if verdict == "no difference shown" else verdict == expected


def _compared(own: str, verdict: str, other: str) -> str:
    """The verdict of a comparison as a sentence."""
    if verdict == "no difference shown":
        return f"No difference in speed is shown between {own} and {other}."
    return f"{own} is {verdict} than {other}."


def _ratio(row: Record) -> str:
    within = rounding.interval(row["speedup_low"], row["speedup_high"], rounding.speedup)
    return f"{rounding.x_times(row['speedup_vs_dense'])} {within}"


def _point_name(row: Record) -> str:
    return str(row["system"]) + ("" if pd.isna(row["tau"]) else f" at {rounding.threshold(row['tau'])}")


def _texts(row: Record) -> str:
    return f"{rounding.count(row['n'])} texts"
