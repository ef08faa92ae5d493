"""Verdicts on a measured difference, from its interval and the noise floor of the clock.

A difference is claimed only if the interval supports it. Otherwise no difference is shown, which does not mean that
there is none. `eat.report.system_tables` prints the verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from eat.results.picks import LOSS_BOUND

Accuracy = Literal["higher", "lower", "no loss", "no loss shown", "undecided"]
Comparison = Literal["higher", "lower", "no difference shown"]
Kept = Literal["kept", "broken", "undecided"]
Competitive = Literal["competitive", "not competitive", "undecided"]
Finding = Literal[
    "holds",
    "does not hold",
    "holds for some and not for others",
    "holds for some and is not shown for others",
    "is not shown",
]

SEEDS_FOR_NO_LOSS = 3
EXAMPLES_FOR_NO_LOSS = 2500


def excludes_a_loss(low: float) -> bool:
    """Whether an interval of differences (fractions) that begins at `low` excludes a loss of a point.

    `low` is first rounded to tenths of a point, as it is printed, so that the text agrees with its numbers.
    """
    return round(low, 3) > -LOSS_BOUND


def accuracy_verdict(delta: float, low: float, high: float, seeds: int, n: int) -> Accuracy:
    """The verdict on a paired difference of accuracies (fractions) with its 95 % interval.

    `no loss` needs a difference of at least 0, a lower bound above -1 point, three seeds and 2,500 examples; with fewer
    seeds or examples the same is only `no loss shown`. `undecided`: neither a loss nor its absence is shown.
    """
    if high < 0:
        return "lower"
    if low > 0:
        return "higher"
    if delta >= 0 and excludes_a_loss(low):
        enough = seeds >= SEEDS_FOR_NO_LOSS and n >= EXAMPLES_FOR_NO_LOSS
        return "no loss" if enough else "no loss shown"
    return "undecided"


def comparison(value: tuple[float, float], other: tuple[float, float]) -> Comparison:
    """Compare two values by their 95 % intervals: they differ if the intervals do not overlap.

    For values on the same texts this is conservative, since it does not use the pairing.
    """
    if value[0] > other[1]:
        return "higher"
    if value[1] < other[0]:
        return "lower"
    return "no difference shown"


def finding(comparisons: Sequence[Comparison], claimed: Comparison) -> Finding:
    """Combine several comparisons into a verdict on a finding that claims the result `claimed` for each of them.

    Comparisons that show no difference neither support nor contradict it; the verdict mentions them.
    """
    told_apart = {one for one in comparisons if one != "no difference shown"}
    if len(told_apart) == 2:
        return "holds for some and not for others"
    if not told_apart:
        return "is not shown"
    if claimed not in told_apart:
        return "does not hold"
    return "holds" if "no difference shown" not in comparisons else "holds for some and is not shown for others"


def promise_verdict(epsilon: float, low: float, high: float) -> Kept:
    """Whether a risk with the exact interval [low, high] is shown to be at most epsilon, or above it."""
    if high <= epsilon:
        return "kept"
    return "broken" if low > epsilon else "undecided"


def competitive(rivals: Sequence[Comparison], controls: Sequence[Comparison]) -> Competitive:
    """Whether a score is competitive: no rival is shown to be better, and it is shown to be better than all controls.

    rivals, controls: how the score compares with each. At least one control is needed to show that it beats chance.
    """
    if "lower" in (*rivals, *controls):
        return "not competitive"
    is_better_than_chance = controls and all(one == "higher" for one in controls)
    return "competitive" if rivals and is_better_than_chance else "undecided"
