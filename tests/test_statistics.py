"""Intervals and tests, against SciPy, scikit-learn and figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from eat.errors import EatError
from eat.statistics import (
    Estimate,
    _picked_units,
    accuracy_interval,
    difference_interval,
    macro_f1,
    mcnemar_p,
    median_ratio,
    percentile_interval,
    positive_f1,
    proportion_interval,
)


def test_mcnemar_looks_at_the_pairs_that_differ() -> None:
    # 1 against 9: 2 (C(10,0) + C(10,1)) / 2^10 = 22 / 1024, whatever the 50 on which both are right
    first = np.array([True] * 1 + [False] * 9 + [True] * 50)
    second = np.array([False] * 1 + [True] * 9 + [True] * 50)
    assert mcnemar_p(first, second) == pytest.approx(22 / 1024)
    assert mcnemar_p(second, first) == pytest.approx(22 / 1024)
    assert mcnemar_p(first, first) == 1.0


# --- intervals of accuracy ----------------------------------------------------------------------------------------

ANSWERS = st.tuples(st.integers(1, 60), st.integers(1, 3)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape, elements=st.booleans()), arrays(bool, shape, elements=st.booleans()))
)
"""Whether two systems answer the same texts right, bool (N, S) each."""

CERTAIN = 1.959963984540054**2


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_proportion_is_wilsons(counts: tuple[int, int]) -> None:
    hits, n = counts
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    low, high = proportion_interval(hits, n)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0.0 <= low <= hits / n <= high <= 1.0


@given(ANSWERS)
def test_no_interval_of_an_accuracy_is_without_width(answers: tuple[np.ndarray, np.ndarray]) -> None:
    right, _ = answers
    found = accuracy_interval(right)
    assert found.value == pytest.approx(right.mean())
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    # no narrower than if every answer were of another text, no wider than if all seeds were one
    widths = [np.ptp(proportion_interval(right.mean() * n, n)) for n in (right.size, len(right))]
    assert widths[0] - 1e-12 <= width(found) <= widths[1] + 1e-12
    assert width(found) > 1 / (right.size + CERTAIN)


@given(ANSWERS)
def test_no_interval_of_a_difference_is_without_width(answers: tuple[np.ndarray, np.ndarray]) -> None:
    own, other = answers
    found, turned = difference_interval(own, other), difference_interval(other, own)
    assert found.value == pytest.approx(own.mean() - other.mean())
    assert -1.0 <= found.low <= found.value <= found.high <= 1.0
    assert width(found) > 1 / (own.size + CERTAIN)
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))


@given(ANSWERS)
def test_one_seed_three_times_tells_no_more_than_once(answers: tuple[np.ndarray, np.ndarray]) -> None:
    own, other = (right[:, :1] for right in answers)
    thrice = [np.repeat(right, 3, axis=1) for right in (own, other)]
    once, repeated = difference_interval(own, other), difference_interval(*thrice)
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
    once, repeated = accuracy_interval(own), accuracy_interval(thrice[0])
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))


@given(ANSWERS)
def test_the_interval_of_a_difference_excludes_0_where_mcnemars_test_does(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    own, other = (right[:, :1] for right in answers)
    better, worse = np.sum(own & ~other), np.sum(~own & other)
    score = (better - worse) ** 2 / max(better + worse, 1)  # chi-squared with one degree of freedom
    found = difference_interval(own, other)
    assert (found.low > 0 or found.high < 0) == (score > CERTAIN)


def test_the_interval_of_a_difference_is_tangos() -> None:
    # 21 children before and after a treatment (Bentur et al. 1990): both, first alone, second alone, neither: 1 1 7 12.
    # Fagerland, Lydersen and Laake (2014) give [-0.517, -0.026]
    first = np.repeat([True, True, False, False], [1, 1, 7, 12])[:, None]
    second = np.repeat([True, False, True, False], [1, 1, 7, 12])[:, None]
    found = difference_interval(first, second)
    assert found.value == pytest.approx(-6 / 21)
    assert (found.low, found.high) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("n", [1, 40, 10_000])
def test_systems_that_never_differ_may_differ_on_another_text(n: int) -> None:
    right = np.ones((n, 1), dtype=bool)
    found = difference_interval(right, right)
    end = CERTAIN / (n + CERTAIN)
    assert (found.low, found.value, found.high) == pytest.approx((-end, 0.0, end))
    # one that is right alone on every text: the upper end is known, the lower is Wilson's
    alone = difference_interval(right, ~right)
    assert (alone.value, alone.high) == (1.0, 1.0)
    assert -1.0 < alone.low < 1.0


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    covered = {"accuracy": 0, "difference": 0}
    for _ in range(400):
        # three seeds of two systems; a text is as easy for all of them as it is
        easy = generator.beta(8.0, 1.0, (60, 1))  # in the mean 8 / 9
        own, other = generator.random((60, 3)) < easy, generator.random((60, 3)) < easy
        accuracy, difference = accuracy_interval(own), difference_interval(own, other)
        covered["accuracy"] += accuracy.low <= 8 / 9 <= accuracy.high
        covered["difference"] += difference.low <= 0.0 <= difference.high
    assert all(0.92 <= count / 400 <= 0.99 for count in covered.values()), covered


# --- paired ratios ------------------------------------------------------------------------------------------------


def test_median_ratio_of_a_system_that_takes_half() -> None:
    dense = np.random.default_rng(0).uniform(1, 50, 60)
    found = median_ratio(dense, dense / 2)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_a_single_unit_has_no_interval() -> None:
    found = median_ratio(np.array([[4.0, 6.0]]), np.array([[2.0, 2.0]]))  # one text, timed twice
    assert found.value == 2.5
    assert np.isnan([found.low, found.high]).all()


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
