"""Tests of the papers' claims about single texts and tokens: who exits, by length, and by a token's score.

`claim_tests` lists all tests.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd
from pydantic import Field

from eat import rounding
from eat.errors import listed
from eat.report import verdicts
from eat.report.evidence import Evidence, Model, Untestable
from eat.report.findings import FASTER, Finding, as_expected, beyond, compared, point_name, times
from eat.report.importance import OUTCOMES, compared_scores, mean_correlation
from eat.report.verdicts import Comparison
from eat.results.rows import Record, is_true
from eat.statistics import proportion_interval
from eat.validation import Strict


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
        supported, side = beyond(low, high, self.at_least)
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


class GainByLength(Strict):
    """The gain of a model in speed is greater on long texts than on short ones, or the other way round."""

    kind: Literal["gain_by_length"]
    model: Model
    greater_on: Literal["long", "short"]

    def judge(self, seen: Evidence) -> Finding:
        """Compare the speed-ups over the dense reference on the shortest and the longest texts, by their intervals."""
        short, *_, long = seen.by_length(self.model)
        greater: Comparison = verdicts.comparison(_gain(long), _gain(short))
        ours = f"{_gain_text(long)}, {_gain_text(short)}"
        if greater == "no difference shown":
            return Finding(ours, None, f"The gains of {point_name(long)} by length are not shown to differ.")
        where = {"higher": "long", "lower": "short"}[greater]
        return Finding(ours, where == self.greater_on, f"{point_name(long)} gains more on {where} texts.")


class SpeedOnLength(Strict):
    """A model is faster or slower than another on the shortest or the longest texts, in the same engine at batch 1."""

    kind: Literal["speed_on_length"]
    model: Model
    other: Model
    texts: Literal["short", "long"]
    expect: Literal["faster", "slower"]

    def judge(self, seen: Evidence) -> Finding:
        """Both are measured against the dense reference on these texts; they differ if their intervals lie apart."""
        place = {"short": 0, "long": -1}[self.texts]
        own, other = (seen.by_length(model)[place] for model in (self.model, self.other))
        verdict = FASTER[verdicts.comparison(_gain(own), _gain(other))]
        ours = f"{_gain_text(own)}, against {_gain_text(other)} of {other['system']}"
        return Finding(ours, as_expected(verdict, self.expect), compared(point_name(own), verdict, point_name(other)))


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


class ScoreAgainst(Strict):
    """A score of tokens ranks them more like their gradient saliency than other scores do.

    score, others: kinds of reducers.
    """

    kind: Literal["score_against"]
    score: str
    others: list[str] = Field(min_length=1)

    def judge(self, seen: Evidence) -> Finding:
        """Compare rank correlations, in layers that both score: all must be higher, and one that is lower refutes."""
        if seen.importance is None:
            raise Untestable("The study does not compare scores with saliency; set importance_texts.")
        scored = {str(name): own for name, own in seen.importance.dropna(subset="rho").groupby("system", sort=False)}
        kinds = {name: own["kind"].iloc[0] for name, own in scored.items()}
        own = next((name for name, kind in kinds.items() if kind == self.score), None)
        others = [name for name, kind in kinds.items() if kind in self.others]
        if own is None or not others:
            raise Untestable(f"This needs systems with the scores {self.score} and {' or '.join(self.others)}.")
        outcomes = {name: compared_scores(scored[own], scored[name]) for name in others}
        found = {name: outcome for name, outcome in outcomes.items() if outcome is not None}
        if not found:
            raise Untestable(f"{own} and {listed(others)} score no layer in common.")
        supported: bool | None = None
        if "lower" in found.values():
            supported = False
        elif set(found.values()) == {"higher"}:
            supported = True
        reason = "; ".join(f"{OUTCOMES[outcome]} {name}" for name, outcome in found.items())
        ours = ", ".join(f"{_correlation(scored[name])} ({name})" for name in (own, *found))
        return Finding(ours, supported, f"The rank correlation of {own} with saliency is {reason}.")


def _gain(row: Record) -> tuple[float, float]:
    """The interval of the speed-up over the dense reference in the same engine."""
    return float(row["packed_low"]), float(row["packed_high"])


def _gain_text(row: Record) -> str:
    return f"{times(row['speedup_vs_packed_dense'], _gain(row))} at {row['bucket']} tokens"


def _correlation(rows: pd.DataFrame) -> str:
    return rounding.with_interval(*mean_correlation(rows), rounding.correlation)
