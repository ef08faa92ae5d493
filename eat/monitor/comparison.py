"""Whether a window of traffic differs from the reference: the population stability index, and a test, of each quantity.

Depth and label are compared by Pearson's chi-squared test of homogeneity, confidence and retention by the two-sample
Kolmogorov-Smirnov test. A quantity differs if its test rejects at the level divided by the number of tests
(Bonferroni), and its index is at least `NOTABLE`: a large window makes any difference significant, and a small one
makes the index large by chance. So the false-alarm rate is at most the level, up to the tests' approximations;
`false_alarms` measures it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eat.monitor.observations import Observations
from eat.progress import counted

LEVEL = 0.01
"""The default rate of false alarms per window."""

NOTABLE = 0.1
"""The index from which a shift counts, the usual lower limit of a moderate one."""

BINS = 10
"""Of confidence and retention: the deciles of the reference."""

SMALLEST_WINDOW = 50
"""Texts; with fewer, a test finds almost nothing."""

SPARSE = 5.0
"""The least expected count of a category in the window; rarer ones are joined (Cochran's rule)."""


@dataclass(frozen=True)
class Shift:
    """The comparison of one quantity. statistic: of the test. differs: whether it raises the alarm."""

    quantity: str
    test: str
    psi: float
    statistic: float
    p: float
    differs: bool
    reference_mean: float | None
    window_mean: float | None


@dataclass(frozen=True)
class Comparison:
    """A window against the reference, a `Shift` for each quantity that varies."""

    texts: int
    level: float
    shifts: tuple[Shift, ...]

    @property
    def alarm(self) -> bool:
        """Whether any quantity differs."""
        return any(shift.differs for shift in self.shifts)

    @property
    def differing(self) -> list[str]:
        """The quantities that differ."""
        return [shift.quantity for shift in self.shifts if shift.differs]


@dataclass(frozen=True)
class FalseAlarms:
    """How often windows of the reference itself raise the alarm: `alarms` of `resamples` windows of `window` texts."""

    window: int
    resamples: int
    alarms: int

    @property
    def rate(self) -> float:
        """The share of windows with an alarm."""
        return self.alarms / self.resamples

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval (Wilson)."""
        from scipy.stats import binomtest

        found = binomtest(self.alarms, self.resamples).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def compare(reference: Observations, window: Observations, level: float = LEVEL) -> Comparison:
    """Compare a window with the reference. level: the rate of false alarms that is aimed at."""
    tested = []
    for quantity in ("depth", "label"):
        categories, table = _table(getattr(reference, quantity), getattr(window, quantity))
        if len(categories) > 1:
            tested.append((quantity, "chi-squared", psi(table[0], table[1]), *_chi_squared(table)))
    for quantity in ("confidence", "retention"):
        ours, theirs = getattr(reference, quantity), getattr(window, quantity)
        if len(np.unique(np.concatenate([ours, theirs]))) > 1:
            tested.append((quantity, "Kolmogorov-Smirnov", psi(*_binned(ours, theirs)), *_smirnov(ours, theirs)))
    shifts = []
    for quantity, test, index, statistic, p in tested:
        ours, theirs = getattr(reference, quantity), getattr(window, quantity)
        is_number = quantity != "label"
        shifts.append(
            Shift(
                quantity=quantity,
                test=test,
                psi=index,
                statistic=statistic,
                p=p,
                differs=p < level / len(tested) and index >= NOTABLE,
                reference_mean=float(ours.mean()) if is_number else None,
                window_mean=float(theirs.mean()) if is_number else None,
            )
        )
    return Comparison(len(window), level, tuple(shifts))


def psi(reference: npt.NDArray[Any], window: npt.NDArray[Any]) -> float:
    """The population stability index of two lists of counts, (B,): the sum of (q - p) ln(q / p) over the bins.

    Half a text is added to each bin, so that an empty one gives a finite index.
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (np.asarray(reference), np.asarray(window)))
    return float(((q - p) * np.log(q / p)).sum())


def false_alarms(
    reference: Observations, window: int, resamples: int = 1000, level: float = LEVEL, seed: int = 0
) -> FalseAlarms:
    """Draw windows from the reference, compare each with the texts that are left, and count the alarms."""
    draw = np.random.default_rng(seed)
    alarms = 0
    for _ in counted(f"windows of {window} texts:", range(resamples), "resamples"):
        order = draw.permutation(len(reference))
        alarms += compare(reference.rows(order[window:]), reference.rows(order[:window]), level).alarm
    return FalseAlarms(window, resamples, alarms)


def _table(reference: npt.NDArray[Any], window: npt.NDArray[Any]) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """The counts of each category, (2, C); those that are rare in both are joined into one."""
    categories, places = np.unique(np.concatenate([reference, window]), return_inverse=True)
    counts = np.array(
        [
            np.bincount(places[: len(reference)], minlength=len(categories)),
            np.bincount(places[len(reference) :], minlength=len(categories)),
        ]
    )
    expected = counts.sum(axis=0) * len(window) / (len(reference) + len(window))
    order = np.argsort(-expected, kind="stable")
    groups: list[list[int]] = [[int(place)] for place in order if expected[place] >= SPARSE]
    rare = [int(place) for place in order if expected[place] < SPARSE]
    if rare and (not groups or expected[rare].sum() >= SPARSE):
        groups.append(rare)
    elif rare:
        groups[-1].extend(rare)
    table = np.array([[row[group].sum() for group in groups] for row in counts], np.int64)
    return [categories[group[0]] for group in groups], table


def _chi_squared(table: npt.NDArray[np.int64]) -> tuple[float, float]:
    from scipy.stats import chi2_contingency

    found = chi2_contingency(table, correction=False)
    return float(found.statistic), float(found.pvalue)


def _smirnov(reference: npt.NDArray[np.float64], window: npt.NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import ks_2samp

    found = ks_2samp(reference, window, method="asymp")
    return float(found.statistic), float(found.pvalue)


def _binned(
    reference: npt.NDArray[np.float64], window: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The counts of both in the deciles of the reference, (B,); equal deciles are one."""
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    ours, theirs = (
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        for values in (reference, window)
    )
    return ours, theirs
