"""The summary of a made-up study whose clock is known: what is joined, what is refused, what the curves hold."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_traces import make_trace

from eat.calibrate.calibration import softmax
from eat.calibrate.disagreement import keep_agreement
from eat.calibrate.operating_points import task_operating_points
from eat.calibrate.system import calibrate_system
from eat.errors import DamagedFile, EatError
from eat.files import read_json, write_json, write_table
from eat.results.columns import COST_COLUMNS, SUMMARY_COLUMNS
from eat.results.trace import Trace
from eat.statistics import mcnemar_p, median_ratio
from eat.study.loading import load_study
from eat.study.study import Study
from eat.summarize.buckets import adapts_by, bucket_rows
from eat.summarize.curves import length_edges, scheduled_retention
from eat.summarize.promises import promise_rows
from eat.summarize.summary import summarize
from eat.summarize.task_results import TaskInputs, read_results

MADE_MS = {
    "hf-dense": 10.0,
    "hf-dense-again": 10.0,
    "hf-dense-sorted": 8.0,
    "hf-dense-12": 20.0,
    "hf-dense-bfloat16": 4.0,
    "hf-dense-onnx-int8": 2.0,
    "hf-dense-onnx-int8-again": 2.0,
    "dense": 8.0,
    "eat": 5.0,
}
"""Milliseconds of a text of mean length: eat takes exactly half of hf-dense."""

OUTLIER = 13
"""The text that takes 100 times as long in the last repeat, whatever answers it."""


def study_of(seeds: tuple[int, ...] = (1, 2), tau: tuple[float, ...] = (0.7, 0.9), copies: int = 1) -> Study:
    adaptive = {
        "backbone": "mini",
        "reducer": {"kind": "norm", "after": [2, 4]},
        "exits": {"after": [3, 4], "rule": ["confidence"], "tau": list(tau)},
        "precision": "bfloat16",
    }
    names = ["eat", *(f"eat-{number}" for number in range(2, copies + 1))]
    return load_study(
        {
            "study": "made-up",
            "seeds": list(seeds),
            "reference": "dense",
            "backbones": {"mini": {"kind": "packaged", "name": "all-minilm-l6-v2"}},
            "tasks": {"movies": {"source": {"kind": "packaged", "name": "rotten_tomatoes"}}},
            "systems": {"dense": {"backbone": "mini", "last_head": "bert"}, **dict.fromkeys(names, adaptive)},
            "timing": {"stock": [{"engine": "onnx", "precision": "int8"}]},
        }
    )


def traces_of(study: Study, rows: int, noise: float) -> Iterator[tuple[str, int, dict[str, Trace]]]:
    for number, (name, system) in enumerate(study.systems.items()):
        for seed in study.seeds:
            yield (
                name,
                seed,
                {
                    split: make_trace(
                        rows,
                        exits=(*system.exits.after, 6),
                        after=system.reducer.after,
                        seed=texts,
                        noise_seed=100 * number + 10 * seed + texts,
                        sharpness=2.0,
                        noise=noise,
                    )
                    for texts, split in enumerate(("calibration", "dev"))
                },
            )


def timing_of(study: Study, repeats: int = 3, units: int = 20) -> pd.DataFrame:
    """Timed calls in which a unit takes its own time, the same for all but for the system's factor."""
    rows = []
    thresholds: dict[str, list[float | None]] = {name: [None] for name in MADE_MS}
    for name, system in study.systems.items():
        exits = system.exits
        found = [None] if exits.promises or not exits.tau else []
        thresholds[name] = found + (list(exits.tau) if exits.promise is None else [])
    for system, taus in thresholds.items():
        for tau, seed, repeat in product(taus, study.seeds, range(repeats)):
            ms, key = MADE_MS.get(system, 5.0), (seed, system, tau)
            for unit in range(units):
                slow = 100.0 if repeat == repeats - 1 and unit == OUTLIER else 1.0
                own = ms * (0.5 + unit / (units - 1)) * slow
                if system != "hf-dense-sorted":
                    rows.append((*key, 1, repeat, unit % 5, f"{unit:016x}", 1, own))
            for number in range(5 if repeat == 0 else 0):  # passes over 40 texts
                own = ms * (0.5 + number / 4) * 40
                rows.append((*key, 32, 0, number, str(number), 40, own))
    columns = ["seed", "system", "tau", "batch_size", "repeat", "block", "unit", "n", "ms"]
    return pd.DataFrame(rows, columns=columns).astype({"tau": "float64"})


FACTS: dict[str, Any] = {"task": "movies", "device": "cpu", "threads": 2, "n_timed": 20, "busy": False}


def facts_of(study: Study) -> dict[str, Any]:
    stock = dict.fromkeys(MADE_MS, "float32") | {
        "hf-dense-bfloat16": "bfloat16",
        "hf-dense-onnx-int8-again": "int8",
    }
    engines = dict.fromkeys(MADE_MS, "stock") | {"hf-dense-onnx-int8-again": "onnx"}
    rows = study.systems.items()
    return FACTS | {
        "engines": engines | {name: system.engine for name, system in rows},
        "precisions": stock | {name: system.precision for name, system in rows},
    }


