"""Temperatures, calibration errors, and when a temperature can move a frontier."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_traces import make_trace
from torchmetrics.functional.classification import multiclass_calibration_error

from eat.calibrate.calibration import (
    Answers,
    brier_score,
    calibrate,
    debiased_calibration_error,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    softmax,
    temperatures,
)
from eat.errors import EatError
from eat.files import write_json
from eat.model.exit_policy import ExitPolicy
from eat.results.calibrated import temperatures_of
from eat.results.replay import replay
from eat.results.trace import Trace
from eat.statistics import proportion_interval


def calibrated(rows: int, seed: int, classes: int = 3, scale: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their own softmax: calibrated by construction."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, scale, (rows, classes))
    labels = (softmax(logits).cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1)
    return logits, np.minimum(labels, classes - 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 20), st.floats(0.2, 4.0))
def test_ece_agrees_with_torchmetrics(seed: int, classes: int, bins: int, scale: float) -> None:
    logits, labels = calibrated(60, seed, classes, scale)
    probabilities = softmax(logits)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=classes, n_bins=bins
    )
    found = expected_calibration_error(Answers.of(probabilities, labels), bins)
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_ece_by_hand() -> None:
    # two texts at .9 of which one is right, two at .6 of which both are: (2 * .4 + 2 * .4) / 4
    answers = Answers(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, False, True, True]))
    assert expected_calibration_error(answers) == pytest.approx(0.4)


def test_certainty_of_one_falls_into_the_last_bin() -> None:
    bins = reliability(Answers(np.array([1.0, 0.97]), np.array([True, False])))
    assert (bins[-1]["n"], bins[-1]["confidence"], bins[-1]["accuracy"]) == (2, pytest.approx(0.985), 0.5)
    assert bins[0]["n"] == 0
    assert bins[0]["confidence"] is None


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    logits, labels = calibrated(20_000, seed=3)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_fitted_temperature_is_the_minimum() -> None:
    logits, labels = calibrated(300, seed=1)
    best = fit_temperature(2 * logits, labels)
    at_best = negative_log_likelihood(2 * logits, labels, best)
    others = np.geomspace(0.05, 20, 200)
    assert all(at_best <= negative_log_likelihood(2 * logits, labels, float(other)) + 1e-9 for other in others)


def test_temperature_of_a_head_that_is_never_wrong_stays_in_bounds() -> None:
    logits = np.eye(2)[np.array([0, 1] * 10)] * 3.0
    assert 0.05 <= fit_temperature(logits, np.array([0, 1] * 10)) < 0.1


def test_brier_and_nll_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2], [0.5, 0.5]])
    labels = np.array([0, 1])
    assert brier_score(probabilities, labels) == pytest.approx((0.08 + 0.5) / 2)
    assert negative_log_likelihood(np.log(probabilities), labels) == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)


def test_large_logits_do_not_overflow() -> None:
    assert negative_log_likelihood(np.array([[1e4, -1e4]]), np.array([0]), 0.05) == 0.0


def test_chance_alone_makes_an_ece_above_two_per_cent() -> None:
    """The claim beside the paper's 2 % rule: with 1,000 texts and 3 classes a calibrated head fails it mostly."""
    above = [
        expected_calibration_error(Answers.of(softmax(logits), labels)) > 0.02
        for logits, labels in (calibrated(1000, seed) for seed in range(100))
    ]
    assert np.mean(above) > 0.5


@pytest.mark.parametrize("off", [0.0, 0.05, 0.15])
def test_debiased_error_is_nearer_the_truth_and_its_interval_holds_it(off: float) -> None:
    debiased, plain, covered = [], [], 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        confidence = generator.uniform(0.6, 1.0, 400)
        answers = Answers(confidence, generator.random(400) < confidence - off)  # the true ECE is `off`
        found = debiased_calibration_error(answers, draws=300)
        debiased.append(found.value)
        plain.append(expected_calibration_error(answers))
        covered += found.low <= off <= found.high
    assert abs(np.mean(debiased) - off) < abs(np.mean(plain) - off) + 0.005
    assert np.mean(debiased) == pytest.approx(off, abs=0.015)
    assert covered / 60 >= 0.85


