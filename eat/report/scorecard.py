"""The paper's claims, each put to the test of a study's results.

`report/claims.yaml` holds the claims as data: what is claimed, where, and which test of this module decides it. A test
looks at one task and says what it found, with an interval where there is one. A claim that a study has no means to test
is said to be so, with the reason; it counts neither way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eat import rounding
from eat.errors import DamagedFile
from eat.report.published import Published, PublishedRow
from eat.report.table import Cell, Column, Group, Row, Table
from eat.report.verdicts import Comparison, Competitive, NoiseFloor, accuracy_verdict, comparison, speed_verdict
from eat.results.rows import is_true
from eat.statistics import proportion_interval

Verdict = Literal["reproduced", "not reproduced", "cannot be tested here"]
Model = Literal["bert", "distilbert", "eat"]
Record = Mapping[Hashable, Any]

SUPPORTED: Verdict = "reproduced"
REFUTED: Verdict = "not reproduced"
UNTESTED: Verdict = "cannot be tested here"

NAMES = {"bert": "BERT", "distilbert": "DistilBERT", "eat": "EAT"}


@dataclass(frozen=True)
class Evidence:
    """What a study measured on one task, as the tests read it.

    rows: the rows of summary.csv at batch 1. exits, lengths: the curves of the task. systems: the paper's model -> the
    system that stands for it. norm: what comparing it with other scores of importance gave, each with its sentence.
    """

    task: str
    rows: pd.DataFrame
    exits: pd.DataFrame
    lengths: pd.DataFrame
    noise: NoiseFloor
    systems: Mapping[str, str]
    norm: Sequence[tuple[Competitive, str]] = ()

    def chosen(self, model: str) -> Record:
        """The row of a model at its chosen threshold. Raises `Untestable` where no system stands for it."""
        own = self.points(model)
        return own[is_true(own["chosen"])].to_dict("records")[0]

    def points(self, model: str) -> pd.DataFrame:
        """All timed operating points of a model, by rising threshold. Raises `Untestable` where there are none."""
        if model not in self.systems:
            raise Untestable(f"No system of this study stands for {NAMES[model]}.")
        own = self.rows[(self.rows["system"] == self.systems[model]) & self.rows["speedup_low"].notna()]
        if own.empty:
            raise Untestable(f"{self.systems[model]} was not timed.")
        return own.sort_values("tau")


class Untestable(Exception):
    """A study lacks what a test needs; the message is the reason that the report prints."""


@dataclass(frozen=True)
class Finding:
    """What a test found: the measured figure in words, whether it supports the claim, and why.

    supported: `None` where the texts are too few to say either.
    """

    ours: str
    supported: bool | None
    reason: str


def _beyond(low: float, high: float, bound: float) -> tuple[bool | None, str]:
    """Whether an interval lies above a bound, below it (not), or around it (`None`), with the words for it."""
    if low > bound:
        return True, "lies above"
    if high < bound:
        return False, "lies below"
    return None, "includes"


# --- the tests ----------------------------------------------------------------------------------------------------


class _Test(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Speed(_Test):
    """A model is faster or slower than the stock dense model at batch 1."""

    kind: Literal["speed"]
    model: Model
    expect: Literal["faster", "slower"]

    def judge(self, seen: Evidence) -> Finding:
        """Judge by the interval of the paired speed-up and by the noise floor of the clock."""
        row = seen.chosen(self.model)
        verdict = speed_verdict(row["speedup_low"], row["speedup_high"], seen.noise)
        reason = _compared(_at(row), verdict, "the stock dense model")
        return Finding(_ratio(row), _as_expected(verdict, self.expect), reason)


class SpeedAgainst(_Test):
    """A model is faster or slower than another model in the same engine, at batch 1."""

    kind: Literal["speed_against"]
    model: Model
    other: Model
    expect: Literal["faster", "slower"]

    def judge(self, seen: Evidence) -> Finding:
        """Both are measured against the stock dense model; they differ where their intervals lie apart."""
        own, other = seen.chosen(self.model), seen.chosen(self.other)
        verdict = _FASTER[_compared_speed(own, other)]
        ours = f"{_ratio(own)} against {_ratio(other)} of {other['system']}"
        return Finding(ours, _as_expected(verdict, self.expect), _compared(_at(own), verdict, _at(other)))


class AccuracyAgainst(_Test):
    """A model is more or less accurate than another."""

    kind: Literal["accuracy_against"]
    model: Model
    other: Model
    expect: Literal["higher", "lower"]

    def judge(self, seen: Evidence) -> Finding:
        """Against BERT by the paired interval; against another by both intervals, taken as independent."""
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
            reason = f"{_texts(own)} show no difference between {_at(own)} and {_at(other)}."
            return Finding(ours, None, reason)
        accurate = {"higher": "more accurate", "lower": "less accurate"}[verdict]
        return Finding(ours, verdict == self.expect, _compared(_at(own), accurate, _at(other)))


class KeepsAccuracy(_Test):
    """A model keeps a part of BERT's accuracy."""

    kind: Literal["keeps_accuracy"]
    model: Model
    part: float

    def judge(self, seen: Evidence) -> Finding:
        """By the lower end of the paired interval of the difference."""
        own, dense = seen.chosen(self.model), seen.chosen("bert")
        kept, low, high = (
            1.0 + own[name] / dense["accuracy"] for name in ("delta_accuracy", "delta_low", "delta_high")
        )
        within = rounding.interval(low, high, rounding.percent)
        supported, side = _beyond(low, high, self.part)
        reason = f"{_at(own)}: the interval {side} {rounding.with_percent(self.part)}."
        return Finding(f"{rounding.with_percent(kept)} {within}", supported, reason)


