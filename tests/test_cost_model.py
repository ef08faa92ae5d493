"""The paper's cost model: coefficients that are got back from times made of them, and what it predicts."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from eat.errors import EatError
from eat.summarize.cost_model import CostModel, exponent, fit_dense

LENGTHS = np.array([8, 12, 20, 33, 40, 64, 100, 128])
LAYERS = 6


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_the_coefficients_that_made_the_times_are_found(gamma: float):
    tokens = LENGTHS.astype(float)
    ms = LAYERS * (2e-5 * tokens**2 + 0.01 * tokens + gamma)
    found = fit_dense(LENGTHS, ms, LAYERS, with_overhead=True)
    assert (found.alpha, found.beta, found.gamma) == pytest.approx((2e-5, 0.01, gamma), rel=1e-6, abs=1e-9)
    if gamma == 0.0:
        plain = fit_dense(LENGTHS, ms, LAYERS, with_overhead=False)
        assert (plain.alpha, plain.beta, plain.gamma) == pytest.approx((found.alpha, found.beta, 0.0), rel=1e-6)
    else:  # equation (4) cannot say that a layer costs time by itself: it is off at the shortest texts
        plain = fit_dense(LENGTHS, ms, LAYERS, with_overhead=False)
        pairs = np.repeat(LENGTHS[:, None] ** 2, LAYERS, axis=1)
        rows = np.repeat(LENGTHS[:, None], LAYERS, axis=1)
        predicted = plain.predict(pairs, rows, np.full(len(LENGTHS), LAYERS))
        assert predicted[0] < 0.9 * ms[0]


def test_no_coefficient_is_negative():
    falling = 1.0 / LENGTHS
    found = fit_dense(LENGTHS, falling, LAYERS, with_overhead=True)
    assert min(found.alpha, found.beta, found.gamma) >= 0.0


def test_equation_5_sums_over_the_layers_that_a_text_reaches():
    model = CostModel(alpha=0.5, beta=2.0, gamma=10.0)
    pairs = np.array([[9, 4, 4], [9, 4, 4]])
    tokens = np.array([[3, 2, 2], [3, 2, 2]])
    # one layer: 10 + 0.5 * 9 + 2 * 3; two more of 10 + 0.5 * 4 + 2 * 2
    assert model.predict(pairs, tokens, np.array([1, 3])).tolist() == [20.5, 52.5]


def test_the_exponent_that_made_the_times_is_found():
    found, low, high = astuple(exponent(LENGTHS, 0.3 * LENGTHS**1.5))
    assert found == pytest.approx(1.5)
    assert low <= found <= high
    spread = np.array([1.1, 0.9] * (len(LENGTHS) // 2))
    found, low, high = astuple(exponent(LENGTHS, 0.3 * LENGTHS**1.5 * spread))
    assert low < 1.5 < high and high - low > 0.05


def test_too_few_lengths_are_refused():
    with pytest.raises(EatError, match=r"^the timed texts have 2 different lengths; equation \(4\) needs 3: raise"):
        fit_dense(np.array([5, 9, 9]), np.array([1.0, 2.0, 2.0]), LAYERS, with_overhead=True)
