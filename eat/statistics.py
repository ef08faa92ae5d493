"""How sure a number is: intervals, paired tests and the F1 of a task. Pure functions; every seed is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eat.errors import EatError
from eat.progress import Progress

Floats = npt.NDArray[np.float64]

DRAWS = 2000
"""Bootstrap samples drawn where nothing else is said."""

_CELLS = 8_000_000  # indices drawn at a time: bounds the memory of a bootstrap over a large dev set


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


def mcnemar_p(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided McNemar test of two systems on the same examples.

    first, second: whether each answer is right, bool (N,). Under the null hypothesis an example on which exactly one of
    them is right falls to either with probability 1/2. Returns 1 where they never differ.
    """
    from scipy.stats import binomtest

    _require_same_shape(first, second)
    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(~first & second))
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def examples_needed(epsilon: float, delta: float) -> int:
    """The least n at which even no bad text among n shows a risk of at most epsilon: (1 - epsilon)^n <= delta."""
    return math.ceil(math.log(delta) / math.log1p(-epsilon))


def bootstrap_means(values: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Means of bootstrap samples of the rows; (N, K) to (draws, K).

    All K columns share each sample, so that the difference of two columns is a paired bootstrap of their difference.
    Raises `EatError` without rows.
    """
    examples = len(values)
    if examples == 0:
        raise EatError("a bootstrap of no examples; give at least one")
    generator = np.random.default_rng(seed)
    means = np.empty((draws, values.shape[1]))
    step = max(1, _CELLS // examples)
    with Progress("drawn", draws, "bootstrap samples") as progress:
        for start in range(0, draws, step):
            rows = min(step, draws - start)
            picked = generator.integers(examples, size=(rows, examples))
            # how often each example is in each sample: then one matrix product gives the means of all columns
            counts = np.bincount((picked + examples * np.arange(rows)[:, None]).ravel(), minlength=rows * examples)
            means[start : start + rows] = counts.reshape(rows, examples).astype(np.float64) @ values / examples
            progress.advance(rows)
    return means


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
    whole units are drawn, with all S values of each: one text timed under three seeds is one unit, not three.
    blocks: the block each unit was timed in (U,). Blocks are then drawn first and units within them, since what
    disturbs a machine disturbs all that is timed at the moment.
    Raises `EatError` where the shapes differ, nothing is given, or a denominator is not positive.
    """
    _require_same_shape(numerator, denominator)
    if numerator.size == 0 or not np.all(denominator > 0):
        raise EatError("ratios need at least one pair, and denominators above 0; check the timing file")
    ratios = (np.asarray(numerator, np.float64) / denominator).reshape(len(numerator), -1)
    picked = _picked_units(np.zeros(len(ratios), np.int64) if blocks is None else blocks, draws, seed)
    medians = np.median(ratios[picked].reshape(draws, -1), axis=1)
    low, high = percentile_interval(medians, confidence)
    return Estimate(float(np.median(ratios)), float(low), float(high))


def _picked_units(blocks: npt.NDArray[np.int64], draws: int, seed: int) -> npt.NDArray[np.int64]:
    """Indices of units in each bootstrap sample, blocks drawn first; (draws, about U).

    Every drawn block gives as many units as a block has on average.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(blocks, kind="stable")
    _, starts, sizes = np.unique(blocks[order], return_index=True, return_counts=True)
    drawn = generator.integers(len(starts), size=(draws, len(starts), 1))
    within = generator.random((draws, len(starts), round(len(blocks) / len(starts))))
    return order[(starts[drawn] + (within * sizes[drawn]).astype(np.int64)).reshape(draws, -1)]


def macro_f1(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64]) -> float:
    """Unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN).

    labels, predictions: class numbers (N,). The classes are those that occur in either.
    """
    _require_same_shape(labels, predictions)
    classes = max(labels.max(), predictions.max()) + 1
    hits = np.bincount(labels[labels == predictions], minlength=classes)
    both = np.bincount(labels, minlength=classes) + np.bincount(predictions, minlength=classes)
    occurs = both > 0
    return float(np.mean(2.0 * hits[occurs] / both[occurs]))


def positive_f1(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64]) -> float:
    """F1 = 2 TP / (2 TP + FP + FN) of class 1, as GLUE gives it for pairs of texts; 0 where class 1 never occurs.

    labels, predictions: class numbers 0 and 1, (N,).
    """
    _require_same_shape(labels, predictions)
    hits, both = np.sum((labels == 1) & (predictions == 1)), np.sum(labels == 1) + np.sum(predictions == 1)
    return float(2.0 * hits / both) if both else 0.0


def _require_same_shape(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic]) -> None:
    if first.shape != second.shape:
        raise EatError(f"paired values of shapes {first.shape} and {second.shape}; they must be of the same examples")


def proportion_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a proportion by Wilson's score, for `hits` of `n` independent examples."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)