class Frontier(_Test):
    """The threshold leads from fast to accurate: a higher one costs time."""

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
        reason = f"{_compared(_at(low), verdict, _at(high))} Accuracy changes by {gained} points on the way."
        return Finding(ours, _as_expected(verdict, "faster"), reason)


class Near(_Test):
    """A measured column lies near a stated value."""

    kind: Literal["near"]
    model: Model
    column: Literal["retention_full_depth", "avg_retention"]
    value: float
    within: float

    def judge(self, seen: Evidence) -> Finding:
        """By the mean over all texts."""
        row = seen.chosen(self.model)
        found = float(row[self.column])
        near = abs(found - self.value) <= self.within
        reason = (
            f"{_at(row)}, mean over {_texts(row)}: {'within' if near else 'more than'} "
            f"{rounding.retention(self.within)} {'of' if near else 'from'} {rounding.retention(self.value)}."
        )
        return Finding(rounding.retention(found), near, reason)


class LeavesEarly(_Test):
    """At a threshold, at least a part of the texts leaves before the last layer."""

    kind: Literal["leaves_early"]
    model: Model
    tau: float
    at_least: float

    def judge(self, seen: Evidence) -> Finding:
        """By the interval of a proportion (Wilson) over the texts, as wide as that of one seed."""
        own = seen.exits[(seen.exits["system"] == seen.chosen(self.model)["system"]) & (seen.exits["tau"] == self.tau)]
        if own.empty:
            raise Untestable(f"{seen.systems[self.model]} has no threshold {rounding.threshold(self.tau)}.")
        early = float(own.loc[own["exit"] < own["exit"].max(), "fraction"].sum())
        n = int(own["n"].iloc[0]) // int(seen.chosen(self.model)["seeds"])  # the curve counts texts times seeds
        low, high = proportion_interval(round(early * n), n)
        ours = f"{rounding.with_percent(early)} {rounding.interval(low, high, rounding.percent)}"
        supported, side = _beyond(low, high, self.at_least)
        reason = f"Of {rounding.count(n)} texts; the interval {side} {rounding.with_percent(self.at_least)}."
        return Finding(ours, supported, reason)


class ShortTextsLoseMore(_Test):
    """Shorter texts keep a smaller part of their tokens than longer ones."""

    kind: Literal["short_texts_lose_more"]
    model: Model

    def judge(self, seen: Evidence) -> Finding:
        """By the bin of the shortest texts and that of the longest, at the chosen threshold."""
        own = seen.lengths[seen.lengths["system"] == seen.chosen(self.model)["system"]]
        own = own[is_true(own["chosen"])].sort_values("length_mean")
        if len(own) < 2:
            raise Untestable("All texts are of one length.")
        shortest, *_, longest = own.to_dict("records")
        ours = " and ".join(
            f"{rounding.retention(one['retention'])} at {rounding.count(one['length_mean'])} tokens"
            for one in (shortest, longest)
        )
        kept = "a smaller share" if shortest["retention"] < longest["retention"] else "no smaller share"
        few, many = (rounding.count(one["n"]) for one in (shortest, longest))
        reason = f"Of the shortest texts (n = {few}) {kept} is kept than of the longest (n = {many})."
        return Finding(ours, shortest["retention"] < longest["retention"], reason)


