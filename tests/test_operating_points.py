"""Replaying a trace: what a threshold may do, and which one a system is quoted at."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from synthetic_traces import make_trace

from eat.calibrate.calibration import calibrate
from eat.calibrate.operating_points import COLUMNS, choose, chosen_rows, operating_points, task_operating_points
from eat.engines.packed import PackedModel
from eat.errors import EatError
from eat.files import write_json
from eat.model.batch import PackedBatch
from eat.model.configuration import EatConfig
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.tokenizer import Encoded
from eat.results.replay import replay
from eat.study.loading import load_study
from eat.study.specs.calibrate import OperatingSpec
from eat.study.study import Study
from eat.trace.recording import trace_texts

CONFIDENCE = ("confidence",)


def traces_with_exits() -> st.SearchStrategy:
    exits = st.sets(st.integers(1, 5), min_size=1).map(lambda early: (*sorted(early), 6))
    return st.builds(make_trace, rows=st.just(40), exits=exits, classes=st.integers(2, 4), seed=st.integers(0, 999))


@settings(max_examples=40, deadline=None)
@given(traces_with_exits(), st.sampled_from([("confidence",), ("entropy",), ("confidence", "agreement")]))
def test_depth_never_falls_as_the_threshold_rises(trace, rule: tuple[str, ...]) -> None:
    scale = {depth: 0.5 + depth / 6 for depth in trace.logits}
    replays = [replay(trace, ExitPolicy(rule, tau, scale)) for tau in (1e-9, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0)]
    for one, next_one in pairwise(replays):
        assert (one.depth <= next_one.depth).all()
        assert (one.retention >= next_one.retention).all()
    for one, next_one in pairwise(replays[:-1]):  # at 1 the early heads are not paid for
        assert (one.flops <= next_one.flops).all()
    assert (replays[-1].depth == 6).all()
    assert set(np.unique(np.concatenate([one.depth for one in replays]))) <= set(trace.logits)


@settings(max_examples=20, deadline=None)
@given(traces_with_exits())
def test_the_extremes_are_the_first_exit_and_the_full_model(trace) -> None:
    first = next(iter(trace.logits))
    loose, strict = (replay(trace, ExitPolicy(CONFIDENCE, tau)) for tau in (1e-9, 1.0))
    assert (loose.depth == first).all()
    np.testing.assert_array_equal(loose.predictions, trace.logits[first].argmax(axis=1))
    full = replay(trace, ExitPolicy())
    for name in ("depth", "predictions", "retention", "flops", "probability"):
        np.testing.assert_array_equal(getattr(strict, name), getattr(full, name))
    np.testing.assert_array_equal(full.predictions, trace.logits[6].argmax(axis=1))


def test_a_row_by_itself_leaves_where_it_leaves_among_others() -> None:
    trace = make_trace(rows=30, exits=(2, 4, 6))
    together = replay(trace, ExitPolicy(CONFIDENCE, 0.8))
    for row in range(30):
        alone = make_trace(rows=30, exits=(2, 4, 6))
        alone = type(alone)(
            **{
                name: getattr(alone, name)[row : row + 1]
                for name in (
                    "ids", "labels", "lengths", "attended", "fed", "alive", "pairs", "pattern_pairs", "cut_margin",
                )
            },
            logits={depth: values[row : row + 1] for depth, values in alone.logits.items()},
            shape=alone.shape,
        )  # fmt: skip
        assert replay(alone, ExitPolicy(CONFIDENCE, 0.8)).depth[0] == together.depth[row]


def test_retention_is_of_the_tokens_the_answer_was_computed_from() -> None:
    # one removal of 30 % after layer 2, a second after layer 4: the exit after 4 comes before the second
    trace = make_trace(rows=50)
    loose, full = replay(trace, ExitPolicy(CONFIDENCE, 1e-9)), replay(trace, ExitPolicy())
    np.testing.assert_array_equal(loose.retention, trace.alive[:, 1] / trace.lengths)
    np.testing.assert_array_equal(full.retention, trace.alive[:, 3] / trace.lengths)


def test_patience_waits_for_two_heads_that_agree() -> None:
    trace = make_trace(rows=80, exits=(3, 4, 6))
    found = replay(trace, ExitPolicy(("agreement",), None))
    agree = trace.logits[3].argmax(axis=1) == trace.logits[4].argmax(axis=1)
    np.testing.assert_array_equal(found.depth, np.where(agree, 4, 6))


def test_heads_are_paid_for_only_where_the_rule_can_use_them() -> None:
    trace = make_trace(rows=5)
    barely, never = (replay(trace, ExitPolicy(CONFIDENCE, tau)) for tau in (0.9999999, 1.0))
    assert (barely.depth == 6).all()
    np.testing.assert_array_equal(barely.flops - never.flops, np.full(5, 2 * 8 * 2))  # 2 d C of the head after 4


def test_nan_is_an_error_and_not_an_exit() -> None:
    trace = make_trace(rows=5)
    trace.logits[4][2, 0] = np.nan
    with pytest.raises(EatError, match="exit 4"):
        replay(trace, ExitPolicy(CONFIDENCE, 0.5))


SPEC = OperatingSpec(rule=["confidence"], tau=[0.9, 0.6], calibration="fitted", bins=15)


def test_rows_of_operating_points() -> None:
    traces = {"calibration": make_trace(rows=80, seed=1), "dev": make_trace(rows=100)}
    rows = operating_points(traces, SPEC, {4: 1.3, 6: 1.0})
    assert [(row["split"], row["tau"]) for row in rows] == [
        ("calibration", 0.6),
        ("calibration", 0.9),
        ("dev", 0.6),
        ("dev", 0.9),
    ]
    row = rows[-1]
    found = replay(traces["dev"], ExitPolicy(CONFIDENCE, 0.9, {4: 1.3, 6: 1.0}))
    fractions = json.loads(row["exit_fractions"])
    assert row["accuracy"] == np.mean(found.predictions == traces["dev"].labels)
    assert row["avg_depth"] == pytest.approx(4 * fractions["4"] + 6 * fractions["6"])
    assert sum(fractions.values()) == pytest.approx(1.0)
    assert row["gflops"] == pytest.approx(found.flops.mean() / 1e9)
    assert row["gflops_pattern"] < row["gflops"]


def test_f1_is_of_the_positive_class_and_only_where_there_are_two() -> None:
    spec = OperatingSpec(calibration="raw", bins=15)
    two, three = (operating_points({"dev": make_trace(classes=classes)}, spec, {})[0] for classes in (2, 3))
    trace = make_trace(classes=2)
    assert two["f1"] == pytest.approx(f1_score(trace.labels, trace.logits[6].argmax(axis=1)))
    assert math.isnan(three["f1"])


def test_retention_at_full_depth_is_near_the_papers_expectation() -> None:
    # 0.7 * 0.7 = 0.49 (the paper, section 3.1). [CLS] and rounding up keep 1 + ceil(0.7 (t - 1)) <= 0.7 t + 1.3 each
    # time, so 0.49 t + 2.21 after both
    trace = make_trace(rows=400)
    rows = operating_points({"dev": trace}, OperatingSpec(calibration="fitted", bins=15), {})
    assert rows[0]["tau"] is None
    assert 0.49 < rows[0]["retention_full_depth"] <= 0.49 + 2.21 * np.mean(1 / trace.lengths)
    assert rows[0]["retention_full_depth"] == rows[0]["avg_retention"]


# --- choosing -----------------------------------------------------------------------------------------------------


def rows_of(points: list[tuple[float | None, float, float]], seed: int = 1) -> pd.DataFrame:
    table = pd.DataFrame(points, columns=["tau", "accuracy", "gflops"]).astype({"tau": "float64"})
    return table.assign(seed=seed)


def test_the_cheapest_within_the_budget_is_chosen() -> None:
    points = [(0.6, 0.80, 1.0), (0.8, 0.84, 2.0), (0.9, 0.86, 3.0)]
    assert choose(rows_of(points), 0.85, 0.01) == 0.8  # 0.85 - 0.01 is not exactly 0.84 in floating point
    assert choose(rows_of(points), 0.85, 0.005) == 0.9
    assert choose(rows_of(points), 0.95, 0.01) == 0.9  # none: the most accurate
    assert choose(rows_of([(0.6, 0.7, 1.0), (0.8, 0.7, 2.0)]), 0.95, 0.01) == 0.6  # equally accurate: the cheaper


def test_seeds_share_one_threshold() -> None:
    # seed 1 alone would take 0.6, seed 2 alone 0.9; on average 0.6 loses 2 points
    first = rows_of([(0.6, 0.85, 1.0), (0.9, 0.85, 2.0)])
    second = rows_of([(0.6, 0.81, 1.0), (0.9, 0.85, 2.0)], seed=2)
    assert choose(first, 0.85, 0.01) == 0.6
    assert choose(pd.concat([first, second]), 0.85, 0.01) == 0.9


def test_a_system_without_thresholds_has_nothing_to_choose() -> None:
    assert choose(rows_of([(None, 0.8, 1.0)]), 0.9, 0.01) is None


def test_the_choice_does_not_look_at_dev() -> None:
    dense = rows_of([(None, 0.85, 4.0)]).assign(system="dense")
    adaptive = rows_of([(0.6, 0.80, 1.0), (0.9, 0.85, 2.0)]).assign(system="eat")
    on_dev = rows_of([(0.6, 0.99, 1.0), (0.9, 0.10, 2.0)]).assign(system="eat", split="dev")
    table = pd.concat([pd.concat([dense, adaptive]).assign(split="calibration"), on_dev], ignore_index=True)
    marked = table[chosen_rows(table, "dense", 0.01)]
    assert list(zip(marked["system"], marked["split"], marked["tau"].fillna(0), strict=True)) == [
        ("dense", "calibration", 0.0),
        ("eat", "calibration", 0.9),
        ("eat", "dev", 0.9),
    ]


# --- the table of a task ------------------------------------------------------------------------------------------


def small_study() -> Study:
    return load_study(
        {
            "study": "small",
            "seeds": [1, 2],
            "reference": "dense",
            "backbones": {"mini": {"kind": "packaged", "name": "all-minilm-l6-v2"}},
            "tasks": {"movies": {"source": {"kind": "packaged", "name": "rotten_tomatoes"}}},
            "systems": {
                "dense": {"backbone": "mini", "last_head": "bert"},
                "eat": {
                    "backbone": "mini",
                    "reducer": {"kind": "norm", "after": [2, 4]},
                    "exits": {"after": [4], "rule": ["confidence"], "tau": [0.7, 0.9]},
                },
            },
        }
    )


def test_table_of_a_task(tmp_path: Path) -> None:
    study, traces, calibrations = small_study(), {}, {}
    for system, exits, after in (("dense", (6,), ()), ("eat", (4, 6), (2, 4))):
        for seed in study.seeds:
            both = {
                split: make_trace(60, exits=exits, after=after, seed=number, noise_seed=seed)
                for number, split in enumerate(("calibration", "dev"))
            }
            paths = {split: tmp_path / f"{system}{seed}{split}.parquet" for split in both}
            for split, trace in both.items():
                trace.write(paths[split])
            traces[system, seed] = paths
            calibrations[system, seed] = tmp_path / f"{system}{seed}.json"
            write_json(calibrations[system, seed], calibrate(both["calibration"], both["dev"], "fitted"))
    table = task_operating_points(study, "movies", traces, calibrations)
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 2 * 2 * (1 + 2)  # seeds, splits, thresholds of dense and eat
    assert table[table["system"] == "dense"]["chosen"].all()
    assert table[table["chosen"] & (table["system"] == "eat")]["tau"].nunique() == 1

    del traces["eat", 2]
    with pytest.raises(EatError, match="eat seed 2"):
        task_operating_points(study, "movies", traces, calibrations)


# --- the engine ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [("confidence",), ("entropy",), ("confidence", "agreement")])
def test_the_engine_leaves_where_the_replay_says(rule: tuple[str, ...]) -> None:
    """The accuracy that is reported is that of the model that is timed."""
    torch.manual_seed(0)
    shape = {"vocabulary": 50, "hidden": 16, "layers": 4, "heads": 2, "intermediate": 32, "positions": 64, "classes": 3}
    model = EatForSequenceClassification(
        EatConfig(
            shape=shape, reducer={"kind": "norm", "after": [1, 3], "ratio": 0.3, "protect": ["cls"]}, exits=[2, 3]
        )
    ).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.5)  # answers that differ from text to text
    texts = [Encoded(torch.randint(1, 50, (t,)), torch.zeros(t, dtype=torch.long)) for t in range(4, 44)]
    trace = trace_texts(PackedModel(model), texts, [str(row) for row in range(40)], np.zeros(40, dtype=np.int64))
    depths = set()
    for tau in (0.3, 0.5, 0.7, 0.9):
        policy = ExitPolicy(rule, tau, {2: 1.7, 3: 0.8})
        found = replay(trace, policy)
        with torch.inference_mode():
            output = model.encoder(PackedBatch.of(texts), policy)
        np.testing.assert_array_equal(found.depth, output.depth)
        np.testing.assert_array_equal(found.predictions, output.logits.argmax(dim=-1).numpy())
        depths |= set(output.depth)
    assert len(depths) > 1, "thresholds at which nothing happens test nothing"
