"""Intervals, paired tests and the F1 of a task. Pure functions; every seed is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eat.errors import EatError

Floats = npt.NDArray[np.float64]

DRAWS = 2000
"""The default number of bootstrap samples."""

_Z = 1.959963984540054  # the 97.5th percentile of the normal distribution

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float

    def columns(self, name: str, ends: str = "") -> dict[str, float]:
        """As columns of a table: `name`, and `{ends}_low` and `{ends}_high`; ends: `name` by default."""
        ends = ends or name
        return {name: self.value, f"{ends}_low": self.low, f"{ends}_high": self.high}


UNKNOWN = Estimate(math.nan, math.nan, math.nan)
"""The estimate of what was not measured."""


def mcnemar_p(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided McNemar test of two systems on the same examples.

    first, second: whether each answer is right, bool (N,). Under the null hypothesis an example on which exactly one of
    them is right falls to either with probability 1/2. Returns 1 if they never differ.
    """
    from scipy.stats import binomtest

    _require_same_shape(first, second)
    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(~first & second))
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def examples_needed(epsilon: float, delta: float) -> int:
    """The smallest n at which no bad text among n shows a risk of at most epsilon: (1 - epsilon)^n <= delta."""
    return math.ceil(math.log(delta) / math.log1p(-epsilon))