def test_debiased_error_of_a_head_that_is_luckily_right_keeps_an_interval() -> None:
    confidence = np.repeat([0.7, 0.9], 500)
    right = np.r_[np.arange(500) < 352, np.arange(500) < 452]  # 0.704 and 0.904: closer than chance would come
    found = debiased_calibration_error(Answers(confidence, right))
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high >= 0.004


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("n", [1, 40, 2000])
def test_debiased_error_of_a_head_that_is_sure_of_all_texts_keeps_an_interval(n: int, right: bool) -> None:
    """Softmax rounds to 1 where logits lie far apart, as they do after a fit to texts that are all answered right."""
    found = debiased_calibration_error(Answers(np.ones(n), np.full(n, right)))
    _, most_wrong = proportion_interval(0, n)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    if right:
        assert (found.low, found.value, found.high) == pytest.approx((0.0, 0.0, most_wrong))
    else:
        assert found.low < 1.0 == found.high


# --- the file -----------------------------------------------------------------------------------------------------


def test_calibrate_measures_every_exit_split_and_stage(tmp_path) -> None:
    file = calibrate(make_trace(sharpness=3.0), make_trace(seed=5, rows=120, sharpness=3.0), "fitted")
    write_json(tmp_path / "calibration.json", file)
    assert {(one["exit"], one["split"], one["stage"]) for one in file["exits"]} == {
        (depth, split, stage) for depth in (4, 6) for split in ("calibration", "dev") for stage in ("raw", "calibrated")
    }
    assert {one["n"] for one in file["exits"] if one["split"] == "dev"} == {120}
    assert all(sum(bin_["n"] for bin_ in one["reliability"]) == one["n"] for one in file["exits"])
    found = {(one["exit"], one["split"], one["stage"]): one for one in file["exits"]}
    assert all(found[depth, "dev", "calibrated"]["nll"] < found[depth, "dev", "raw"]["nll"] for depth in (4, 6))
    assert temperatures_of(json.loads(json.dumps(file))) == {
        4: file["temperatures"]["4"],
        6: file["temperatures"]["6"],
    }
    assert list(temperatures_of(file).values()) == pytest.approx([3.0, 3.0], rel=0.3)  # the sharpness


def test_raw_leaves_probabilities_alone() -> None:
    assert calibrate(make_trace(), make_trace(seed=5), "raw")["temperatures"] == {"4": 1.0, "6": 1.0}


def test_paper_mode_scales_only_what_is_off_by_more_than_two_per_cent() -> None:
    logits, labels = calibrated(40_000, seed=0, classes=2)
    trace = make_trace(rows=40_000, after=())
    trace = replace(trace, labels=labels, logits={4: (3 * logits).astype(np.float32), 6: logits.astype(np.float32)})
    found = temperatures(trace, "paper")
    assert found[4] == pytest.approx(3.0, rel=0.05)
    assert found[6] == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_logit_that_is_no_number_is_an_error(value: float) -> None:
    broken = make_trace(seed=5)
    broken.logits[4][7, 1] = value
    with pytest.raises(EatError, match=r"the dev trace: the logits of exit 4 .* 1 of 200 texts"):
        calibrate(make_trace(), broken, "fitted")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(EatError, match="exit 4"):
        temperatures_of({"temperatures": {"4": value}})


# --- what a temperature can and cannot do ------------------------------------------------------------------------


def frontier(trace: Trace, scale: dict[int, float]) -> set[tuple[float, float]]:
    """(mean depth, accuracy) of every threshold that tells two texts apart: all that a sweep could ever find."""
    early = [depth for depth in trace.logits if depth < trace.shape["layers"]]
    levels = {
        float(level)
        for depth in early
        for level in softmax(trace.logits[depth], scale[depth]).max(axis=1).astype(np.float32)
    }
    found = set()
    for level in [*levels, 1.0]:
        tau = min(1.0, level - 1e-6)  # just below a text's confidence, so that rounding cannot keep it back
        one = replay(trace, ExitPolicy(("confidence",), tau, scale))
        found.add((float(one.depth.mean()), float(np.mean(one.predictions == trace.labels))))
    return found


def test_two_classes_and_one_adaptive_exit_only_relabel_the_threshold() -> None:
    trace = make_trace(rows=60, exits=(4, 6))
    assert frontier(trace, {4: 1.0, 6: 1.0}) == frontier(trace, {4: 2.0, 6: 0.7})


def test_several_exits_can_move_the_frontier() -> None:
    trace = make_trace(rows=60, exits=(2, 4, 6))
    assert frontier(trace, {2: 1.0, 4: 1.0, 6: 1.0}) != frontier(trace, {2: 3.0, 4: 1.0, 6: 1.0})


def test_more_than_two_classes_can_move_the_frontier() -> None:
    trace = make_trace(rows=60, exits=(4, 6), classes=4)
    assert frontier(trace, {4: 1.0, 6: 1.0}) != frontier(trace, {4: 3.0, 6: 1.0})
