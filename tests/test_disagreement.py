"""Thresholds with a promise on disagreement: by hand, against MAPIE, and by simulation."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from synthetic_traces import make_trace

from eat.calibrate.disagreement import (
    CANDIDATES,
    ExitAnswers,
    answers_of,
    choose_threshold,
    choose_thresholds,
    learn_path,
)
from eat.calibrate.promises import NEVER, p_value
from eat.calibrate.resplits import resplit


def drawn(n: int, seed: int, full_depth: float = 0.002) -> ExitAnswers:
    """Answers of 3 exits and full depth to n texts; the risk of a threshold is known, since certainty tells it.

    The certainty of an exit is uniform in [0.5, 1]; a text that is sure to c answers differently with probability
    (1 - c) x (1, 0.7, 0.4) by exit.
    """
    generator = np.random.default_rng(seed)
    certainty = generator.uniform(0.5, 1.0, (n, 3))
    differs = generator.random((n, 3)) < (1.0 - certainty) * [1.0, 0.7, 0.4]
    last = generator.random((n, 1)) < full_depth
    return ExitAnswers(certainty, np.hstack([differs, last]), np.tile([1.0, 2.0, 3.0, 4.0], (n, 1)))


def risk(thresholds: tuple[float, ...], full_depth: float = 0.002) -> float:
    """The true disagreement of `drawn` at these thresholds."""
    passed, total = 1.0, 0.0
    for threshold, factor in zip(thresholds, (1.0, 0.7, 0.4), strict=True):
        # c is uniform in [t, 1] for those that exit: the mean of 1 - c is (1 - t) / 2
        exits = 2.0 * (1.0 - threshold)
        total += passed * exits * factor * (1.0 - threshold) / 2.0
        passed *= 1.0 - exits
    return total + passed * full_depth


def test_a_text_takes_the_first_exit_that_is_certain_enough() -> None:
    answers = ExitAnswers(
        np.array([[0.9, 0.95], [0.6, 0.95], [0.6, 0.7], [1.0, 1.0]]),
        np.array([[True, False, False], [True, True, False], [True, True, True], [False, False, False]]),
        np.array([[1.0, 2.0, 3.0]] * 4),
    )
    assert answers.exits([0.9, 0.9]).tolist() == [0, 1, 2, 0]
    assert answers.exits([NEVER, 0.9]).tolist() == [1, 1, 2, 1]
    assert answers.exits([NEVER, NEVER]).tolist() == [2, 2, 2, 2]
    assert answers.disagreement([0.9, 0.9]).tolist() == [True, True, True, False]
    assert answers.mean_cost([0.9, 0.9]) == pytest.approx((1 + 2 + 3 + 1) / 4)


@pytest.mark.slow
def test_the_choice_is_that_of_mapie_s_fixed_sequence() -> None:
    fwer = pytest.importorskip("mapie.risk_control.fwer_control", reason="MAPIE is not installed (extra dev)")
    methods = pytest.importorskip("mapie.risk_control.methods")
    for seed in range(20):
        answers = drawn(3000, seed)
        found = choose_threshold(answers, 0.02, 0.05)
        candidates = [NEVER, *CANDIDATES]
        bad = np.array([answers.disagreement([threshold] * 3).sum() for threshold in candidates])
        ours = np.array([p_value(int(count), 3000, 0.02) for count in bad])
        theirs = methods.compute_hoeffding_bentkus_p_value(bad / 3000, 3000, 0.02, binary=True)[:, 0]
        assert (ours <= theirs + 1e-12).all(), "the exact p-value is never above a bound of it"
        rejected = fwer.control_fwer(ours, 0.05, "fixed_sequence")
        assert found.thresholds[0] == candidates[int(max(rejected))]


@pytest.mark.slow
@pytest.mark.parametrize("choose", [choose_threshold, choose_thresholds])
def test_promises_are_broken_as_rarely_as_stated(choose) -> None:
    """Of 150 draws the share with a true risk above epsilon is at most delta, up to two standard errors."""
    epsilon, delta, draws = 0.02, 0.1, 150
    broken, saved = 0, []
    for seed in range(draws):
        found = choose(drawn(1500, seed), epsilon, delta)
        assert found.kept
        broken += risk(found.thresholds) > epsilon
        saved.append(4.0 - found.cost)
    assert broken / draws <= delta + 2 * sqrt(delta * (1 - delta) / draws)
    assert np.mean(saved) > 0.2, "the promise is kept by never exiting"


def test_a_promise_that_full_depth_breaks_says_how_many_texts_would_do() -> None:
    answers = drawn(300, 0, full_depth=0.015)
    found = choose_threshold(answers, 0.02, 0.05)
    assert not found.kept and not found.may_exit
    assert found.needed is not None
    share = found.differing / found.n
    assert p_value(int(share * found.needed), found.needed, 0.02) <= 0.05
    hopeless = choose_threshold(drawn(300, 0, full_depth=0.5), 0.02, 0.05)
    assert hopeless.needed is None and not hopeless.kept


def test_a_path_only_becomes_faster() -> None:
    answers = drawn(2000, 3)
    path = learn_path(answers, 0.05)
    costs = [answers.mean_cost(thresholds) for thresholds in path]
    assert len(path) > 5 and costs == sorted(costs, reverse=True)
    for before, after in pairwise(path):
        assert sum(low < high for low, high in zip(after, before, strict=True)) == 1


def test_a_trace_is_resplit() -> None:
    """The certainty and the answers are those of the trace; of halves of one sample few break the promise."""
    traces = [make_trace(rows=700, seed=seed) for seed in (0, 1)]
    answers = answers_of(traces)
    depths = list(traces[0].logits)
    assert answers.certainty.shape == (1400, len(depths) - 1) and not answers.differs[:, -1].any()
    first = traces[0].logits[depths[0]].argmax(axis=1) != traces[0].logits[depths[-1]].argmax(axis=1)
    assert (answers.differs[:700, 0] == first).all()
    assert answers.cost[0].tolist() == [float(depth) for depth in depths]
    found = resplit(drawn(1400, 0), 0.02, 0.1, 60)
    assert found.broken <= 0.1 + 2 * sqrt(0.09 / 60) and 1.0 < found.depth < 4.0
