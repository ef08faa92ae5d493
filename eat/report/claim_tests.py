"""The tests of the papers' claims: one class per kind of test; the files of `report/claims/` refer to these classes.

A test examines one task and returns its finding, with an interval if there is one. It raises `Untestable` if the study
lacks what the test needs. The tests of what happens to single texts and tokens are in `claim_tests_on_texts`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from eat import rounding
from eat.report.claim_tests_on_texts import (
    GainByLength,
    LeavesEarly,
    NormIsCompetitive,
    ScoreAgainst,
    ShortTextsLoseMore,
    SpeedOnLength,
)
from eat.report.evidence import Evidence, Model, Untestable
from eat.report.findings import (
    FASTER,
    Finding,
    accuracy_difference,
    as_expected,
    beyond,
    compared,
    compared_speed,
    point_name,
    points,
    ratio,
    texts,
)
from eat.report.verdicts import accuracy_verdict
from eat.results.noise import speed_verdict
from eat.validation import Strict


class Speed(Strict):
    """A model is faster or slower than the stock dense model at batch 1."""

    kind: Literal["speed"]
    model: Model
    expect: Literal["faster", "slower"]

    def judge(self, seen: Evidence) -> Finding:
        """Use the interval of the paired speed-up and the noise floor of the clock."""
        row = seen.chosen(self.model)
        verdict = speed_verdict(row["speedup_low"], row["speedup_high"], seen.noise)
        reason = compared(point_name(row), verdict, "the stock dense model")
        return Finding(ratio(row), as_expected(verdict, self.expect), reason)


class SpeedAgainst(Strict):
    """A model is faster or slower than another model in the same engine, at batch 1.

    tau: the threshold of both models. Default: that chosen for each.
    """

    kind: Literal["speed_against"]
    model: Model
    other: Model
    tau: float | None = None
    expect: Literal["faster", "slower"]

    def judge(self, seen: Evidence) -> Finding:
        """Both are measured against the stock dense model; they differ if their intervals lie apart."""
        own, other = seen.at(self.model, self.tau), seen.at(self.other, self.tau)
        verdict = FASTER[compared_speed(own, other)]
        ours = f"{ratio(own)} against {ratio(other)} of {other['system']}"
        return Finding(ours, as_expected(verdict, self.expect), compared(point_name(own), verdict, point_name(other)))


class AccuracyAgainst(Strict):
    """A model is more or less accurate than another."""

    kind: Literal["accuracy_against"]
    model: Model
    other: Model
    expect: Literal["higher", "lower"]

    def judge(self, seen: Evidence) -> Finding:
        """Use the interval of the difference."""
        own, other = seen.chosen(self.model), seen.chosen(self.other)
        difference, low, high = accuracy_difference(own, other, self.other == "bert")
        verdict = accuracy_verdict(difference, low, high, int(own["seeds"]), int(own["n"]))
        ours = points(difference, (low, high))
        if verdict not in ("higher", "lower"):
            reason = f"{texts(own)} show no difference between {point_name(own)} and {point_name(other)}."
            return Finding(ours, None, reason)
        accurate = {"higher": "more accurate", "lower": "less accurate"}[verdict]
        return Finding(ours, verdict == self.expect, compared(point_name(own), accurate, point_name(other)))


class CheaperAgainst(Strict):
    """A model takes fewer FLOPs than another, and loses less accuracy to it than a bound.

    loses_at_most: the bound as a fraction; with 0, the model must be more accurate.
    """

    kind: Literal["cheaper_against"]
    model: Model
    other: Model
    loses_at_most: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)]

    def judge(self, seen: Evidence) -> Finding:
        """FLOPs are counted and have no interval: more of them refute the claim. Accuracy is judged by its interval."""
        own, other = seen.chosen(self.model), seen.chosen(self.other)
        saved = own["flops_ratio"] / other["flops_ratio"]
        difference, low, high = accuracy_difference(own, other, self.other == "bert")
        is_above, side = beyond(low, high, -self.loses_at_most)
        ours = f"FLOPs of {other['system']} / own: {rounding.ratio(saved)}; {points(difference, (low, high))}"
        if saved <= 1.0:
            return Finding(ours, False, f"{point_name(own)} does not take fewer FLOPs than {point_name(other)}.")
        bound = f"{rounding.points(-self.loses_at_most)} points" if self.loses_at_most else "0"
        fewer = f"{point_name(own)} takes fewer FLOPs than {point_name(other)}"
        return Finding(ours, is_above, f"{fewer}; the interval of the difference in accuracy {side} {bound}.")


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
        supported, side = beyond(low, high, self.part)
        reason = f"{point_name(own)}: the interval {side} {rounding.with_percent(self.part)}."
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
        ours = f"{ratio(low)} at {rounding.threshold(low['tau'])}, {ratio(high)} at {rounding.threshold(high['tau'])}"
        verdict = FASTER[compared_speed(low, high)]
        gained = rounding.points(high["accuracy"] - low["accuracy"])
        reason = f"{compared(point_name(low), verdict, point_name(high))} Accuracy changes by {gained} points."
        return Finding(ours, as_expected(verdict, "faster"), reason)


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
            f"{point_name(row)}, mean over {texts(row)}: {'within' if near else 'more than'} "
            f"{rounding.retention(self.within)} {'of' if near else 'from'} {rounding.retention(self.value)}."
        )
        return Finding(rounding.retention(found), near, reason)


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
        is_worse, side = beyond(low, high, raw)
        reason = f"{row['system']}: the interval after scaling {side} the error before scaling."
        ours = f"{rounding.calibration_error(raw)} % before, {rounding.calibration_error(after)} % {within} after"
        return Finding(ours, None if is_worse is None else not is_worse, reason)


class NotMeasured(Strict):
    """A claim that this project does not measure."""

    kind: Literal["not_measured"]
    reason: str

    def judge(self, seen: Evidence) -> Finding:
        """Raise `Untestable` with the reason."""
        raise Untestable(self.reason)


Test = Annotated[
    Speed | SpeedAgainst | AccuracyAgainst | CheaperAgainst | KeepsAccuracy | Frontier | Near | LeavesEarly
    | ShortTextsLoseMore | GainByLength | SpeedOnLength | ScalingHelps | NormIsCompetitive | ScoreAgainst
    | NotMeasured,
    Field(discriminator="kind"),
]  # fmt: skip

LATENCY = (Speed, SpeedAgainst, Frontier)
"""The tests of measured times, which a run on a GPU can decide, too."""
