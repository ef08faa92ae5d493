"""The calibration of an exit's probabilities, and temperature scaling.

A threshold on confidence is only as good as the confidence. Each exit gets a temperature T: P = softmax(logits / T),
fitted by the likelihood of the calibration split, which is used neither for training nor for the reported accuracy.

With two classes and one adaptive exit, scaling is monotone in max P: it renames the thresholds and moves no point of
the frontier. With several exits, each with its own T, or with more classes, it can move points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import special

from eat.results.replay import require_finite_logits
from eat.statistics import proportion_interval
from eat.study.calibration import CalibrationMode

if TYPE_CHECKING:
    from eat.results.trace import Trace

Floats = npt.NDArray[np.float64]

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
PAPER_ECE = 0.02
"""The paper scales an exit whose ECE is above 2 %."""
DRAWS = 1000


@dataclass(frozen=True)
class Answers:
    """A head's answers: its confidence max_c P(c), float64 (N,), and whether the argmax is the label, bool (N,)."""

    confidence: Floats
    correct: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, probabilities: Floats, labels: npt.NDArray[np.int64]) -> Answers:
        """From probabilities (N, C) and labels (N,)."""
        return cls(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Probabilities of logits / temperature along the last axis, float64."""
    probabilities: Floats = special.softmax(logits.astype(np.float64) / temperature, axis=-1)
    return probabilities


def log_softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Log-probabilities of logits / temperature along the last axis, float64."""
    logarithms: Floats = special.log_softmax(logits.astype(np.float64) / temperature, axis=-1)
    return logarithms


# --- measures -----------------------------------------------------------------------------------------------------


def negative_log_likelihood(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.int64], temperature: float = 1.0
) -> float:
    """Mean of -ln P(label), in nats."""
    return float(-log_softmax(logits, temperature)[np.arange(len(labels)), labels].mean())