def files_of(folder: Path, study: Study, rows: int = 120, noise: float = 1.0) -> TaskInputs:
    """Everything a run leaves behind for one task."""
    both: dict[tuple[str, int], dict[str, Path]] = {}
    calibrations: dict[tuple[str, int], Path] = {}
    for name, seed, traces in traces_of(study, rows, noise):
        both[name, seed] = {split: folder / "traces" / name / str(seed) / f"{split}.parquet" for split in traces}
        for split, trace in traces.items():
            trace.write(both[name, seed][split])
        calibrations[name, seed] = folder / "calibration" / name / f"{seed}.json"
        spec = study.calibration_spec(name, "movies")
        write_json(calibrations[name, seed], calibrate_system(traces["calibration"], traces["dev"], spec))
    points = task_operating_points(study, "movies", both, calibrations)
    write_table(folder / "points.parquet", points)
    write_table(folder / "timing.parquet", timing_of(study))
    write_json(folder / "timing.json", facts_of(study))
    return TaskInputs(
        folder / "points.parquet",
        {run: paths["dev"] for run, paths in both.items()},
        calibrations,
        folder / "timing.parquet",
        folder / "timing.json",
    )


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of()


@pytest.fixture(scope="module")
def inputs(study: Study, tmp_path_factory: pytest.TempPathFactory) -> TaskInputs:
    return files_of(tmp_path_factory.mktemp("run"), study)


