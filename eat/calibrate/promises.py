"""Risk control: with probability 1 - delta over the calibration texts, the risk of a threshold is at most epsilon.

Learn-then-Test (arXiv:2110.01052) with one fixed sequence, as for Confident Adaptive Transformers (arXiv:2104.08803).
The thresholds are ordered from the safest to the fastest before the texts are used. For each the null hypothesis
'its risk is above epsilon' is tested: of n calibration texts k are bad, and p = P(Bin(n, epsilon) <= k) is exact. The
first that is not rejected at delta ends the sequence, and the one before it is chosen: the probability that any
rejected null is true is at most delta, for any number of thresholds.

It holds for texts from the distribution of the calibration texts, and for the traced system, including pruning. Raw
probabilities are used: temperatures fitted on the same texts would make the sequence depend on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eat.errors import EatError
from eat.results.replay import bad_texts
from eat.results.trace import Trace
from eat.statistics import examples_needed
from eat.study.specs.calibrate import CalibrationSpec

if TYPE_CHECKING:
    pass

NEVER = 1.0
"""The threshold at which no text exits early: its risk is 0, so every promise is kept."""


def keep_promise(trace: Trace, spec: CalibrationSpec) -> dict[str, Any]:
    """The fastest threshold that keeps the promise, and how it was found.

    trace: of the calibration split. Returns epsilon, delta, risk, n (texts), tau (1.0 if no threshold keeps it), bad
    (the bad texts at tau), and in `tested` for each threshold tau, bad and p. Raises `EatError` if there are too few
    texts, even if none is bad.
    """
    promise, n = spec.promise, len(trace.labels)
    assert promise is not None
    require_enough_texts(n, promise.epsilon, promise.delta)
    chosen, tested = NEVER, []
    for tau in sorted(spec.tau, reverse=True):
        count = int(np.sum(bad_texts(trace, spec, tau)))
        p = p_value(count, n, promise.epsilon)
        tested.append({"tau": tau, "bad": count, "p": p})
        if p > promise.delta:
            break
        chosen = tau
    bad = next((one["bad"] for one in tested if one["tau"] == chosen), 0)
    return {**promise.plain(), "n": n, "bad": bad, "tau": chosen, "tested": tested}


def require_enough_texts(n: int, epsilon: float, delta: float) -> None:
    """Raise `EatError` if n texts cannot show a promise, even if none of them is bad."""
    needed = examples_needed(epsilon, delta)
    if n < needed:
        raise EatError(
            f"a promise of epsilon {epsilon:g} at delta {delta:g} needs at least {needed} "
            f"calibration texts, even if none is bad; there are {n}: give more texts, or a larger epsilon or delta"
        )


def p_value(bad: int, n: int, epsilon: float) -> float:
    """P(Bin(n, epsilon) <= bad): the probability of at most `bad` bad texts if the risk is epsilon."""
    from scipy.stats import binom

    return float(binom.cdf(bad, n, epsilon))