def brier_score(probabilities: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Brier's score of several classes: the mean of sum_c (P(c) - [c is the label])^2, from 0 to 2."""
    target = np.eye(probabilities.shape[1])[labels]
    return float(np.sum((probabilities - target) ** 2, axis=1).mean())


def expected_calibration_error(answers: Answers, bins: int = 15) -> float:
    """ECE = sum_b |S_b| / n |acc(S_b) - conf(S_b)| over bins of equal width (the paper, section 7.2)."""
    gap = (answers.correct - answers.confidence) @ _membership(answers.confidence, bins)
    return float(np.abs(gap).sum() / len(answers.confidence))


def reliability(answers: Answers, bins: int = 15) -> list[dict[str, Any]]:
    """The reliability diagram: mean confidence and accuracy of the texts in each bin, `None` in an empty one."""
    member = _membership(answers.confidence, bins)
    counts = member.sum(axis=0)
    edges = np.linspace(0.0, 1.0, bins + 1)

    def mean(values: Floats) -> list[float | None]:
        return [float(total / count) if count else None for total, count in zip(values @ member, counts, strict=True)]

    confidence, accuracy = mean(answers.confidence), mean(answers.correct.astype(np.float64))
    return [
        {
            "bin": index,
            "low": float(edges[index]),
            "high": float(edges[index + 1]),
            "confidence": confidence[index],
            "accuracy": accuracy[index],
            "n": int(counts[index]),
        }
        for index in range(bins)
    ]


@dataclass(frozen=True)
class DebiasedError:
    """An ECE without the part that chance alone produces, and its 95 % interval."""

    value: float
    low: float
    high: float


def debiased_calibration_error(answers: Answers, bins: int = 15, draws: int = DRAWS, seed: int = 0) -> DebiasedError:
    """The true ECE for which the expected ECE equals the observed one.

    ECE sums absolute values, so it is above 0 even if every probability is true. Let g_b be the observed gap of bin
    b, acc - conf, and suppose that the true gap is k g_b. The observed gap is then k g_b plus noise, whose variance is
    that of drawing the bin's labels from its probabilities, and the observed ECE has a distribution that grows with k.
    The value is sum_b |S_b| / n |k g_b| for the k whose mean ECE is the observed one (0 if chance alone expects
    more). The ends of the interval are those of the k for which the observed ECE is the 97.5th and 2.5th percentile.

    The upper end is never below the observed ECE, which chance can make too small to be the latter for any k. Nor is it
    below the distance of the mean confidence from either end of Wilson's interval of the accuracy: such an accuracy is
    not excluded, and no ECE is smaller than that distance. Otherwise a head that is always correct and always certain
    would have an interval of zero width, even on few texts.
    """
    member = _membership(answers.confidence, bins)
    member = member[:, member.any(axis=0)]
    counts = member.sum(axis=0)
    share = counts / counts.sum()
    gap = (answers.correct - answers.confidence) @ member / counts
    observed = float(share @ np.abs(gap))
    accuracy = answers.correct @ member / counts
    # the answers of an almost empty bin may all be correct or all be wrong, so the variance from its probabilities is a
    # lower bound; half a text is added to either side, so that no bin has zero variance
    shrunk = (accuracy * counts + 0.5) / (counts + 1)
    variance = np.maximum((answers.confidence * (1 - answers.confidence)) @ member / counts, shrunk * (1 - shrunk))
    noise = np.random.default_rng(seed).standard_normal((draws, len(counts))) * np.sqrt(variance / counts)

    scales = np.concatenate([np.linspace(0.0, 3.0, 91), np.geomspace(3.1, 100.0, 40)])
    drawn = np.stack([np.abs(scale * gap + noise) @ share for scale in scales])  # (scales, draws)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=1)
    true = scales * float(share @ np.abs(gap))

    def where_observed(quantity: Floats) -> float:
        return float(np.interp(observed, np.maximum.accumulate(quantity), true))

    sure = float(answers.confidence.mean())
    lowest, highest = proportion_interval(int(answers.correct.sum()), len(answers.correct))
    return DebiasedError(
        value=where_observed(drawn.mean(axis=1)),
        low=where_observed(high),
        high=min(max(where_observed(low), observed, sure - lowest, highest - sure), 1.0),
    )


def _membership(confidence: Floats, bins: int) -> Floats:
    """The bin of each text, as (N, bins) of 0 and 1. Bins are [low, high); the last one includes 1."""
    index = np.searchsorted(np.linspace(0.0, 1.0, bins + 1), confidence, side="right") - 1
    return np.eye(bins)[np.clip(index, 0, bins - 1)]


# --- temperatures -------------------------------------------------------------------------------------------------


def fit_temperature(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.int64]) -> float:
    """The temperature in [0.05, 20] that minimises the negative log-likelihood of logits (N, C) and labels (N,).

    The likelihood is convex in 1 / T, so it has one minimum along ln T, and a bounded search in one dimension finds it.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, float(np.exp(log_t))),
        bounds=(float(np.log(LOWEST_TEMPERATURE)), float(np.log(HIGHEST_TEMPERATURE))),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def temperatures(trace: Trace, mode: CalibrationMode, bins: int = 15) -> dict[int, float]:
    """Layer -> temperature of each exit of the calibration split's trace.

    fitted: all are fitted. raw: all are 1. paper: fitted if the ECE is above 2 %, else 1.
    """

    def temperature(logits: npt.NDArray[np.floating]) -> float:
        if mode == "raw":
            return 1.0
        if mode == "paper":
            answers = Answers.of(softmax(logits), trace.labels)
            if expected_calibration_error(answers, bins) <= PAPER_ECE:
                return 1.0
        return fit_temperature(logits, trace.labels)

    return {depth: temperature(logits) for depth, logits in trace.logits.items()}


# --- the file -----------------------------------------------------------------------------------------------------


def calibrate(calibration_trace: Trace, dev_trace: Trace, mode: CalibrationMode, bins: int = 15) -> dict[str, Any]:
    """Fit the temperatures on the calibration split and measure every exit on both splits, before and after.

    Returns the content of the calibration JSON: `mode`, `temperatures` (layer as text -> T), and in `exits` one entry
    per exit, split (`calibration`, `dev`) and stage (`raw`, `calibrated`). Raises `EatError` if a logit is not finite.
    """
    splits = {"calibration": calibration_trace, "dev": dev_trace}
    for split, trace in splits.items():
        require_finite_logits(trace, f"the {split} trace")
    fitted = temperatures(calibration_trace, mode, bins)
    return {
        "mode": mode,
        "temperatures": {str(depth): value for depth, value in fitted.items()},
        "exits": [
            {"exit": depth, "split": split, "stage": stage, **measures(trace, depth, temperature, bins)}
            for split, trace in splits.items()
            for depth in trace.logits
            for stage, temperature in (("raw", 1.0), ("calibrated", fitted[depth]))
        ],
    }


def measures(trace: Trace, depth: int, temperature: float, bins: int = 15) -> dict[str, Any]:
    """The calibration of one exit at one temperature: n, ece, its debiased form, brier, nll, reliability."""
    logits, labels = trace.logits[depth], trace.labels
    probabilities = softmax(logits, temperature)
    answers = Answers.of(probabilities, labels)
    debiased = debiased_calibration_error(answers, bins)
    return {
        "n": len(labels),
        "ece": expected_calibration_error(answers, bins),
        "ece_debiased": debiased.value,
        "ece_debiased_low": debiased.low,
        "ece_debiased_high": debiased.high,
        "brier": brier_score(probabilities, labels),
        "nll": negative_log_likelihood(logits, labels, temperature),
        "reliability": reliability(answers, bins),
    }