class ScalingHelps(_Test):
    """Temperature scaling lowers the calibration error of the exit."""

    kind: Literal["scaling_helps"]
    model: Model

    def judge(self, seen: Evidence) -> Finding:
        """The error before must lie above the interval of the error after scaling; below it refutes the claim.

        Both errors are the plain ones, which chance inflates alike; the interval is the debiased one, moved to them.
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
        reason = f"{row['system']}: the interval after {side} the error before."
        ours = f"{rounding.calibration_error(raw)} % before, {rounding.calibration_error(after)} % {within} after"
        return Finding(ours, None if is_worse is None else not is_worse, reason)


class NormIsCompetitive(_Test):
    """The norm of a hidden state is as good a score of importance as others."""

    kind: Literal["norm_is_competitive"]

    def judge(self, seen: Evidence) -> Finding:
        """By accuracy at equal retention and by correlation with saliency: all must say so, and any can refute it."""
        if not seen.norm:
            raise Untestable("It takes systems that differ in the score alone, as those of config/systems.yaml do.")
        found = list(dict.fromkeys(verdict for verdict, _ in seen.norm))
        supported: bool | None = None
        if "not competitive" in found:
            supported = False
        elif found == ["competitive"]:
            supported = True
        return Finding(", ".join(found), supported, " ".join(sentence for _, sentence in seen.norm))


class NotMeasured(_Test):
    """A claim that no study of this project measures."""

    kind: Literal["not_measured"]
    reason: str

    def judge(self, seen: Evidence) -> Finding:
        """Say why."""
        raise Untestable(self.reason)


Test = Annotated[
    Speed | SpeedAgainst | AccuracyAgainst | KeepsAccuracy | Frontier | Near | LeavesEarly | ShortTextsLoseMore
    | ScalingHelps | NormIsCompetitive | NotMeasured,
    Field(discriminator="kind"),
]  # fmt: skip


_FASTER: Mapping[Comparison, str] = {
    "higher": "faster",
    "lower": "slower",
    "no difference shown": "no difference shown",
}


def _compared_speed(own: Record, other: Record) -> Comparison:
    """Of two systems, each measured against the stock dense model."""
    return comparison((own["speedup_low"], own["speedup_high"]), (other["speedup_low"], other["speedup_high"]))


def _as_expected(verdict: str, expected: str) -> bool | None:
    """Whether a verdict on speed is the expected one; `None` where it shows no difference."""
    return None if verdict == "no difference shown" else verdict == expected


def _compared(own: str, verdict: str, other: str) -> str:
    """A verdict of one against another as a sentence."""
    if verdict == "no difference shown":
        return f"No difference in speed is shown between {own} and {other}."
    return f"{own} is {verdict} than {other}."


def _ratio(row: Record) -> str:
    within = rounding.interval(row["speedup_low"], row["speedup_high"], rounding.speedup)
    return f"{rounding.x_times(row['speedup_vs_dense'])} {within}"


def _at(row: Record) -> str:
    return str(row["system"]) + ("" if pd.isna(row["tau"]) else f" at {rounding.threshold(row['tau'])}")


def _texts(row: Record) -> str:
    return f"{rounding.count(row['n'])} texts"


# --- the claims ---------------------------------------------------------------------------------------------------


class PublishedFigure(_Test):
    """A field of a model's rows in the published tables."""

    model: Model
    column: Literal["accuracy", "speedup", "depth", "retention"]
    tau: float | None = None


class Claim(_Test):
    """A claim of the paper.

    task: the paper's task that it is about; empty for all. published: the figure that the paper prints, taken from the
    published tables: the model, the field, and the threshold where only one counts. stated: such a figure in words,
    where it stands in the text alone.
    """

    claim: str
    where: str
    task: str = ""
    published: list[PublishedFigure] = []
    stated: str = ""
    test: Test