def percentile_interval(draws: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """The central interval of bootstrap draws; (draws, ...) to the lower and the upper end (...)."""
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    return low, high


def median_ratio(
    numerator: Floats,
    denominator: Floats,
    blocks: npt.NDArray[np.int64] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """Median of paired ratios, with a bootstrap percentile interval.

    numerator, denominator: (U,) or (U, S), unit u of both being the same work. The median is over all U * S ratios, but
    whole units are resampled, with all S values of each: a text timed under three seeds is one unit, not three. For a
    single unit both ends are NaN.
    blocks: the block each unit was timed in (U,). Blocks are then resampled first and units within them, since a
    disturbance of the machine affects all calls of a block.
    Raises `EatError` if the shapes differ, nothing is given, or a denominator is not positive.
    """
    _require_same_shape(numerator, denominator)
    if numerator.size == 0 or not np.all(denominator > 0):
        raise EatError("ratios need at least one pair, and denominators above 0; check the timing file")
    ratios = (np.asarray(numerator, np.float64) / denominator).reshape(len(numerator), -1)
    picked = _picked_units(np.zeros(len(ratios), np.int64) if blocks is None else blocks, draws, seed)
    medians = np.median(ratios[picked].reshape(draws, -1), axis=1)
    low, high = percentile_interval(medians, confidence) if len(ratios) > 1 else (math.nan, math.nan)
    return Estimate(float(np.median(ratios)), float(low), float(high))


def _picked_units(blocks: npt.NDArray[np.int64], draws: int, seed: int) -> npt.NDArray[np.int64]:
    """Indices of units in each bootstrap sample, blocks drawn first; (draws, about U).

    Every drawn block contributes the mean number of units per block.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(blocks, kind="stable")
    _, starts, sizes = np.unique(blocks[order], return_index=True, return_counts=True)
    drawn = generator.integers(len(starts), size=(draws, len(starts), 1))
    within = generator.random((draws, len(starts), round(len(blocks) / len(starts))))
    return order[(starts[drawn] + (within * sizes[drawn]).astype(np.int64)).reshape(draws, -1)]


def macro_f1(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64]) -> float:
    """Unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN).

    labels, predictions: class numbers (N,). The classes are those in either array.
    """
    _require_same_shape(labels, predictions)
    classes = max(labels.max(), predictions.max()) + 1
    hits = np.bincount(labels[labels == predictions], minlength=classes)
    both = np.bincount(labels, minlength=classes) + np.bincount(predictions, minlength=classes)
    occurs = both > 0
    return float(np.mean(2.0 * hits[occurs] / both[occurs]))


def positive_f1(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64]) -> float:
    """F1 = 2 TP / (2 TP + FP + FN) of class 1, as GLUE gives it for pairs of texts; 0 if class 1 never occurs.

    labels, predictions: class numbers 0 and 1, (N,).
    """
    _require_same_shape(labels, predictions)
    hits, both = np.sum((labels == 1) & (predictions == 1)), np.sum(labels == 1) + np.sum(predictions == 1)
    return float(2.0 * hits / both) if both else 0.0


def _require_same_shape(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic]) -> None:
    if first.shape != second.shape:
        raise EatError(f"paired values of shapes {first.shape} and {second.shape}; they must be of the same examples")


# --- intervals of proportions -------------------------------------------------------------------------------------
#
# A bootstrap resamples the texts. If all answers are correct, or all are wrong, every sample has the same mean, and the
# interval has no width, even for few texts. Score intervals contain the true values that are compatible with the
# answers, so they also have a width at 0 and at 100 %.


def proportion_interval(hits: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a proportion by Wilson's score, for `hits` of `n` independent examples.

    Both may be fractions: see `accuracy_interval`. It contains hits / n and always has a width.
    """
    share, weight = hits / n, _Z**2 / n
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    # with no hit or no miss these ends are exact; the formula gives them only up to rounding
    return (0.0 if share == 0.0 else middle - half), (1.0 if share == 1.0 else middle + half)


def accuracy_interval(right: Bools) -> Estimate:
    """The accuracy of trained models on texts like these, with its 95 % interval.

    right: whether each text is answered right under each seed, bool (N, S). The interval is Wilson's. With several
    seeds the value of a text is its mean over seeds, which varies less than a single answer; the number of texts is
    increased accordingly, like the effective size of a sample (Kish's design effect), at most S times.
    """
    share = float(right.mean())
    size = _effective_size(right.mean(axis=1), share * (1 - share), right.shape[1])
    return Estimate(share, *proportion_interval(share * size, size))


def difference_interval(own: Bools, other: Bools) -> Estimate:
    """The accuracy of one system minus that of another on the same texts, with its 95 % interval.

    own, other: whether each text is answered right under each seed, bool (N, S). The interval is Tango's (1998), which
    inverts the score test of paired proportions: McNemar's test if the difference is 0, and Wilson's interval if
    one system is always right. If two systems do not differ on any of N texts, the ends are
    -3.84 / (N + 3.84) and 3.84 / (N + 3.84). Seeds count as in `accuracy_interval`.

    Raises `EatError` if the shapes differ.
    """
    _require_same_shape(own, other)
    better, worse = float(np.mean(own & ~other)), float(np.mean(~own & other))
    per_text = own.mean(axis=1) - other.mean(axis=1)
    size = _effective_size(per_text, better + worse - (better - worse) ** 2, own.shape[1])
    high = _highest_difference(better, worse, size)
    return Estimate(better - worse, -_highest_difference(worse, better, size), high)


def _effective_size(values: Floats, variance: float, seeds: int) -> float:
    """The number of independent single answers that are equivalent to these texts; values: means over seeds (N,).

    variance: of a single answer. With one seed it is that of the values, and the size is N; also if nothing varies,
    since then there is no evidence that seeds differ.
    """
    effect = float(np.var(values)) / variance if variance > 0 else 1.0
    return len(values) / min(max(effect, 1 / seeds), 1.0)


def _highest_difference(better: float, worse: float, n: float) -> float:
    """The upper end of Tango's interval of p - q, where p and q are the shares of texts that only one of the two
    answers correctly.

    It is the largest difference d for which the observed one lies no more than 1.96 standard errors below; the standard
    error is that of the likeliest p and q with p - q = d.
    """
    from scipy.optimize import bisect

    observed = better - worse

    def margin(difference: float) -> float:
        b = (2 - observed) * difference - better - worse
        q = (math.sqrt(b * b + 8 * worse * difference * (1 - difference)) - b) / 4
        error = math.sqrt(max(2 * q + difference * (1 - difference), 0.0) / n)
        return difference - observed - _Z * error

    # at the observed difference the margin is negative, or 0 if nothing varies, and just above it, it is negative
    return float(bisect(margin, observed + 1e-9, 1.0, xtol=1e-12)) if observed < 1.0 else 1.0


def exact_interval(bad: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a proportion, for `bad` of `n`."""
    from scipy.stats import binomtest

    interval = binomtest(bad, n).proportion_ci(confidence_level=confidence, method="exact")
    return float(interval.low), float(interval.high)


def exact_share(flags: Bools) -> Estimate:
    """The share of true values, bool (N,), with `exact_interval`; unknown if there are none."""
    return Estimate(float(flags.mean()), *exact_interval(int(flags.sum()), len(flags))) if len(flags) else UNKNOWN


def nonnegative_fit(terms: Floats, values: Floats) -> Floats:
    """Non-negative coefficients of a sum of terms with the smallest relative error; (S, K) and (S,) to (K,)."""
    from scipy.optimize import nnls

    relative = terms / values[:, None]
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1.0
    coefficients: Floats = nnls(relative / scale, np.ones(len(values)))[0] / scale
    return coefficients
