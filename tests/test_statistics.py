"""Intervals and tests, against SciPy, scikit-learn and figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from eat.errors import EatError
from eat.statistics import (
    Estimate,
    _picked_units,
    bootstrap_means,
    macro_f1,
    mcnemar_p,
    median_ratio,
    percentile_interval,
    positive_f1,
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


def width(found: Estimate) -> float:
    return found.high - found.low


def disturbed(blocks: np.ndarray, spread: float, seed: int) -> np.ndarray:
    """Ratios around 2: each unit errs by 2 %, and each block as a whole by `spread`; both log-normal, (U,)."""
    generator = np.random.default_rng(seed)
    whole = generator.normal(0, spread, blocks.max() + 1)[blocks]
    return 2.0 * np.exp(generator.normal(0, 0.02, len(blocks)) + whole)


def test_an_interval_over_blocks_knows_of_disturbed_blocks() -> None:
    # 20 blocks of 16 units, of which a busy machine disturbs each by 20 %. Units drawn one by one take this for 320
    # errors, and are off by 1.25 * 20 % / sqrt(320); they are 20, so the truth is sqrt(16) = 4 times that
    blocks = np.repeat(np.arange(20), 16)
    quiet, busy = disturbed(blocks, 0.0, seed=0), disturbed(blocks, 0.2, seed=0)
    ones = np.ones(len(blocks))
    assert width(median_ratio(busy, ones, blocks)) > 2 * width(median_ratio(busy, ones))
    # where no block differs, drawing blocks and units counts the units' errors twice: sqrt(2) times as wide
    assert 0.8 < width(median_ratio(quiet, ones, blocks)) / width(median_ratio(quiet, ones)) < 2.0
    for ratios in (quiet, busy):
        assert median_ratio(ratios, ones, blocks).value == median_ratio(ratios, ones).value == np.median(ratios)


def test_an_interval_over_blocks_covers_the_truth_where_that_over_units_does_not() -> None:
    blocks = np.repeat(np.arange(20), 8)
    ones = np.ones(len(blocks))
    covered = {"blocks": 0, "units": 0}
    for seed in range(100):
        ratios = disturbed(blocks, 0.2, seed)
        for how, drawn in (("blocks", blocks), ("units", None)):
            found = median_ratio(ratios, ones, drawn, draws=300)
            covered[how] += found.low <= 2.0 <= found.high
    assert covered["blocks"] >= 88  # of 100 intervals of 95 %
    assert covered["units"] <= 60


def test_blocks_may_be_of_unequal_size_and_in_any_order() -> None:
    generator = np.random.default_rng(0)
    blocks = generator.permutation(np.repeat([7, 3, 11, 5], [4, 3, 3, 1]))
    dense = generator.uniform(1, 50, (11, 6))
    found = median_ratio(dense, dense / 2, blocks)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)
    # a block's name and place mean nothing
    other = generator.uniform(1, 50, (11, 6))
    order = np.argsort(blocks, kind="stable")
    assert median_ratio(dense[order], other[order], blocks[order]) == median_ratio(dense, other, blocks)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 3))
def test_units_are_drawn_of_drawn_blocks(blocks: list[int], seed: int) -> None:
    picked = _picked_units(np.array(blocks), 200, seed)
    names, sizes = np.unique(blocks, return_counts=True)
    each = round(len(blocks) / len(names))
    assert picked.shape == (200, each * len(names))
    # each run of `each` units is of one block
    drawn = np.array(blocks)[picked].reshape(200, len(names), each)
    assert (drawn == drawn[:, :, :1]).all()
    # blocks are equally likely whatever their size: 200 * B draws, of which each gets 200 with sd below sqrt(200)
    counts = np.array([(drawn[:, :, 0] == name).sum() for name in names])
    assert (np.abs(counts - 200) <= 6 * np.sqrt(200)).all()
    if len(names) == 1 or sizes.max() <= 5:
        assert set(picked.ravel().tolist()) == set(range(len(blocks)))  # every unit has its chance


def test_one_block_is_none() -> None:
    generator = np.random.default_rng(0)
    dense, own = generator.uniform(5, 9, 40), generator.uniform(2, 4, 40)
    assert median_ratio(dense, own, np.zeros(40, np.int64)) == median_ratio(dense, own)


@pytest.mark.parametrize("denominator", [np.array([1.0, 0.0]), np.array([1.0])])
def test_ratios_that_make_no_sense_are_refused(denominator: np.ndarray) -> None:
    with pytest.raises(EatError):
        median_ratio(np.ones(2), denominator)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_macro_f1_agrees_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    assert macro_f1(labels, predictions) == pytest.approx(f1_score(labels, predictions, average="macro"))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_positive_f1_agrees_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    assert positive_f1(labels, predictions) == pytest.approx(f1_score(labels, predictions, zero_division=0.0))


def test_percentile_interval_is_central() -> None:
    low, high = percentile_interval(np.arange(1001.0)[:, None])
    assert (low[0], high[0]) == pytest.approx((25.0, 975.0))