@pytest.fixture(scope="module")
def out(study: Study, inputs: TaskInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    summarize(study, {"movies": inputs}, folder)
    return folder


@pytest.fixture(scope="module")
def summary(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "summary.csv")


def row_of(summary: pd.DataFrame, system: str, tau: float | None = None, batch_size: int = 1) -> Mapping[str, Any]:
    same = summary["tau"].isna() if tau is None else summary["tau"] == tau
    (row,) = summary[(summary["system"] == system) & same & (summary["batch_size"] == batch_size)].to_dict("records")
    return row


# --- summary.csv --------------------------------------------------------------------------------------------------


def test_summary_has_a_row_for_each_operating_point_and_reference(summary: pd.DataFrame) -> None:
    assert tuple(summary.columns) == SUMMARY_COLUMNS
    keys = ["task", "system", "tau", "calibration", "batch_size", "device", "dtype", "threads"]
    assert not summary.duplicated(keys).any()
    found = {batch_size: list(rows["system"]) for batch_size, rows in summary.groupby("batch_size")}
    rivals = ["hf-dense-onnx-int8", "hf-dense-onnx-int8-again"]
    references = ["hf-dense", "hf-dense-again", "hf-dense-12", "hf-dense-bfloat16", *rivals]
    assert sorted(found[1]) == sorted(["dense", "eat", "eat", *references])
    assert sorted(found[32]) == sorted(["dense", "eat", "eat", "hf-dense-sorted", *references])


@pytest.mark.parametrize("batch_size", [1, 32])
def test_a_system_that_takes_half_is_twice_as_fast(summary: pd.DataFrame, batch_size: int) -> None:
    row = row_of(summary, "eat", 0.7, batch_size)
    assert (row["speedup_vs_dense"], row["speedup_low"], row["speedup_high"]) == pytest.approx((2.0, 2.0, 2.0))
    assert row["speedup_mean"] == pytest.approx(2.0)
    assert row["speedup_vs_packed_dense"] == pytest.approx(8 / 5)
    assert row["speedup_vs_deep"] == pytest.approx(20 / 5)


def test_references_are_compared_like_systems(summary: pd.DataFrame) -> None:
    again, deep = row_of(summary, "hf-dense-again"), row_of(summary, "hf-dense-12")
    assert (again["speedup_vs_dense"], again["speedup_low"], again["speedup_high"]) == (1.0, 1.0, 1.0)
    assert deep["speedup_vs_dense"] == pytest.approx(0.5)
    assert deep["chosen"]
    assert deep["n"] == 0
    assert all(np.isnan(deep[name]) for name in ("accuracy", "delta_accuracy", "gflops", "avg_depth", "ece_raw"))


def test_a_row_tells_the_precision_it_ran_in(summary: pd.DataFrame) -> None:
    found = summary.groupby("system")["dtype"].agg(set).to_dict()
    assert found == {
        **{name: {"float32"} for name in MADE_MS},
        "hf-dense-bfloat16": {"bfloat16"},
        "hf-dense-onnx-int8": {"int8"},
        "hf-dense-onnx-int8-again": {"int8"},
        "eat": {"bfloat16"},
    }


def test_a_row_tells_the_engine_it_ran_in(summary: pd.DataFrame) -> None:
    found = summary.groupby("system")["engine"].agg(set).to_dict()
    assert found == {
        **{name: {"stock"} for name in MADE_MS},
        **{name: {"torch"} for name in ("dense", "eat")},
        **{name: {"onnx"} for name in ("hf-dense-onnx-int8", "hf-dense-onnx-int8-again")},
    }


def test_the_strongest_dense_rival_has_its_own_accuracy_and_noise_floor(summary: pd.DataFrame) -> None:
    rival, again = row_of(summary, "hf-dense-onnx-int8"), row_of(summary, "hf-dense-onnx-int8-again")
    assert rival["n"] > 0 and rival["accuracy"] != row_of(summary, "dense")["accuracy"]
    assert again["accuracy"] == rival["accuracy"]
    for row in (rival, again):
        assert (row["speedup_vs_int8"], row["speedup_vs_int8_low"], row["speedup_vs_int8_high"]) == (1.0, 1.0, 1.0)
    eat = row_of(summary, "eat", 0.7)  # 5 ms against 2
    assert (eat["speedup_vs_int8"], eat["speedup_vs_int8_low"]) == pytest.approx((0.4, 0.4))


def test_a_stock_model_in_another_precision_is_there_for_its_latency_alone(summary: pd.DataFrame) -> None:
    row = row_of(summary, "hf-dense-bfloat16")
    assert row["speedup_vs_dense"] == pytest.approx(10 / 4)
    assert row["chosen"]
    assert row["n"] == 0
    assert all(np.isnan(row[name]) for name in ("accuracy", "delta_accuracy", "gflops", "avg_depth", "ece_raw"))


def test_latency_is_of_all_calls_the_slow_ones_too(summary: pd.DataFrame) -> None:
    # units take 5 ms times 0.5 to 1.5 in even steps, three times under two seeds; one text, once a seed, 100 times that
    calls = np.tile(5 * np.linspace(0.5, 1.5, 20), (2, 3, 1))  # (seeds, repeats, units)
    calls[:, 2, OUTLIER] *= 100
    row = row_of(summary, "eat", 0.7)
    assert row["latency_ms_mean"] == pytest.approx(calls.mean())
    assert row["latency_ms_p50"] == pytest.approx(5.0)
    assert row["latency_ms_p90"] == pytest.approx(np.percentile(calls, 90))
    # 2 slow calls of 120 are more than 1 %: a median of each text's repeats would show its slowest, 7.5 ms
    assert row["latency_ms_p99"] == pytest.approx(np.percentile(calls, 99))
    assert row["latency_ms_p99"] > 10 * 7.5
    assert row["examples_per_s"] == pytest.approx(1000 / calls.mean())
    assert row["n_timed"] == 20


def test_a_speed_up_pairs_calls_of_one_repeat(study: Study, inputs: TaskInputs, tmp_path: Path) -> None:
    # hf-dense / eat of each text: 10 / 1, 40 / 10 and 10 / 20. The median is 4; of the texts' medians it would be 1
    table = timing_of(study)
    single = table["batch_size"] == 1
    for system, times in (("hf-dense", (10.0, 40.0, 10.0)), ("eat", (1.0, 10.0, 20.0))):
        rows = single & (table["system"] == system)
        table.loc[rows, "ms"] = table.loc[rows, "repeat"].map(dict(enumerate(times)))
    found = summarize(study, with_timing(inputs, tmp_path / "timing.parquet", table), tmp_path / "out")
    row = row_of(found, "eat", 0.7)
    assert row["speedup_vs_dense"] == pytest.approx(4.0)
    assert row["speedup_mean"] == pytest.approx(60 / 31)


def test_the_interval_of_a_speed_up_draws_blocks_of_texts(study: Study, inputs: TaskInputs, tmp_path: Path) -> None:
    table = timing_of(study)
    rows = (table["batch_size"] == 1) & (table["system"] == "eat")
    # block 2 was disturbed throughout; 20 units lie in blocks of number unit % 5
    table.loc[rows & (table["block"] == 2), "ms"] *= 3.0
    table.loc[rows, "ms"] *= np.random.default_rng(0).uniform(0.9, 1.1, rows.sum())
    found = row_of(
        summarize(study, with_timing(inputs, tmp_path / "timing.parquet", table), tmp_path / "out"), "eat", 0.7
    )
    own, dense = (
        table[(table["batch_size"] == 1) & (table["system"] == name) & ~(table["tau"] > 0.8)]
        for name in ("eat", "hf-dense")
    )
    order = ["block", "unit", "repeat", "seed"]
    mine, stock = (part.sort_values(order)["ms"].to_numpy().reshape(20, 6) for part in (own, dense))
    expected = median_ratio(stock, mine, np.repeat(np.arange(5), 4))
    assert (found["speedup_vs_dense"], found["speedup_low"], found["speedup_high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    plain = median_ratio(stock, mine)
    assert expected.low < plain.low  # two or three of five blocks drawn may be the disturbed one


def test_a_pass_of_batches_becomes_its_mean_call(summary: pd.DataFrame) -> None:
    # 40 texts at batch 32 are two calls; a pass of mean length takes 40 * 5 ms
    row = row_of(summary, "eat", 0.7, 32)
    assert row["latency_ms_mean"] == pytest.approx(100.0)
    assert row["examples_per_s"] == pytest.approx(200.0)
    assert row["n_timed"] == 40  # the same texts in each pass
    assert np.isnan(row["latency_ms_p90"])
    assert np.isnan(row["latency_ms_p99"])


def test_accuracy_is_the_mean_over_seeds_with_intervals(
    study: Study, summary: pd.DataFrame, inputs: TaskInputs
) -> None:
    points = pd.read_parquet(inputs.operating_points)
    own = points[(points["system"] == "eat") & (points["tau"] == 0.7) & (points["split"] == "dev")]
    row = row_of(summary, "eat", 0.7)
    assert row["accuracy"] == pytest.approx(own["accuracy"].mean())
    assert row["accuracy_sd"] == pytest.approx(own["accuracy"].std())
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert row["delta_low"] <= row["delta_accuracy"] <= row["delta_high"]
    assert row["delta_accuracy"] == pytest.approx(row["accuracy"] - row_of(summary, "dense")["accuracy"])
    assert row["seeds"] == 2
    assert row["n"] == 120
    assert row["chosen"] == own["chosen"].iloc[0]


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_intervals_of_systems_that_are_always_right_have_a_width(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    study, rows = study_of(seeds), 40
    files = files_of(tmp_path, study, rows, noise=0.0)
    summary = summarize(study, {"movies": files}, tmp_path / "out")
    least = 3.84 / (rows + 3.84)  # Wilson's, and Tango's: as wide as one seed's, for nothing shows that seeds differ
    trained = summary[summary["n"] > 0]
    assert set(trained["accuracy"]) == {1.0}
    assert set(trained["accuracy_high"]) == {1.0}
    assert trained["accuracy_low"].to_numpy() == pytest.approx(1 - least, abs=1e-3)
    adaptive = trained[trained["system"] == "eat"]
    assert set(adaptive["delta_accuracy"]) == {0.0}
    assert adaptive["delta_low"].to_numpy() == pytest.approx(-least, abs=1e-3)
    assert adaptive["delta_high"].to_numpy() == pytest.approx(least, abs=1e-3)
    assert (trained["ece_debiased_low"] < trained["ece_debiased_high"]).all()
    buckets = bucket_rows(read_results(study, "movies", files))
    own = buckets[buckets["system"] == "eat"]
    assert (own["delta_low"] < own["delta_high"]).all()


def test_a_bucket_with_one_timed_text_has_no_interval_of_its_speed_up(tmp_path: Path) -> None:
    study = study_of((1,))
    files = files_of(tmp_path, study)
    trace = Trace.read(files.traces["dense", 1])
    table = timing_of(study, units=20)
    short = set(trace.ids[trace.lengths <= 35])
    kept = sorted(short & set(table["unit"]))[:1]
    table = table[(table["batch_size"] > 1) | ~table["unit"].isin(short - set(kept))]
    rows = bucket_rows(read_results(study, "movies", with_timing(files, tmp_path / "timing.parquet", table)["movies"]))
    row = rows[(rows["bucket"] == "1-35") & (rows["system"] == "eat")].iloc[0]
    assert (row["n_timed"], row["speedup_vs_dense"]) == (1, pytest.approx(2.0))
    assert row[["speedup_low", "speedup_high", "packed_low", "packed_high"]].isna().all()


def test_the_reference_differs_from_itself_by_nothing(summary: pd.DataFrame) -> None:
    dense, stock = row_of(summary, "dense"), row_of(summary, "hf-dense")
    for row in (dense, stock):
        assert (row["delta_accuracy"], row["delta_low"], row["delta_high"], row["mcnemar_p"]) == (0.0, 0.0, 0.0, 1.0)
        assert row["flops_ratio"] == 1.0
        assert row["chosen"]
    assert stock["accuracy"] == dense["accuracy"]


def test_flops_ratio_above_one_is_cheaper(summary: pd.DataFrame) -> None:
    row = row_of(summary, "eat", 0.7)
    assert row["flops_ratio"] == pytest.approx(row_of(summary, "dense")["gflops"] / row["gflops"])
    assert row["flops_ratio"] > 1


def test_calibration_is_that_of_the_deepest_early_exit(summary: pd.DataFrame, inputs: TaskInputs) -> None:
    files = [read_json(inputs.calibrations["eat", seed]) for seed in (1, 2)]
    expected = np.mean([one["temperatures"]["4"] for one in files])
    assert row_of(summary, "eat", 0.9)["temperature"] == pytest.approx(expected)
    assert row_of(summary, "eat", 0.9)["ece_calibrated"] < row_of(summary, "eat", 0.9)["ece_raw"]
    last = np.mean([read_json(inputs.calibrations["dense", seed])["temperatures"]["6"] for seed in (1, 2)])
    assert row_of(summary, "dense")["temperature"] == pytest.approx(last)


def test_texts_of_one_length_have_a_summary_and_no_cost_by_length(
    study: Study, inputs: TaskInputs, tmp_path: Path
) -> None:
    table = timing_of(study)
    dense = Trace.read(inputs.traces["dense", 1])
    lengths = dict(zip(dense.ids, dense.lengths, strict=True))
    single = table["batch_size"] == 1
    common = table.loc[single, "unit"].map(lengths).mode()[0]
    table = table[~single | (table["unit"].map(lengths) == common)]
    found = summarize(study, with_timing(inputs, tmp_path / "timing.parquet", table), tmp_path / "out")
    assert row_of(found, "eat", 0.9)["speedup_vs_dense"] > 0
    cost = pd.read_csv(tmp_path / "out" / "curves" / "cost.csv")
    assert len(cost) == 0 and list(cost.columns) == list(COST_COLUMNS)


def test_one_seed_has_no_spread_and_the_exact_test(tmp_path: Path) -> None:
    study = study_of(seeds=(1,))
    files = files_of(tmp_path, study)
    row = row_of(summarize(study, {"movies": files}, tmp_path / "out"), "eat", 0.9)
    assert np.isnan(row["accuracy_sd"])
    dense, eat = (Trace.read(files.traces[system, 1]) for system in ("dense", "eat"))
    temperatures = read_json(files.calibrations["eat", 1])["temperatures"]

    def probability(depth: int) -> np.ndarray:
        scaled = np.exp(eat.logits[depth].astype(float) / temperatures[str(depth)])
        return scaled / scaled.sum(axis=1, keepdims=True)

    # the replay, written out by hand for two early exits
    at_three, at_four = (probability(depth).max(axis=1) >= 0.9 for depth in (3, 4))
    answers = np.where(
        at_three, eat.logits[3].argmax(1), np.where(at_four, eat.logits[4].argmax(1), eat.logits[6].argmax(1))
    )
    right, dense_right = answers == eat.labels, dense.logits[6].argmax(axis=1) == dense.labels
    assert row["accuracy"] == np.mean(right)
    assert row["mcnemar_p"] == pytest.approx(mcnemar_p(right, dense_right))


# --- the other files ----------------------------------------------------------------------------------------------


def test_the_papers_csv_is_consistent_in_itself(out: Path, summary: pd.DataFrame) -> None:
    table = pd.read_csv(out / "summary_movies.csv")
    assert list(table.columns) == [
        "model", "tau", "latency_ms", "accuracy", "speedup_vs_bert", "delta_acc_pp", "avg_depth", "avg_retention",
    ]  # fmt: skip
    assert len(table) == (summary["batch_size"] == 1).sum()
    stock = float(table.loc[table["model"] == "hf-dense", "latency_ms"].iloc[0])
    np.testing.assert_allclose(table["speedup_vs_bert"], stock / table["latency_ms"])


def test_metrics_hold_the_chosen_rows_alone(out: Path, summary: pd.DataFrame) -> None:
    found = json.loads((out / "metrics.json").read_text())
    assert found["study"] == "made-up"
    task = found["tasks"]["movies"]
    assert set(task["systems"]) == {"dense", "eat", "hf-dense-onnx-int8"}
    assert task["systems"]["dense"]["tau"] is None
    eat = task["systems"]["eat"]
    row = row_of(summary, "eat", eat["tau"])
    assert row["chosen"]
    assert eat["speedup"] == pytest.approx(2.0)
    assert eat["delta_accuracy_pp"] == pytest.approx(100 * row["delta_accuracy"])
    assert task["dense_accuracy"] == row_of(summary, "dense")["accuracy"]
    assert task["n"] == 120


def test_exits_add_up(out: Path, summary: pd.DataFrame) -> None:
    table = pd.read_csv(out / "curves" / "exits.csv")
    assert list(table.columns) == ["task", "system", "tau", "chosen", "exit", "fraction", "n"]
    assert table.groupby(["system", "tau"], dropna=False)["fraction"].sum().to_numpy() == pytest.approx(1.0)
    own = table[(table["system"] == "eat") & (table["tau"] == 0.9)]
    assert (own["exit"] * own["fraction"]).sum() == pytest.approx(row_of(summary, "eat", 0.9)["avg_depth"])
    assert (table["n"] == 2 * 120).all()


def test_retention_as_scheduled_and_as_observed(out: Path) -> None:
    table = pd.read_csv(out / "curves" / "retention.csv")
    assert list(table.columns) == ["task", "system", "tau", "over", "layer", "scheduled", "observed", "n"]
    everyone = table[(table["system"] == "eat") & (table["over"] == "all")]
    assert everyone["tau"].isna().all() and (table.loc[table["tau"].notna(), "over"] == "running").all()
    assert everyone["scheduled"].to_numpy() == pytest.approx([1, 0.7, 0.7, 0.49, 0.49, 0.49])
    assert (everyone["observed"] >= everyone["scheduled"]).all()  # rounding up, and [CLS]
    assert (everyone["n"] == 2 * 120).all()
    running = table[(table["system"] == "eat") & (table["tau"] == 0.7)]["n"].to_numpy()
    assert running[0] == running[1] == 2 * 120
    assert running[1] > running[2] > running[3] == running[4] == running[5]  # exits after 3 and 4
    assert (table.loc[table["system"] == "dense", ["scheduled", "observed"]] == 1.0).all(axis=None)


def test_lengths_average_to_the_retention_of_the_summary(out: Path, summary: pd.DataFrame) -> None:
    table = pd.read_csv(out / "curves" / "lengths.csv")
    own = table[(table["system"] == "eat") & (table["tau"] == 0.9)]
    assert len(own) == 8
    assert ((own["low"] <= own["length_mean"]) & (own["length_mean"] < own["high"])).all()
    assert (own["low"].iloc[1:].to_numpy() == own["high"].iloc[:-1].to_numpy()).all()
    mean = np.average(own["retention"], weights=own["n"])
    assert mean == pytest.approx(row_of(summary, "eat", 0.9)["avg_retention"])


def test_reliability_pools_the_seeds(out: Path, inputs: TaskInputs) -> None:
    table = pd.read_csv(out / "curves" / "reliability.csv")
    own = table[(table["system"] == "eat") & (table["exit"] == 4) & (table["stage"] == "raw")]
    assert list(own["bin"]) == list(range(15))
    assert own["n"].sum() == 2 * 120
    assert own.loc[own["n"] == 0, ["confidence", "accuracy"]].isna().all(axis=None)
    files = [read_json(inputs.calibrations["eat", seed]) for seed in (1, 2)]
    raw = [
        one for file in files for one in file["exits"] if (one["exit"], one["split"], one["stage"]) == (4, "dev", "raw")
    ]
    tops = [one["reliability"][-1] for one in raw]
    assert own["accuracy"].iloc[-1] == pytest.approx(
        np.average([top["accuracy"] for top in tops], weights=[top["n"] for top in tops])
    )


@pytest.mark.parametrize("lengths", [[5, 5, 5], [1, 2], list(range(100)), [3] * 90 + [50]])
def test_every_length_falls_into_a_bin_that_is_not_empty(lengths: list[int]) -> None:
    edges = length_edges(np.array(lengths))
    counts, _ = np.histogram(lengths, bins=edges)
    assert len(edges) <= 9
    assert counts.sum() == len(lengths)
    assert (counts > 0).all()


def test_schedule_of_a_system_without_a_reducer_is_flat() -> None:
    assert scheduled_retention({"layers": 3, "reducer": {"kind": "none", "after": [], "ratio": 0.3}}).tolist() == [
        1,
        1,
        1,
    ]


# --- what is refused ----------------------------------------------------------------------------------------------


def with_timing(inputs: TaskInputs, path: Path, table: pd.DataFrame) -> dict[str, TaskInputs]:
    write_table(path, table)
    return {"movies": TaskInputs(**{**vars(inputs), "timing": path})}


@pytest.mark.parametrize(("column", "other"), [("device", "cuda"), ("threads", 8)])
def test_mixed_settings_are_refused(
    study: Study, inputs: TaskInputs, tmp_path: Path, column: str, other: str | int
) -> None:
    table = timing_of(study).assign(**{column: FACTS[column]})
    table.loc[table["system"] == "eat", column] = other
    with pytest.raises(EatError, match=rf"{column} is .*{other}.*one setting"):
        summarize(study, with_timing(inputs, tmp_path / "timing.parquet", table), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def on_card(files: TaskInputs, study: Study, folder: Path, device: str, gpu: str | None) -> TaskInputs:
    """The files of a task that was timed on a device of this name."""
    path = folder / f"{device}-{gpu}.json"
    write_json(path, facts_of(study) | {"device": device, "machine": {"cpu": "A CPU", "gpu": gpu}})
    return TaskInputs(**{**vars(files), "timing_facts": path})


@pytest.mark.parametrize(("device", "gpu", "card"), [("cpu", None, ""), ("cuda", "NVIDIA T1", "NVIDIA T1")])
def test_the_summary_names_the_card_of_the_timing(
    study: Study, inputs: TaskInputs, tmp_path: Path, device: str, gpu: str | None, card: str
) -> None:
    files = {"movies": on_card(inputs, study, tmp_path, device, gpu)}
    assert set(summarize(study, files, tmp_path / "out")["card"]) == {card}
    read = pd.read_csv(tmp_path / "out" / "summary.csv", keep_default_na=False)
    assert set(read["card"]) == {card}
    assert set(read["device"]) == {device}


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (("cpu", None), "movies on NVIDIA T1, books on cpu"),
        (("cuda", "NVIDIA T2"), "movies on NVIDIA T1, books on NVIDIA T2"),
    ],
)
def test_tasks_that_were_timed_on_different_cards_are_refused(
    study: Study, inputs: TaskInputs, tmp_path: Path, other: tuple[str, str | None], shown: str
) -> None:
    files = {
        "movies": on_card(inputs, study, tmp_path, "cuda", "NVIDIA T1"),
        "books": on_card(inputs, study, tmp_path, *other),
    }
    with pytest.raises(EatError) as error:
        summarize(study, files, tmp_path / "out")
    (line,) = str(error.value).splitlines()
    assert shown in line and "--forcerun measure_time" in line
    assert not (tmp_path / "out").exists()


def test_a_timed_system_of_unknown_precision_is_refused(study: Study, inputs: TaskInputs, tmp_path: Path) -> None:
    facts = facts_of(study)
    del facts["precisions"]["hf-dense-12"], facts["precisions"]["eat"]
    write_json(tmp_path / "timing.json", facts)
    files = {"movies": TaskInputs(**{**vars(inputs), "timing_facts": tmp_path / "timing.json"})}
    with pytest.raises(DamagedFile, match=r"has no engine or precision for eat, hf-dense-12; time again"):
        summarize(study, files, tmp_path / "out")


def test_a_system_that_was_not_timed_is_a_row_with_its_precision(
    study: Study, inputs: TaskInputs, tmp_path: Path
) -> None:
    table = timing_of(study)
    files = with_timing(inputs, tmp_path / "timing.parquet", table[table["system"] != "eat"])
    row = row_of(summarize(study, files, tmp_path / "out"), "eat", 0.7)
    assert (row["n_timed"], row["dtype"]) == (0, "bfloat16")
    assert np.isnan(row["speedup_vs_dense"])


def test_a_system_timed_on_other_texts_is_refused(study: Study, inputs: TaskInputs, tmp_path: Path) -> None:
    table = timing_of(study)
    table = table[(table["system"] != "hf-dense") | (table["unit"] != f"{3:016x}")]
    with pytest.raises(EatError, match="not every timed text was also timed with hf-dense"):
        summarize(study, with_timing(inputs, tmp_path / "timing.parquet", table), tmp_path / "out")


def test_timing_without_its_reference_is_refused(study: Study, inputs: TaskInputs, tmp_path: Path) -> None:
    table = timing_of(study)
    table = table[(table["system"] != "hf-dense") | (table["batch_size"] == 1)]
    with pytest.raises(EatError, match="no rows of hf-dense at batch 32"):
        summarize(study, with_timing(inputs, tmp_path / "timing.parquet", table), tmp_path / "out")


def test_timing_of_another_threshold_is_refused(study: Study, inputs: TaskInputs, tmp_path: Path) -> None:
    table = timing_of(study).replace({"tau": {0.9: 0.85}})
    with pytest.raises(EatError, match=r"eat at tau 0\.85 is not an operating point"):
        summarize(study, with_timing(inputs, tmp_path / "timing.parquet", table), tmp_path / "out")


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_a_time_that_cannot_be_is_refused(study: Study, inputs: TaskInputs, tmp_path: Path, value: float) -> None:
    table = timing_of(study)
    table.loc[5, "ms"] = value
    with pytest.raises(DamagedFile, match="not above 0"):
        summarize(study, with_timing(inputs, tmp_path / "timing.parquet", table), tmp_path / "out")


@pytest.mark.parametrize(("system", "column"), [("eat", "avg_depth"), ("dense", "accuracy")])
def test_operating_points_of_another_run_are_refused(
    study: Study, inputs: TaskInputs, tmp_path: Path, system: str, column: str
) -> None:
    points = pd.read_parquet(inputs.operating_points)
    points.loc[(points["system"] == system) & (points["seed"] == 2), column] -= 0.01
    write_table(tmp_path / "points.parquet", points)
    stale = TaskInputs(**{**vars(inputs), "operating_points": tmp_path / "points.parquet"})
    with pytest.raises(EatError, match="differs from the traces"):
        summarize(study, {"movies": stale}, tmp_path / "out")


def test_traces_of_other_texts_are_refused(study: Study, inputs: TaskInputs, tmp_path: Path) -> None:
    make_trace(120, exits=(3, 4, 6), seed=77).write(tmp_path / "dev.parquet")
    mixed = TaskInputs(**{**vars(inputs), "traces": {**inputs.traces, ("eat", 2): tmp_path / "dev.parquet"}})
    with pytest.raises(EatError, match="same dev texts"):
        summarize(study, {"movies": mixed}, tmp_path / "out")


def test_a_run_that_is_missing_is_named(study: Study, inputs: TaskInputs, tmp_path: Path) -> None:
    some = {run: path for run, path in inputs.traces.items() if run != ("eat", 2)}
    with pytest.raises(EatError, match="eat seed 2"):
        summarize(study, {"movies": TaskInputs(**{**vars(inputs), "traces": some})}, tmp_path / "out")


# --- speed --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_of_real_size_takes_seconds(tmp_path: Path) -> None:
    study = study_of(seeds=(1,), tau=(0.6, 0.7, 0.8, 0.85, 0.9, 0.95), copies=4)
    files = files_of(tmp_path, study, rows=1700)
    write_table(tmp_path / "timing.parquet", timing_of(study, units=200))
    started = time.perf_counter()
    summarize(study, {"movies": files}, tmp_path / "out")
    assert time.perf_counter() - started < 20


# --- by length, and promises --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promising(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a study with a system that keeps a promise; buckets and promises beside its summary."""
    study = study_of(seeds=(1, 2))
    value = study.model_dump(mode="json", by_alias=True)
    rule = {"rule": ["risk_controlled"], "promise": {"epsilon": 0.2, "delta": 0.1}, "tau": [0.7, 0.8, 0.9, 0.95]}
    value["systems"]["eat"]["exits"] |= rule
    study = load_study(value)
    folder = tmp_path_factory.mktemp("promising")
    summarize(
        study, {"movies": files_of(folder, study)}, folder / "out", {"buckets": bucket_rows, "promises": promise_rows}
    )
    return folder


def test_buckets_add_up_to_the_summary(promising: Path) -> None:
    buckets, summary = (pd.read_csv(promising / "out" / f"{name}.csv") for name in ("buckets", "summary"))
    assert list(dict.fromkeys(buckets["bucket"])) == ["1-35", "36-70"]  # no text here is longer than 60
    for system, rows in buckets.groupby("system"):
        whole = row_of(summary, str(system))
        assert rows["n"].sum() == whole["n"]
        assert rows["n_timed"].sum() == whole["n_timed"]
        for column in ("accuracy", "delta_accuracy", "avg_depth", "avg_retention"):
            assert np.average(rows[column], weights=rows["n"]) == pytest.approx(whole[column], abs=1e-9), column
    # made-up times: eat takes half of hf-dense whatever the length
    eat = buckets[buckets["system"] == "eat"]
    assert eat[["speedup_vs_dense", "speedup_low", "speedup_high"]].to_numpy() == pytest.approx(2.0)
    assert eat[["speedup_vs_packed_dense", "packed_low", "packed_high"]].to_numpy() == pytest.approx(8 / 5)
    assert (eat["flops_ratio"] > 1).all()
    assert ((eat["delta_low"] < eat["delta_accuracy"]) & (eat["delta_accuracy"] < eat["delta_high"])).all()


@pytest.mark.parametrize(
    ("reducer", "tau", "attention", "expected"),
    [
        ("norm", 0.7, "dense", "both"),
        ("none", 0.7, "dense", "exits"),
        ("norm", 1.0, "dense", "pruning"),  # it has exits, by which nobody leaves
        ("none", 1.0, "dense", "neither"),
        ("norm", 0.7, "window", "both"),
        ("norm", 1.0, "window", "neither"),  # a window gains on long texts by itself
    ],
)
def test_what_a_system_adapts_by_is_what_it_does(
    tmp_path: Path, reducer: str, tau: float, attention: str, expected: str
) -> None:
    value = study_of(seeds=(1,), tau=(tau,)).model_dump(mode="json", by_alias=True)
    value["systems"]["eat"]["reducer"] = {"kind": reducer, "after": [2, 4] if reducer == "norm" else []}
    study = load_study(value)
    files = files_of(tmp_path, study, rows=60)
    path = Path(files.traces["eat", 1]).with_suffix(".json")
    write_json(path, read_json(path) | {"attention": {"kind": attention}})
    results = read_results(study, "movies", files)
    assert adapts_by(results, ("eat", tau)) == expected
    assert adapts_by(results, results.reference) == "neither"


def test_a_promise_stands_beside_what_dev_shows(promising: Path) -> None:
    table = pd.read_csv(promising / "out" / "promises.csv")
    assert table[["system", "seed"]].to_numpy().tolist() == [["eat", 1], ["eat", 2]]
    assert set(table["tau"]) <= {0.7, 0.8, 0.9, 0.95, 1.0}
    assert ((table["observed_low"] <= table["observed"]) & (table["observed"] <= table["observed_high"])).all()
    for row in table.to_dict("records"):
        trace = Trace.read(promising / "traces" / "eat" / str(row["seed"]) / "dev.parquet")
        probabilities = softmax(trace.logits[3]), softmax(trace.logits[4])
        full = trace.logits[6].argmax(axis=1)
        answered = full
        for one in reversed(probabilities) if row["tau"] < 1 else ():
            answered = np.where(one.max(axis=1) >= row["tau"], one.argmax(axis=1), answered)
        assert row["bad_dev"] == np.sum(answered != full)
        assert (row["n"], row["n_dev"], row["observed"]) == (120, 120, row["bad_dev"] / 120)


@pytest.mark.parametrize("thresholds", ["one", "per_exit"])
def test_a_point_chosen_by_disagreement_stands_beside_those_of_its_thresholds(tmp_path: Path, thresholds: str) -> None:
    value = study_of(seeds=(1, 2)).model_dump(mode="json", by_alias=True)
    choose = {"by": "disagreement", "epsilon": 0.2, "delta": 0.1, "thresholds": thresholds}
    value["systems"]["eat"]["exits"] |= {"choose": choose}
    study = load_study(value)
    files = files_of(tmp_path, study, rows=300)
    summarize(study, {"movies": files}, tmp_path / "out", {"promises": promise_rows})
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    own = summary[(summary["system"] == "eat") & (summary["batch_size"] == 1)]
    assert own["tau"].isna().tolist() == own["chosen"].tolist() == own["thresholds"].notna().tolist()
    assert own["tau"].dropna().tolist() == [0.7, 0.9] and own["chosen"].sum() == 1
    found = json.loads(own.loc[own["chosen"], "thresholds"].iloc[0])
    assert [set(seed) for seed in found] == [{"3", "4"}] * 2
    promises = pd.read_csv(tmp_path / "out" / "promises.csv")
    assert promises["risk"].tolist() == ["disagreement"] * 2
    assert promises["n"].tolist() == [300 if thresholds == "one" else 150] * 2
    # without labels: the choice is the same whatever the calibration texts are labelled
    trace = Trace.read(tmp_path / "traces" / "eat" / "1" / "calibration.parquet")
    spec = study.calibration_spec("eat", "movies")
    assert keep_agreement(replace(trace, labels=1 - trace.labels), spec.choose)["tau"] == found[0]
    for seed, row in enumerate(promises.to_dict("records")):
        dev = Trace.read(tmp_path / "traces" / "eat" / str(seed + 1) / "dev.parquet")
        full = answered = dev.logits[6].argmax(axis=1)
        for depth in (4, 3):
            probabilities, tau = softmax(dev.logits[depth]), found[seed][str(depth)]
            exits = (probabilities.max(axis=1) >= tau) & (tau < 1)
            answered = np.where(exits, probabilities.argmax(axis=1), answered)
        assert row["bad_dev"] == np.sum(answered != full)


def test_a_study_that_promises_nothing_has_an_empty_table(study: Study, inputs: TaskInputs, tmp_path: Path) -> None:
    summarize(study, {"movies": inputs}, tmp_path, {"promises": promise_rows})
    assert pd.read_csv(tmp_path / "promises.csv").empty


def test_a_reducer_that_learns_has_no_schedule() -> None:
    schedule = scheduled_retention({"layers": 3, "reducer": {"kind": "threshold", "after": [1], "final": 0.01}})
    assert np.isnan(schedule).all()