_PRINTED: Mapping[str, tuple[rounding.Rounder, str]] = {
    "accuracy": (rounding.percent, " %"),
    "speedup": (rounding.speedup, rounding.TIMES),
    "depth": (rounding.depth, " layers"),
    "retention": (rounding.retention, ""),
}


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict on one task, or on none (`task` empty) where the study has not the task it is about."""

    claim: Claim
    task: str
    published: str
    ours: str
    verdict: Verdict
    reason: str


def read_claims(path: Path | str) -> list[Claim]:
    """Read `report/claims.yaml`. Raises `DamagedFile` where it is missing or not what it must be."""
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return [Claim.model_validate(claim) for claim in value["claims"]]
    except (OSError, yaml.YAMLError) as error:
        raise DamagedFile(f"{path}: cannot be read ({str(error).splitlines()[0]}); restore it") from None
    except (TypeError, KeyError):
        raise DamagedFile(f"{path}: holds no list `claims`; restore it") from None
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise DamagedFile(f"{path}: {key}: {fault['msg'].lower()}; restore it") from None


def judge(claims: Sequence[Claim], evidence: Sequence[Evidence], published: Published) -> list[Judged]:
    """Every claim on every task that it is about."""
    judged = []
    for claim in claims:
        about = [seen for seen in evidence if claim.task in ("", published.task_of(seen.task))]
        if not about:
            told = _published(claim, published, claim.task)
            judged.append(Judged(claim, "", told, rounding.DASH, UNTESTED, f"The study has no task {claim.task}."))
        elif isinstance(claim.test, NotMeasured):
            judged.append(
                Judged(claim, "", _published(claim, published, None), rounding.DASH, UNTESTED, claim.test.reason)
            )
        else:
            judged += [_judged(claim, seen, published) for seen in about]
    return judged


def _judged(claim: Claim, seen: Evidence, published: Published) -> Judged:
    told = _published(claim, published, published.task_of(seen.task))
    try:
        found = claim.test.judge(seen)
    except Untestable as lack:
        return Judged(claim, seen.task, told, rounding.DASH, UNTESTED, str(lack))
    verdict = {True: SUPPORTED, False: REFUTED, None: UNTESTED}[found.supported]
    return Judged(claim, seen.task, told, found.ours, verdict, found.reason)


def _published(claim: Claim, published: Published, task: str | None) -> str:
    """The figures that the paper prints for a task of its own; for any other, what it prints over all its tasks."""
    tables = published.sources[0].tasks
    parts = []
    for figure in claim.published:
        rows = [
            row
            for name, models in tables.items()
            if name == task or task not in tables
            for row in models.get(figure.model, [])
            if figure.tau in (None, row.tau)
        ]
        values = [value for row in rows if (value := _field(row, figure.column)) is not None]
        at = "" if figure.tau is None else f" at {rounding.threshold(figure.tau)}"
        parts.append(f"{NAMES[figure.model]}{at}: {rounding.span(values, *_PRINTED[figure.column])}")
    return "; ".join([*parts, *([claim.stated] if claim.stated else [])]) or rounding.DASH


def _field(row: PublishedRow, column: str) -> float | None:
    value: float | None = getattr(row, column)
    return value


def counts_sentence(judged: Sequence[Judged]) -> str:
    """How many verdicts of each kind there are."""
    tally = Counter(one.verdict for one in judged)
    parts = [
        f"{rounding.count(tally[verdict])} {verdict}" for verdict in (SUPPORTED, REFUTED, UNTESTED) if tally[verdict]
    ]
    claims = rounding.count(len({one.claim.claim for one in judged}))
    return f"{claims} claims, each put to every task that can test it: {', '.join(parts)}."


def scorecard_table(judged: Sequence[Judged]) -> Table:
    """A row for each claim and task: what is claimed and published, what was found, the verdict and its reason."""
    columns = (
        Column("Claim", align="left", width=0.24),
        Column("Published", align="left", width=0.15),
        Column("This run", align="left", width=0.2),
        Column("Verdict", align="left", width=0.11),
        Column("Reason", align="left", width=0.22),
    )
    groups = []
    for task in sorted(dict.fromkeys(one.task for one in judged), key=lambda task: not task):  # what has none is last
        heading = task or "Claims that no task of this study can test"
        groups.append(Group(heading, tuple(_line(one) for one in judged if one.task == task)))
    caption = (
        "The paper's claims put to the test of this study. Intervals are of 95 %. A claim about one task of the paper "
        "is tested on that task alone; published figures beside another task are those of all the paper's tasks."
    )
    return Table(caption, "scorecard", columns, tuple(groups))


def _line(one: Judged) -> Row:
    claim = f"{one.claim.claim.removesuffix('.')} ({one.claim.where})."
    verdict = Cell(one.verdict, tone=f"verdict-{one.verdict.replace(' ', '-')}")
    return Row((Cell(claim), Cell(one.published), Cell(one.ours), verdict, Cell(one.reason)))
