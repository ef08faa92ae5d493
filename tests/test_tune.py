"""`eat tune`: the budget, the rows, the cost of a text, curves, and what the clock and dev say at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from project_copy import ROOT
from synthetic_traces import make_trace
from trials import LOSS, SPACE, TIME, point

from eat.errors import EatError
from eat.files import write_table
from eat.model.exit_policy import ExitPolicy
from eat.results.replay import replay
from eat.study.loading import load_study, read_mapping
from eat.tune.clock import ClockOptions, measure_cost
from eat.tune.cost import TERMS, Cost, Removal, terms
from eat.tune.curve import curve, undominated
from eat.tune.options import BROKEN, Budget, budget_of
from eat.tune.rows import TUNED, Base, base_of, best_configuration, growing
from eat.tune.space import VARIANTS, Candidate, Space
from eat.tune.verdict import verdict

optuna = pytest.importorskip("optuna", reason="the extra tune is not installed")


# --- the budget ---------------------------------------------------------------------------------------------------


def test_under_a_loss_of_accuracy_the_fastest_point_within_it_is_best() -> None:
    slow, fast, wrong = point(4.0, 0.90), point(2.0, 0.896), point(1.0, 0.85)
    assert LOSS.best([slow, fast, wrong], 5.0) == fast
    assert LOSS.value(fast, 5.0) == pytest.approx(0.4)
    assert LOSS.value(wrong, 5.0) == pytest.approx(BROKEN + 5.0)
    # a loss of exactly the limit is within it, whatever the rounding: 0.9 - 0.895 is above 0.005
    assert LOSS.allows(point(1.0, 0.895)) and 0.9 - 0.895 > 0.005


def test_under_a_limit_of_time_the_most_accurate_point_within_it_is_best() -> None:
    late, right, poor = point(1.6, 0.95), point(1.4, 0.92), point(0.5, 0.90)
    assert TIME.best([late, right, poor], 5.0) == right
    assert TIME.best([poor, replace(poor, ms=0.4)], 5.0).ms == 0.4
    assert TIME.value(late, 5.0) > BROKEN > TIME.value(poor, 5.0) > TIME.value(right, 5.0)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((None, None), "neither is given"),
        ((3.0, 0.5), "both are given"),
        ((0.0, None), "--p90-ms: found 0"),
        ((float("nan"), None), "--p90-ms: found nan"),
        ((None, -0.5), "--accuracy-loss: found -0.5"),
        ((None, 100.0), "--accuracy-loss: found 100"),
    ],
)
def test_a_budget_that_is_none(given: tuple[float | None, float | None], reason: str) -> None:
    with pytest.raises(EatError, match=re.escape(reason)):
        budget_of(*given)


def test_points_of_accuracy_are_hundredths() -> None:
    assert budget_of(None, 0.5) == LOSS
    assert budget_of(3.0, None) == TIME


# --- rows ---------------------------------------------------------------------------------------------------------

PRUNED = Candidate("max", "linear", (2, 3), "int8", "norm", (2, 4), 0.3)
PLAIN = Candidate("mean", "mlp", (1, 2, 3, 4, 5), "torch")


@pytest.fixture(scope="module")
def base() -> Base:
    return base_of(read_mapping(ROOT / "config" / "adapt.yaml"), None, None, None)


def test_a_candidate_is_named_by_what_it_is() -> None:
    assert (PLAIN.parent, PLAIN.row) == ("heads-mean-mlp", "mean-mlp-x1.2.3.4.5-torch")
    assert (PRUNED.parent, PRUNED.row) == ("heads-max-linear-norm2.4r30", "max-linear-norm2.4r30-x2.3-int8")
    assert replace(PLAIN, exits=()).row == "mean-mlp-x0-torch"


def test_the_parameters_of_a_trial_give_its_candidate_again() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = set()
    for _ in range(50):
        trial = study.ask()
        candidate = SPACE.suggest(trial)
        assert SPACE.of(trial.params) == candidate
        drawn.add(candidate)
        assert all(1 <= layer < 6 for layer in (*candidate.exits, *candidate.after))
    assert {candidate.reducer for candidate in drawn} == {"none", "norm", "received", "merging"}
    assert Space(2, ("torch",)).schedules == ("1",)
    assert [SPACE.of(parameters).row for parameters in SPACE.hand_made()] == [
        "mean-mlp-x1.2.3.4.5-torch",
        "mean-mlp-x1.2.3.4.5-int8",
    ]


def test_the_study_grows_by_rows_that_share_what_is_trained(base: Base) -> None:
    small = load_study(growing(base, [PLAIN]))
    candidates = [PLAIN, replace(PLAIN, exits=(2,), variant="int8"), PRUNED]
    large = load_study(growing(base, candidates, {PLAIN.parent}))
    assert small.study == "adapt-tune" and small.reference == "dense-6"
    assert set(small.systems) >= {"dense-6", "adapt-6", "adapt-6-int8", PLAIN.parent, PLAIN.row}
    assert "student-3" not in small.systems  # nothing that a search does not need
    task = "rotten_tomatoes"
    for name, stage in (("dense-6", "finetune"), ("adapt-6", "heads"), (PLAIN.parent, "few")):
        assert small.training_spec(task, name, stage) == large.training_spec(task, name, stage)
        assert small.parent_of(name, stage) == large.parent_of(name, stage)
    assert small.models_of(PLAIN.row) == [(PLAIN.parent, "few")]
    # both rows run the same heads, which went on from those after a few epochs
    assert [large.models_of(one.row) for one in candidates[:2]] == [[(PLAIN.parent, "heads")]] * 2
    assert large.parent_of(PLAIN.parent, "heads") == (PLAIN.parent, "few")
    assert large.models_of(PRUNED.row) == [(PRUNED.parent, "few")]
    # frozen layers under the row's own removal, and the dense model as the teacher
    stage = large.stage(PRUNED.parent, "few")
    assert stage.train_heads == [1, 2, 3, 4, 5] and stage.teacher == "dense-6" and stage.texts == "all"
    assert large.systems[PRUNED.row].reducer.plain() == large.systems[PRUNED.parent].reducer.plain()
    assert (large.systems[PRUNED.row].engine, large.systems[PRUNED.row].precision) == ("onnx", "int8")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_row_of_the_space_is_a_valid_system(base: Base, variant: str) -> None:
    draw = np.random.default_rng(0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=int(draw.integers(99))))
    found = [replace(SPACE.suggest(study.ask()), variant=variant) for _ in range(30)]
    systems = load_study(growing(base, found)).systems
    assert all(candidate.row in systems for candidate in found)


def test_the_best_row_stands_beside_the_hand_made_ones(base: Base) -> None:
    study = load_study(best_configuration(base, PRUNED, point(tau=0.87)))
    row = study.systems[TUNED]
    assert (row.exits.after, row.exits.tau, row.exits.rule) == ([2, 3], [0.87], ["confidence"])
    assert study.models_of(TUNED) == [(PRUNED.parent, "heads")]
    # the threshold was chosen on probabilities without a temperature
    assert study.operating_spec(TUNED).calibration == "raw"
    assert set(study.systems) >= {"dense-6", "adapt-6", "adapt-6-int8", "hf-dense-onnx-int8"}
    full_depth = load_study(best_configuration(base, replace(PLAIN, exits=(), variant="int8"), point(tau=1.0)))
    assert full_depth.systems[TUNED].exits.rule == [] and full_depth.systems[TUNED].exits.after == []


# --- the cost of a text, and curves -------------------------------------------------------------------------------

MADE = dict(zip(TERMS, (0.5, 0.2, 0.05, 0.01, 1e-4, 0.3, 0.4, 0.6), strict=True))


def made_cost(**variants: float) -> Cost:
    """A cost of known coefficients, times a factor by variant."""
    given = variants or {"torch": 1.0}
    return Cost({name: [factor * value for value in MADE.values()] for name, factor in given.items()}, {})


def test_the_time_of_a_text_by_hand() -> None:
    trace = make_trace(rows=3, exits=(2, 4, 6), after=(2, 4), ratio=0.3)
    trace.shape["reducer"] = {"kind": "norm", "after": [2, 4], "ratio": 0.3}
    ms = made_cost().ms(trace, "torch", (2, 4))
    assert ms.shape == (3, 3)
    for row in range(3):
        fed, pairs = trace.fed[row].astype(float), trace.pairs[row].astype(float)
        # the head after layer 2 is evaluated before the removal there
        assert ms[row, 0] == pytest.approx(0.5 + 0.4 + 0.05 + 0.01 * fed[:2].sum() + 1e-4 * pairs[:2].sum())
        assert ms[row, 2] == pytest.approx(0.5 + 1.2 + 0.15 + 0.01 * fed.sum() + 1e-4 * pairs.sum() + 2 * 0.3)
    # at full depth no text exits, so that only the last head is evaluated
    np.testing.assert_allclose(made_cost().full_depth(trace, "torch"), ms[:, 2] - 2 * 0.05)


def test_merging_and_removal_within_a_layer_come_before_its_head() -> None:
    assert Removal("norm", (2, 4), is_early=False).executed(2) == 0
    assert Removal("merging", (2, 4), is_early=True).executed(2) == 1
    assert Removal("norm", (2, 4)).executed(6) == 2


def test_a_fit_finds_the_coefficients_of_timed_calls() -> None:
    trace = make_trace(rows=60, exits=(6,), after=())
    trace.shape["reducer"] = {"kind": "none"}
    calls = [terms(trace.fed, trace.pairs, depth, depth, Removal()) for depth in range(1, 7)]
    calls.append(terms(trace.fed, trace.pairs, 6, 1, Removal()))
    calls += [terms(trace.fed, trace.pairs, 6, 6, Removal(kind, (2, 4))) for kind in ("norm", "received", "merging")]
    given = np.concatenate(calls)
    noise = np.exp(np.random.default_rng(0).normal(0, 0.01, len(given)))
    found = Cost.fitted({"int8": (given, given @ np.array(list(MADE.values())) * noise)})
    np.testing.assert_allclose(found.coefficients["int8"], list(MADE.values()), rtol=0.15)
    assert found.error["int8"] < 0.02
    again = Cost.of(json.loads(json.dumps(found.plain())))
    assert again.coefficients == found.coefficients
    with pytest.raises(EatError, match="measure again"):
        Cost.of({"ms": {"int8": {"call": 1.0}}, "median_error": {"int8": 0.1}})


def test_a_curve_is_what_the_replay_of_each_threshold_gives() -> None:
    dense = make_trace(rows=400, exits=(6,), after=(), noise_seed=7)
    trace = make_trace(rows=400, exits=(2, 3, 6), after=(), noise_seed=8)
    found = {one.tau: one for one in curve(trace, dense, made_cost(), "torch")}
    assert len(found) == 501 and max(found) == 1.0
    full = dense.logits[6].argmax(axis=1)
    accuracy = np.mean(full == dense.labels)
    for tau in (0.999, 0.9, 0.701, 0.5):
        played = replay(trace, ExitPolicy(("confidence",), tau))
        # float32 in the replay may decide a tie otherwise
        assert found[tau].depth == pytest.approx(played.depth.mean(), abs=0.01)
        assert found[tau].accuracy == pytest.approx(np.mean(played.predictions == trace.labels), abs=0.003)
        assert found[tau].loss == pytest.approx(accuracy - found[tau].accuracy)
        assert found[tau].disagreement == pytest.approx(np.mean(played.predictions != full), abs=0.003)
    assert found[1.0].depth == 6
    assert found[0.5].ms < found[0.9].ms < found[0.999].ms
    with pytest.raises(EatError, match="other texts"):
        curve(trace, replace(dense, ids=dense.ids[::-1]), made_cost(), "torch")


def test_a_row_without_exits_has_one_point() -> None:
    dense = make_trace(exits=(6,), after=())
    (only,) = curve(dense, dense, made_cost(), "torch")
    assert (only.tau, only.loss, only.disagreement, only.depth) == (1.0, 0.0, 0.0, 6.0)


def test_undominated_points_by_brute_force() -> None:
    draw = np.random.default_rng(3)
    points = [point(ms, accuracy) for ms, accuracy in draw.integers(1, 12, (60, 2)) / 10.0]
    found = undominated(points)
    wanted = {
        (one.ms, one.accuracy)
        for one in points
        if not any(
            other.ms <= one.ms
            and other.accuracy >= one.accuracy
            and (other.ms, other.accuracy) != (one.ms, one.accuracy)
            for other in points
        )
    }
    assert {(one.ms, one.accuracy) for one in found} == wanted and len(found) == len(wanted)
    assert [one.ms for one in found] == sorted(one.ms for one in found)


# --- the verdict ---------------------------------------------------------------------------------------------------


def summary_of(**rows: Mapping[str, float]) -> pd.DataFrame:
    """Rows of summary.csv at batch size 1: system -> accuracy, latency, threshold."""
    found = []
    for name, given in rows.items():
        delta = given["accuracy"] - 0.9
        found.append(
            {
                "task": "sst2", "system": name.replace("_", "-"), "batch_size": 1, "chosen": True,
                "tau": given.get("tau", np.nan), "accuracy": given["accuracy"],
                "accuracy_low": given["accuracy"] - 0.02, "accuracy_high": given["accuracy"] + 0.02,
                "delta_accuracy": delta, "delta_low": delta - 0.01,
                "delta_high": delta + 0.01, "latency_ms_p50": given["ms"], "latency_ms_p90": 1.5 * given["ms"],
                "speedup_vs_int8": 1.0, "avg_depth": 3.0,
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def calls_of(**rows: Mapping[str, float]) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    found = [
        {
            "system": name.replace("_", "-"), "tau": given.get("tau", np.nan), "batch_size": 1, "block": unit // 8,
            "unit": f"text{unit}", "repeat": repeat, "seed": 1, "n": 1, "ms": given["ms"] * draw.uniform(0.9, 1.1),
        }
        for name, given in rows.items()
        for unit in range(40)
        for repeat in range(2)
    ]  # fmt: skip
    return pd.DataFrame(found)


DENSE = {"accuracy": 0.9, "ms": 20.0}
DENSE_INT8 = {"accuracy": 0.899, "ms": 6.0}
BY_HAND = {"accuracy": 0.897, "ms": 4.0}


@pytest.mark.parametrize(
    ("tuned", "by_hand", "budget", "says"),
    [
        ({"accuracy": 0.897, "ms": 2.0}, BY_HAND, LOSS, ["is kept", "it beats adapt-6-int8: ", "it beats hf-dense"]),
        ({"accuracy": 0.897, "ms": 4.0}, BY_HAND, LOSS, ["is kept", "it does not beat adapt-6-int8: "]),
        ({"accuracy": 0.88, "ms": 2.0}, BY_HAND, LOSS, ["is not kept", "it does not beat adapt-6-int8: "]),
        (
            {"accuracy": 0.896, "ms": 4.5},
            {"accuracy": 0.88, "ms": 4.0},
            LOSS,
            ["it beats adapt-6-int8, which does not keep the budget"],
        ),
        ({"accuracy": 0.898, "ms": 1.9}, {"accuracy": 0.897, "ms": 1.5}, TIME, ["is kept", "it beats adapt-6-int8"]),
        (
            {"accuracy": 0.898, "ms": 2.1},
            {"accuracy": 0.897, "ms": 1.5},
            TIME,
            ["is not kept", "does not beat adapt-6"],
        ),
    ],
)
def test_the_verdict_is_of_dev_and_the_clock(
    tuned: dict[str, float], by_hand: dict[str, float], budget: Budget, says: list[str]
) -> None:
    rows = {"dense_6": DENSE, "hf_dense_onnx_int8": DENSE_INT8, "adapt_6_int8": by_hand, "tuned": tuned | {"tau": 0.9}}
    found = verdict(summary_of(**rows), calls_of(**rows), "sst2", ["adapt-6-int8"], budget, "dense-6")
    assert all(part in found.sentence for part in says), found.sentence
    assert "\n" not in found.sentence and found.sentence.endswith(".")
    assert set(found.rows) == {"tuned", "adapt-6-int8", "dense-6", "hf-dense-onnx-int8"}
    json.dumps(found.rows, allow_nan=False)
    with pytest.raises(EatError, match="no row in the summary"):
        verdict(summary_of(dense_6=DENSE), calls_of(dense_6=DENSE), "sst2", [], budget, "dense-6")


# --- the clock ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_clock_fits_a_cost_to_a_tiny_model(tmp_path: Path) -> None:
    built = tiny.model(exits=(1, 2, 3), read="mean", head="mlp")
    built.save_pretrained(tmp_path / "model")
    tiny.save_tokenizer(tmp_path / "model")
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(tiny.NEUTRAL, length)) for length in draw.integers(3, 30, 20)]
    table = pd.DataFrame({"id": [f"t{row}" for row in range(20)], "text": texts, "label": 0})
    write_table(tmp_path / "calibration.parquet", table)
    options = ClockOptions(tmp_path / "model", tmp_path / "calibration.parquet", 32, 1, texts=8, repeats=2)
    cost, facts = measure_cost(options, ("torch", "onnx", "int8"), 4)
    assert set(cost.coefficients) == {"torch", "onnx", "int8"}
    assert all(value >= 0.0 for values in cost.coefficients.values() for value in values)
    # exits after layers 1 to 3, and full depth; per kind of removal an exit after layer 3, and full depth
    assert facts["calls"] == 3 * (3 + 1 + 3 * 2) * 8 * 2
    trace = make_trace(layers=4, exits=(2, 4), after=())
    trace.shape["reducer"] = {"kind": "none"}
    ms = cost.ms(trace, "int8", (2,))
    assert (ms > 0).all() and (ms[:, 1] >= ms[:, 0]).all()
