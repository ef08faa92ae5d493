"""Learn-then-Test: the test by hand, the sequence, and by simulation that the promise is kept as often as it says."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from synthetic_traces import make_trace

from eat.calibrate.promises import keep_promise, p_value
from eat.engines.packed import PackedModel
from eat.errors import EatError
from eat.model.hugging_face import EatForSequenceClassification
from eat.results.replay import bad_texts, policies, replay
from eat.results.trace import Trace
from eat.statistics import exact_interval, examples_needed
from eat.study.specs.calibrate import CalibrationSpec
from eat.trace.recording import trace_texts

TAU = [0.6, 0.7, 0.8, 0.9, 0.95, 0.99]


def spec(epsilon: float = 0.05, delta: float = 0.1, risk: str = "disagreement", **changes: Any) -> CalibrationSpec:
    promise = {"epsilon": epsilon, "delta": delta, "risk": risk}
    given = {"promise": promise, "rule": ["risk_controlled"], "tau": TAU, "mode": "raw", "bins": 15, **changes}
    return CalibrationSpec.model_validate(given)


def test_the_p_value_is_the_binomial_s_tail():
    # P(Bin(5, 0.2) <= 1) = 0.8^5 + 5 x 0.2 x 0.8^4
    assert p_value(1, 5, 0.2) == pytest.approx(0.8**5 + 5 * 0.2 * 0.8**4)
    assert p_value(2, 9, 0.3) == pytest.approx(sum(comb(9, k) * 0.3**k * 0.7 ** (9 - k) for k in range(3)))


@pytest.mark.parametrize(
    ("n", "epsilon", "most"),
    # how many disagreements so many texts allow at delta 0.05
    [(872, 0.01, 3), (4900, 0.01, 37), (4900, 0.005, 16)],
)
def test_as_many_bad_texts_as_published_tables_of_the_binomial_allow(n: int, epsilon: float, most: int):
    assert p_value(most, n, epsilon) <= 0.05 < p_value(most + 1, n, epsilon)


def test_an_infeasible_promise_is_refused_with_the_n_it_needs():
    # 0.995^n <= 0.05: n >= ln 0.05 / ln 0.995 = 597.6
    assert examples_needed(0.005, 0.05) == 598
    with pytest.raises(EatError, match=r"needs at least 598 calibration texts, even if none is bad; there are 597"):
        keep_promise(make_trace(rows=597), spec(0.005, 0.05))
    keep_promise(make_trace(rows=598), spec(0.005, 0.05))


def answers_of(full: list[int], early: list[int], confidence: list[float], labels: list[int]) -> Trace:
    """A trace with exits after 4 and 6 that give these classes, the early one with these probabilities."""
    trace = make_trace(rows=len(full))
    sure = np.log(np.array(confidence) / (1 - np.array(confidence)))
    early_logits = np.where(np.array(early)[:, None] == np.arange(2), sure[:, None], 0.0).astype(np.float32)
    full_logits = np.where(np.array(full)[:, None] == np.arange(2), 3.0, 0.0).astype(np.float32)
    return replace(trace, logits={4: early_logits, 6: full_logits}, labels=np.array(labels))


def test_bad_texts_are_those_answered_otherwise_or_wrongly():
    trace = answers_of(
        full=[0, 0, 1, 1, 0], early=[1, 1, 0, 1, 1], confidence=[0.92, 0.92, 0.92, 0.92, 0.65], labels=[0, 1, 1, 1, 0]
    )
    # at 0.9 four leave: three of them are answered otherwise, and in two of these the full model was right
    assert bad_texts(trace, spec(), 0.9).tolist() == [True, True, True, False, False]
    assert bad_texts(trace, spec(risk="accuracy"), 0.9).tolist() == [True, False, True, False, False]
    assert bad_texts(trace, spec(), 0.6).tolist() == [True, True, True, False, True]
    assert not bad_texts(trace, spec(), 1.0).any()


def test_the_sequence_ends_at_the_first_threshold_that_is_not_shown_to_be_safe():
    # of 100 texts 10 leave wrongly at .95 and below, the others are as the full model says: at .99 none is bad,
    # P(Bin(100, .05) <= 0) = .0059; at .95 ten are, P(Bin(100, .05) <= 10) = .989
    n = 100
    trace = answers_of(full=[0] * n, early=[1] * 10 + [0] * 90, confidence=[0.96] * 10 + [0.7] * 90, labels=[0] * n)
    found = keep_promise(trace, spec())
    assert (found["tau"], found["n"]) == (0.99, n)
    assert [(one["tau"], one["bad"]) for one in found["tested"]] == [(0.99, 0), (0.95, 10)]
    assert [one["p"] for one in found["tested"]] == pytest.approx([0.95**100, p_value(10, 100, 0.05)])


def test_where_nothing_is_safe_nobody_leaves():
    n = 100
    trace = answers_of(full=[0] * n, early=[1] * n, confidence=[0.999] * n, labels=[0] * n)
    assert keep_promise(trace, spec())["tau"] == 1.0


def test_a_promise_is_one_operating_point_at_the_threshold_that_keeps_it():
    (policy,) = policies(spec(), {4: 1.0}, 0.8).values()
    assert (policy.rule, policy.tau) == (("confidence",), 0.8)


DELTA, DRAWS = 0.2, 300


def parts_broken(population: Trace, risk: str, tau: list[float], near: float, n: int) -> list[float]:
    """How often 300 calibration splits of n texts lead to a threshold whose true risk is above epsilon.

    epsilon lies 2 % below the true risk of the threshold `near`, where a wrong choice is likeliest. The first is the
    rule's part, the second that of a plain one: the fastest threshold whose risk on the split is at most epsilon.
    """
    bad = {one: bad_texts(population, spec(risk=risk, tau=tau), one) for one in tau}
    true = {one: float(flags.mean()) for one, flags in bad.items()} | {1.0: 0.0}
    asked = spec(0.98 * true[near], DELTA, risk, tau=tau)
    epsilon = asked.promise.epsilon
    draw = np.random.default_rng(0)
    kept, plain = [], []
    for _ in range(DRAWS):
        rows = draw.choice(len(population.ids), n)
        kept.append(keep_promise(rows_of(population, rows), asked)["tau"])
        plain.append(min((one for one in tau if bad[one][rows].mean() <= epsilon), default=1.0))
    return [float(np.mean([true[one] > epsilon for one in taken])) for taken in (kept, plain)]


@pytest.mark.parametrize("near", [0.9, 0.8])
@pytest.mark.parametrize("risk", ["disagreement", "accuracy"])
def test_a_promise_is_broken_no_more_often_than_it_says(risk: str, near: float):
    """Splits of a population of 20,000 texts: the true risk of a threshold is that over all of them."""
    broken, plainly = parts_broken(make_trace(rows=20_000), risk, TAU, near, n=300)
    # at most delta, and 3 standard deviations of a part of 300 draws are 0.07; a rule that never took the threshold in
    # question would not break it at all, and one that does not know delta breaks it about every second time
    assert 0.05 < broken <= DELTA + 0.07 < 0.4 < plainly


@pytest.mark.parametrize("risk", ["disagreement", "accuracy"])
def test_a_promise_holds_after_pruning(risk: str, pruned: Trace):
    """The same for a model that removes tokens: its full model is itself, without early exits."""
    tau = [0.999, 0.99, 0.97, 0.95, 0.9, 0.8, 0.6]
    assert pruned.alive[:, 0].sum() < pruned.lengths.sum()
    broken, plainly = parts_broken(pruned, risk, tau, near=0.97, n=200)
    assert 0.05 < broken <= DELTA + 0.07 < 0.4 < plainly
    # what leaves early is answered by the exit before the removals after it
    (policy,) = policies(spec(tau=tau), {}, 0.9).values()
    assert set(replay(pruned, policy).depth) == {2, 4}


def rows_of(trace: Trace, rows: np.ndarray) -> Trace:
    each = ("ids", "labels", "lengths", "attended", "fed", "alive", "pairs", "pattern_pairs", "cut_margin")
    logits = {depth: values[rows] for depth, values in trace.logits.items()}
    return replace(trace, logits=logits, **{name: getattr(trace, name)[rows] for name in each})


@pytest.fixture(scope="module")
def pruned() -> Trace:
    """The trace of a random model that removes tokens, over 3,000 random texts with random labels."""
    model: EatForSequenceClassification = tiny.model(
        exits=[2], reducer={"kind": "norm", "after": [1, 2], "ratio": 0.4}, read="mean", seed=3
    )
    lengths = torch.randint(3, 20, (3000,), generator=torch.Generator().manual_seed(1)).tolist()
    ids = [str(row) for row in range(3000)]
    return trace_texts(PackedModel(model), tiny.texts(lengths), ids, np.random.default_rng(2).integers(0, 2, 3000))


def test_an_exact_interval_is_clopper_and_pearson_s():
    # of none among n it ends at 1 - (alpha / 2)^(1 / n)
    assert exact_interval(0, 50) == pytest.approx((0.0, 1 - 0.025 ** (1 / 50)))
    low, high = exact_interval(10, 100)
    # its ends make the count just as unlikely as a tail of 2.5 %
    assert 1 - p_value(9, 100, low) == pytest.approx(0.025, abs=1e-6)
    assert p_value(10, 100, high) == pytest.approx(0.025, abs=1e-6)
