"""Intervals and tests, against SciPy, scikit-learn and figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from eat.errors import EatError
from eat.statistics import (
    bootstrap_means,
    macro_f1,
    mcnemar_p,
    median_ratio,
    percentile_interval,
)


def test_mcnemar_looks_at_the_pairs_that_differ() -> None:
    # 1 against 9: 2 (C(10,0) + C(10,1)) / 2^10 = 22 / 1024, whatever the 50 on which both are right
    first = np.array([True] * 1 + [False] * 9 + [True] * 50)
    second = np.array([False] * 1 + [True] * 9 + [True] * 50)
    assert mcnemar_p(first, second) == pytest.approx(22 / 1024)
    assert mcnemar_p(second, first) == pytest.approx(22 / 1024)
    assert mcnemar_p(first, first) == 1.0


def test_bootstrap_has_the_spread_of_the_mean_and_repeats() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, (400, 2))
    means = bootstrap_means(values, draws=4000, seed=1)
    assert means.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=0.01)
    assert means.std(axis=0) == pytest.approx(values.std(axis=0) / 20, rel=0.05)  # sd / sqrt(n)
    np.testing.assert_array_equal(means, bootstrap_means(values, draws=4000, seed=1))


def test_bootstrap_in_parts_is_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(30, 1))
    whole = bootstrap_means(values, draws=50)
    monkeypatch.setattr("eat.statistics._CELLS", 100)
    np.testing.assert_allclose(bootstrap_means(values, draws=50), whole)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = percentile_interval(bootstrap_means(generator.normal(0.3, 1, (80, 1)), draws=500))
        covered += low[0] <= 0.3 <= high[0]
    assert 0.89 <= covered / 200 <= 0.99


def test_median_ratio_of_a_system_that_takes_half() -> None:
    dense = np.random.default_rng(0).uniform(1, 50, 60)
    found = median_ratio(dense, dense / 2)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_median_ratio_draws_whole_units() -> None:
    # three seeds of one text are one unit: repeating the columns must not narrow the interval
    generator = np.random.default_rng(0)
    dense, own = generator.uniform(5, 9, 40), generator.uniform(2, 4, 40)
    once, thrice = median_ratio(dense, own), median_ratio(np.stack([dense] * 3, 1), np.stack([own] * 3, 1))
    assert thrice == once


@pytest.mark.parametrize("denominator", [np.array([1.0, 0.0]), np.array([1.0])])
def test_ratios_that_make_no_sense_are_refused(denominator: np.ndarray) -> None:
    with pytest.raises(EatError):
        median_ratio(np.ones(2), denominator)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_macro_f1_agrees_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    assert macro_f1(labels, predictions) == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_percentile_interval_is_central() -> None:
    low, high = percentile_interval(np.arange(1001.0)[:, None])
    assert (low[0], high[0]) == pytest.approx((25.0, 975.0))
