"""Thresholds with a promise: with probability 1 - delta over the calibration texts, the risk is at most epsilon.

Learn-then-Test (arXiv:2110.01052) with one fixed sequence, as for Confident Adaptive Transformers (arXiv:2104.08803).
The thresholds are ordered from the safest to the fastest before any text is looked at. For each the null hypothesis
'its risk is above epsilon' is tested: of n calibration texts k are bad, and p = P(Bin(n, epsilon) <= k) is exact. The
first that is not rejected at delta ends the sequence, and the one before it is taken: the probability that any rejected
null is true is at most delta, however many thresholds there are.

It holds for texts drawn as the calibration texts were, for the system as it was traced, pruning included. Temperatures
are left out (raw probabilities): fitted on the same texts, they would make the sequence depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.errors import EatError
from eat.operating_points import policies, replay
from eat.statistics import examples_needed
from eat.trace import Trace

if TYPE_CHECKING:
    from eat.summary import Results

Risk = Literal["disagreement", "accuracy"]
NEVER = 1.0
"""The threshold at which nobody leaves early: its risk is 0, so any promise is kept."""


def keep_promise(trace: Trace, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fastest threshold that keeps the promise, and how it was found.

    trace: of the calibration split. spec: `Study.calibration_spec`. Returns epsilon, delta, risk, n (texts), tau (1.0
    where no threshold keeps it), and in `tested` for each threshold tau, bad (texts) and p. Raises `EatError` where so
    few texts could not show it even if none were bad.
    """
    promise, n = spec["promise"], len(trace.labels)
    needed = examples_needed(promise["epsilon"], promise["delta"])
    if n < needed:
        raise EatError(
            f"a promise of epsilon {promise['epsilon']:g} at delta {promise['delta']:g} needs at least {needed} "
            f"calibration texts, of which none may be bad; there are {n}: give more, or promise less"
        )
    chosen, tested = NEVER, []
    for tau in sorted(spec["tau"], reverse=True):
        count = int(np.sum(bad_texts(trace, spec, tau)))
        p = p_value(count, n, promise["epsilon"])
        tested.append({"tau": tau, "bad": count, "p": p})
        if p > promise["delta"]:
            break
        chosen = tau
    return {**promise, "n": n, "tau": chosen, "tested": tested}


def bad_texts(trace: Trace, spec: Mapping[str, Any], tau: float) -> npt.NDArray[np.bool_]:
    """Which texts the promise counts as bad at a threshold; bool (N,).

    disagreement: answered otherwise than by the last exit. accuracy: answered right by the last exit and wrong before;
    the loss of accuracy is never more than that.
    """
    (policy,) = policies(spec, {}, tau).values()
    answered = replay(trace, policy).predictions
    full = trace.logits[trace.shape["layers"]].argmax(axis=1)
    changed: npt.NDArray[np.bool_] = answered != full
    return changed if spec["promise"]["risk"] == "disagreement" else changed & (full == trace.labels)


def p_value(bad: int, n: int, epsilon: float) -> float:
    """P(Bin(n, epsilon) <= bad): how likely so few bad texts are where the risk is epsilon."""
    from scipy.stats import binom

    return float(binom.cdf(bad, n, epsilon))


def exact_interval(bad: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a part, of which `bad` of `n` were seen."""
    from scipy.stats import binomtest

    interval = binomtest(bad, n).proportion_ci(confidence_level=confidence, method="exact")
    return float(interval.low), float(interval.high)


COLUMNS = (
    "task", "system", "seed", "risk", "epsilon", "delta", "n", "bad", "tau", "n_dev", "bad_dev", "observed",
    "observed_low", "observed_high",
)  # fmt: skip


def promise_rows(results: Results) -> pd.DataFrame:
    """What was promised and what the dev split shows, a row for each system and seed that makes a promise.

    n, bad: calibration texts, and the bad ones among them at the threshold taken (tau). n_dev, bad_dev, observed: the
    same on dev, and the part, with its exact 95 % interval.
    """
    rows = []
    for system in results.study.systems:
        spec = results.study.operating_spec(system)
        if spec["promise"] is None:
            continue
        for seed, trace, calibration in zip(
            results.study.seeds, results.traces[system], results.calibrations[system], strict=True
        ):
            made = calibration["promise"]
            bad, n = int(bad_texts(trace, spec, made["tau"]).sum()), len(trace.labels)
            low, high = exact_interval(bad, n)
            rows.append(
                {
                    "task": results.task,
                    "system": system,
                    "seed": seed,
                    **{key: made[key] for key in ("risk", "epsilon", "delta", "n", "tau")},
                    "bad": next((one["bad"] for one in made["tested"] if one["tau"] == made["tau"]), 0),
                    "n_dev": n,
                    "bad_dev": bad,
                    "observed": bad / n,
                    "observed_low": low,
                    "observed_high": high,
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))
