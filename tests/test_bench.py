"""The bench: its table of systems, what follows from times, what is refused, and what is written.

Sizes are tiny and no test asserts a speed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import psutil
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from eat import cli, machine
from eat.bench import engine, engine_options, growth, measure, onnx_model, onnx_worker, runners, systems, training
from eat.bench.answers import check_answers
from eat.bench.engine import bench_engine
from eat.bench.engine_options import EngineOptions
from eat.bench.growth import GrowthOptions, bench_growth, live_tokens
from eat.bench.inputs import Case, equal_case, mixed_case, mixed_lengths, random_texts, read_texts
from eat.bench.measure import Turn, crossing, exponent, power_law, run_rounds
from eat.bench.memory import Memory, Meter, peak_of
from eat.bench.processes import Worker
from eat.bench.results import check_folder, write_findings
from eat.bench.runners import Answers, build_runner, key_of
from eat.bench.systems import (
    AGAIN,
    GROWTH_SYSTEMS,
    REFERENCE,
    SYSTEMS,
    System,
    build_model,
    build_packed,
    build_stock,
    chosen,
)
from eat.bench.training import TrainingOptions, bench_training
from eat.engines.compiled import CompiledModel
from eat.engines.stock import StockModel
from eat.errors import EatError
from eat.files import read_json, read_table
from eat.machine import ForeignLoad
from eat.model import attention
from eat.model.batch import PackedBatch
from eat.model.shape import Shape
from eat.statistics import nonnegative_fit

SHAPE = Shape(vocabulary=tiny.VOCABULARY, hidden=32, layers=6, heads=4, intermediate=64, positions=64)
PRODUCT = ((32, 32, 32),)
NO_OPENVINO = "OpenVINO is not installed (extra bench)"
NEAR = 0.1
"""The tolerance between logits in float32 and with int8 weights; at this shape logits reach 1."""
HERE = [row for row in SYSTEMS.values() if not row.exported and not row.needs_cuda]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch):
    """Little warming up, and few bootstrap samples; whatever a bench sets, the next test has one thread again."""
    monkeypatch.setattr(measure, "WARM_MS", 2.0)
    monkeypatch.setattr(measure, "DRAWS", 100)
    yield
    torch.set_num_threads(1)


def options(**changes: object) -> EngineOptions:
    base = EngineOptions(
        systems=("packed-6", "eat-6"),
        lengths=(8, 24),
        batch_sizes=(1, 3),
        threads=1,
        rounds=2,
        seconds=0.0,
        memory=False,
        shape=SHAPE,
        products=PRODUCT,
    )
    return replace(base, **changes)


# --- the table of systems -----------------------------------------------------------------------------------------


def answers_of(case: Case, rows: list[systems.System]) -> dict[str, Answers]:
    found = {}
    for row in rows:
        runner = build_runner(row, SHAPE)
        runner.load(key_of(case, "arrival"), case.batches("arrival"))
        found[row.name] = runner.answer(key_of(case, "arrival"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", [equal_case(24, 1, 200), mixed_case(4, 200, 64)], ids=["one text", "mixed"])
def test_every_system_builds_and_those_that_must_answer_equally_do(case: Case):
    answers = answers_of(case, HERE)
    differences = check_answers(HERE, answers, case)
    assert {row.name for row in HERE if row.equals is not None} <= set(differences)
    # the weights are wide enough for the comparison to mean something
    assert np.abs(answers[REFERENCE].logits).max() > 0.1
    # and a lower precision is near, but not the same
    assert 0 < differences["packed-bfloat16-6"] < 0.5
    assert 0 < np.abs(answers["onnx-int8-6"].logits - answers[REFERENCE].logits).max() < 0.5
    assert answers["onnx-int8-eat-6"].depth == 6.0 and answers["onnx-int8-eat-6-all-leave"].depth == 4.0
    assert answers["eat-6"].depth == 6.0
    assert answers["eat-6-all-leave"].depth == 4.0
    assert answers["eat-6-all-leave"].gflop < answers["eat-6"].gflop < answers["packed-6"].gflop
    assert answers["packed-6"].gflop == pytest.approx(answers[REFERENCE].gflop)


def test_what_a_row_is_compared_with_stands_in_the_same_table():
    for table in (SYSTEMS, GROWTH_SYSTEMS):
        for name, row in table.items():
            assert row.name == name
            assert {row.stock, row.equals or REFERENCE} <= set(table)
            assert table[row.stock].engine == ("export" if row.precision == "int8" else "stock")


def test_weights_depend_on_names_alone():
    small, deep = (build_model(SYSTEMS[name], SHAPE).encoder.state_dict() for name in ("packed-6", "packed-12"))
    same = [name for name in small if not name.startswith("exit_heads")]
    assert same
    assert all(torch.equal(small[name], deep[name]) for name in same)


def test_other_answers_are_an_error():
    case = equal_case(8, 1, 200)
    rows = [SYSTEMS[REFERENCE], SYSTEMS["packed-6"]]
    answers = answers_of(case, rows)
    wrong = replace(answers["packed-6"], logits=answers["packed-6"].logits + 1e-3)
    with pytest.raises(EatError, match=r"packed-6 has different logits from hf-sdpa-6 on 8 x 1: .* 1\.0e-03"):
        check_answers(rows, {**answers, "packed-6": wrong}, case)
    nan = replace(wrong, logits=wrong.logits * np.nan)
    with pytest.raises(EatError, match="has different logits"):
        check_answers(rows, {**answers, "packed-6": nan}, case)


def test_an_exit_that_does_not_do_what_its_row_says_is_an_error():
    case = equal_case(8, 1, 200)
    answer = Answers(np.zeros((1, 2)), 6.0, 1.0)
    with pytest.raises(EatError, match="eat-6-all-leave: found a mean depth of 6, expected: all exit early"):
        check_answers([SYSTEMS["eat-6-all-leave"]], {"eat-6-all-leave": answer}, case)


def test_the_reference_and_its_double_are_always_among_the_chosen():
    assert [row.name for row in chosen(["packed-12"], SYSTEMS)] == [REFERENCE, AGAIN, "hf-sdpa-12", "packed-12"]
    assert [row.name for row in chosen(None, SYSTEMS)] == list(SYSTEMS)


def test_the_window_is_forced_one_way_and_only_there(monkeypatch: pytest.MonkeyPatch):
    shape = replace(SHAPE, positions=400)
    calls: list[int] = []
    blocked = attention.AttentionPattern._blocked
    monkeypatch.setattr(
        attention.AttentionPattern, "_blocked", lambda self, *rest: calls.append(1) or blocked(self, *rest)
    )
    for name, length, expected in (
        ("window-band", 400, 0),
        ("window-blocks", 40, 6),
        ("window", 40, 0),
        ("window", 400, 6),
    ):
        model, policy = build_packed(GROWTH_SYSTEMS[name], shape)
        calls.clear()
        with torch.inference_mode():
            model.encoder(PackedBatch.of(random_texts([length], 200)), policy)
        assert len(calls) == expected, (name, length)


def test_a_trained_model_is_a_row_and_a_dense_one_brings_its_stock_class(tmp_path: Path):
    tiny.model(last_head="bert").save_pretrained(tmp_path / "dense")
    adaptive = tiny.model([2], {"kind": "norm", "after": [1], "ratio": 0.5})
    adaptive.set_operating_point(["confidence"], 0.5)
    adaptive.save_pretrained(tmp_path / "adaptive")
    found = bench_engine(options(systems=(), models=(tmp_path / "dense", tmp_path / "adaptive"), lengths=(8,)))
    table = found.tables["engine"].set_index(["system", "batch_size"])
    assert {"dense-stock", "dense", "adaptive"} <= set(table.index.get_level_values("system"))
    assert table.loc[("dense", 1), "max_difference"] < 1e-4
    assert table.loc[("dense", 1), "stock"] == "dense-stock"
    assert table.loc[("adaptive", 1), "depth"] == 2.0  # the most certain of two classes has at least 0.5


# --- inputs -------------------------------------------------------------------------------------------------------


def test_mixed_lengths_are_fixed_and_of_the_mean_they_should_have():
    lengths = mixed_lengths(4096, 512)
    assert lengths == mixed_lengths(4096, 512)
    assert np.mean(lengths) == pytest.approx(27, rel=0.03)
    assert max(mixed_lengths(4096, 20)) == 20
    batches = np.array(mixed_lengths(4096, 512)).reshape(-1, 32)
    assert 1 - batches.sum() / (32 * batches.max(axis=1).sum()) == pytest.approx(0.49, abs=0.02)  # rotten_tomatoes


def test_sorting_is_over_all_batches_and_loses_no_text():
    case = mixed_case(4, 200, 64)
    assert case.orders == ("arrival", "sorted")
    arrival, ordered = ([len(text.ids) for batch in case.batches(order) for text in batch] for order in case.orders)
    assert ordered == sorted(arrival) != arrival
    assert equal_case(8, 4, 200).orders == ("arrival",)


def test_lengths_of_a_text_file(tmp_path: Path):
    file = tmp_path / "texts.txt"
    file.write_text("one two three.\n\nfour\n", encoding="utf-8")
    assert sorted(len(text.ids) for text in read_texts(file, 64, 200, None)) == [3, 6]
    assert max(len(text.ids) for text in read_texts(file, 4, 200, None)) == 4
    tiny.save_tokenizer(tmp_path)
    assert sorted(len(text.ids) for text in read_texts(file, 64, 200, tmp_path)) == [3, 6]
    file.write_text("\n \n", encoding="utf-8")
    with pytest.raises(EatError, match="no text in it"):
        read_texts(file, 64, 200, None)
    with pytest.raises(EatError, match="no such file"):
        read_texts(tmp_path / "none.txt", 64, 200, None)


# --- what follows from times --------------------------------------------------------------------------------------

SIZES = np.array([16.0, 64, 256, 512, 1024, 2048, 4096])


def noisy(values: np.ndarray, rounds: int = 15, noise: float = 0.02) -> np.ndarray:
    return values * np.exp(np.random.default_rng(0).normal(0, noise, (rounds, len(values))))


@given(st.floats(0.5, 2.5), st.floats(0.01, 100.0))
def test_exponents_are_recovered(c: float, b: float):
    found = exponent(SIZES, np.tile(b * SIZES**c, (3, 1)))
    assert found.value == pytest.approx(c, abs=1e-6)
    assert found.low == pytest.approx(found.high, abs=1e-6)


@pytest.mark.parametrize(("a", "b", "c"), [(2.0, 1e-3, 1.0), (0.5, 1e-5, 2.0), (0.0, 1e-2, 1.4)])
def test_a_power_law_with_a_constant_is_recovered_from_noisy_times(a: float, b: float, c: float):
    found = power_law(SIZES, noisy(a + b * SIZES**c))
    assert found.c.low <= found.c.value <= found.c.high
    assert found.c.value == pytest.approx(c, abs=0.06)
    assert found.a == pytest.approx(a, abs=0.15)
    without = exponent(SIZES, noisy(b * SIZES**c))
    assert without.low <= c <= without.high


def test_coefficients_of_an_equation_are_recovered():
    terms = np.stack([np.ones_like(SIZES), SIZES**2, SIZES], axis=1)
    assert nonnegative_fit(terms, terms @ np.array([1.0, 1e-5, 2e-3])) == pytest.approx([1.0, 1e-5, 2e-3])
    assert (nonnegative_fit(terms, 5.0 - 1e-3 * SIZES + 1.0) >= 0).all()


def test_a_crossing_is_found_between_two_sizes():
    band, blocks = 1.0 + 1e-4 * SIZES**2, 2.0 + 0.02 * SIZES
    true = (0.02 + np.sqrt(0.02**2 + 4 * 1e-4)) / 2e-4
    exact = crossing(SIZES, np.tile(band, (3, 1)), np.tile(blocks, (3, 1)))
    assert exact is not None
    assert 64 < exact.value < 256
    assert exact.value == pytest.approx(true, rel=0.15)  # a straight line between two sizes is not the curve
    found = crossing(SIZES, noisy(band), noisy(blocks)[::-1])
    assert found is not None
    assert found.low <= found.value <= found.high


def test_no_crossing_where_one_is_always_the_faster():
    slow, fast = np.tile(2 * SIZES, (3, 1)), np.tile(SIZES, (3, 1))
    assert crossing(SIZES, fast, slow) is None
    always = crossing(SIZES, slow, fast)
    assert always is not None
    assert (always.value, always.low, always.high) == (0.0, 0.0, 0.0)


def test_what_follows_from_one_round_has_no_interval():
    once = SIZES[None, :] ** 1.5
    found = [exponent(SIZES, once), power_law(SIZES, once).c, crossing(SIZES, once, 30.0 * SIZES[None, :])]
    for estimate in found:
        assert estimate is not None
        assert estimate.value > 0
        assert np.isnan([estimate.low, estimate.high]).all()


def test_too_few_sizes_are_refused():
    with pytest.raises(EatError, match="at least two sizes"):
        exponent(SIZES[:1], np.ones((3, 1)))
    with pytest.raises(EatError, match="at least three sizes"):
        power_law(SIZES[:2], np.ones((3, 2)))


def test_every_round_holds_a_turn_of_each_in_changing_order():
    made: list[str] = []

    def turn(name: str) -> Turn:
        return Turn(name, lambda calls, warm: made.append(name) or [10.0] * calls)

    raw = run_rounds([turn(name) for name in "abc"], 30, seconds=60.0)
    assert (raw.groupby(["round", "name"]).size() == 3).all()  # 30 ms a turn
    assert raw["round"].nunique() == 30
    rounds = ["".join(made[-90:][start : start + 3]) for start in range(0, 90, 3)]
    assert {"".join(sorted(order)) for order in rounds} == {"abc"}
    assert len(set(rounds)) > 1


def test_a_case_ends_when_its_time_is_up_but_not_before_five_rounds():
    raw = run_rounds([Turn("a", lambda calls, warm: [1.0] * calls)], 30, seconds=0.0)
    assert raw["round"].nunique() == 5
    assert run_rounds([Turn("a", lambda calls, warm: [1.0] * calls)], 3, seconds=0.0)["round"].nunique() == 3


def test_a_long_pass_is_not_run_once_more_before_it_is_timed():
    warmed: list[bool] = []
    run_rounds([Turn("a", lambda calls, warm: warmed.append(warm) or [300.0] * calls)], 3, seconds=0.0)
    assert not any(warmed)
    run_rounds([Turn("a", lambda calls, warm: warmed.append(warm) or [1.0] * calls)], 3, seconds=0.0)
    assert warmed[-3:] == [True] * 3


def test_tokens_of_each_layer_are_those_the_encoder_keeps():
    for name in ("dense", "eat", "eat-all-leave"):
        row = GROWTH_SYSTEMS[name]
        model, policy = build_packed(row, SHAPE)
        with torch.inference_mode():
            output = model.encoder(PackedBatch.of(random_texts([41], 200)), policy)
        assert [work.attended[0] for work in output.work] == live_tokens(41, row)


# --- the benches --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_engine_measures_every_case_and_writes_whole_files(tmp_path: Path):
    found = bench_engine(options(mixed_lengths=True))
    table = found.tables["engine"]
    cases = {("8", 1), ("24", 1), ("8", 3), ("24", 3), ("mixed", 1), ("mixed", 3)}
    assert set(zip(table["case"], table["batch_size"], strict=True)) == cases
    for case, size in cases:
        rows = table[(table["case"] == case) & (table["batch_size"] == size)]
        assert set(rows["system"]) == {REFERENCE, AGAIN, "packed-6", "eat-6"}
        assert set(rows["order"]) == ({"arrival", "sorted"} if (case, size) == ("mixed", 3) else {"arrival"})
    reference = table[(table["system"] == REFERENCE) & (table["order"] == "arrival")]
    assert (reference["speedup"] == 1.0).all()
    assert (table["efficiency"] == table["gflops"] / found.facts["best_product_gflops"]).all()
    assert (table["ms_p50"] <= table["ms_p99"]).all()
    assert AGAIN in found.markdown
    write_findings(found, tmp_path / "out", "eat bench engine")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"engine.csv", "engine.md", "engine.pdf", "engine.svg", "raw.parquet", "run.json"}
    page = (tmp_path / "out" / "engine.md").read_text()
    assert page.startswith("# eat bench engine\n\nMade by `")
    assert page.endswith(found.markdown)
    assert os.listdir(tmp_path) == ["out"]
    assert len(read_table(tmp_path / "out" / "engine.csv")) == len(table)
    raw = read_table(tmp_path / "out" / "raw.parquet", required=("name", "round", "call", "ms", "case", "batch_size"))
    assert (raw["ms"] > 0).all()
    assert read_json(tmp_path / "out" / "run.json")["machine"]["cores"] == psutil.cpu_count()
    write_findings(found, tmp_path / "out", "eat bench engine")  # its own result may be replaced


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EatError, match=r"^--device is cuda, but torch finds no GPU here"):
        bench_engine(options(device="cuda"))


def test_what_is_for_the_cpu_is_left_out_on_a_gpu_and_refused_when_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("eat.engines.precision._fault", lambda precision, device, stock: None)
    gpu = torch.device("cuda")
    found, skipped = engine_options.systems_of(options(systems=None), gpu)
    onnx = {"onnx-6", "onnx-int8-6", "onnx-int8-eat-6", "onnx-int8-eat-6-all-leave"}
    openvino = {"openvino-6", "openvino-bfloat16-6", "openvino-int8-6"}
    # neither a GPU nor its libraries are here
    cuda = {"compiled-float16-6", "compiled-bfloat16-6", "ort-cuda-6", "ort-cuda-float16-6"}
    assert set(skipped) == {"ort-6", "ort-int8-6"} | onnx | openvino | cuda
    assert "torch.compile does not run here (" in skipped["compiled-float16-6"]
    assert skipped["ort-cuda-6"].endswith("has no CUDA provider here; install onnxruntime-gpu in its place")
    graphs = {"graphs-float16-6", "graphs-eat-float16-6", "graphs-eat-float16-6-all-leave"}
    assert graphs | {"hf-float16-6", "packed-float16-6"} <= {row.name for row in found}
    assert {row.precision for row in found} == {"float32", "float16", "bfloat16"}
    with pytest.raises(EatError, match=r"^ort-6: it is measured only on the CPU"):
        engine_options.systems_of(options(systems=("ort-6",)), gpu)
    with pytest.raises(EatError, match=r"^graphs-float16-6: it is measured only on a GPU with CUDA; use --device cuda"):
        engine_options.systems_of(options(systems=("graphs-float16-6",)), torch.device("cpu"))


def test_graphs_that_disagree_are_left_out_of_the_table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_options, "obstacle", lambda system, device: None if system.engine != "export" else "no")
    names = ("hf-sdpa-6", "packed-6", "graphs-bfloat16-6")
    monkeypatch.setattr(engine_options, "TABLES", {6: {name: SYSTEMS[name] for name in (*names, "hf-bfloat16-6")}})
    found = bench_engine(options(systems=None, lengths=(8,), batch_sizes=(1,), rounds=1))
    reason = "graphs are not used: graphs are captured on a GPU with CUDA, and the model is on cpu"
    assert found.facts["skipped"] == {"graphs-bfloat16-6": reason}
    assert set(found.tables["engine"]["system"]) == {"hf-sdpa-6", "packed-6", "hf-bfloat16-6"}
    assert f"graphs-bfloat16-6 is left out: {reason}." in found.markdown


@pytest.mark.slow
def test_a_compiled_model_gives_the_answers_of_the_stock_model():
    row = System("stock", "stock", precision="float32")
    stock = build_stock(row, SHAPE)
    texts = random_texts([5, 9, 9], SHAPE.vocabulary)
    with torch.inference_mode():
        compiled = CompiledModel(stock, torch.device("cpu"), backend="eager")
        for batch in ([texts[0]], [texts[1]], list(texts)):
            expected = StockModel(stock, torch.device("cpu")).logits(batch)
            torch.testing.assert_close(compiled.logits(batch), expected, atol=1e-5, rtol=0.0)


def test_the_gpu_is_not_silently_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch):
    class Session:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr("onnxruntime.InferenceSession", lambda path, providers: Session())
    with pytest.raises(EatError, match=r"^ort-cuda-6: ONNX Runtime found no GPU"):
        onnx_worker.open_model(SYSTEMS["ort-cuda-6"], "model.onnx", 1)


def test_the_clock_waits_for_the_device_before_and_after(monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: done.append("wait"))
    runners.timed(lambda: done.append("work"), torch.device("cuda"))
    assert done == ["wait", "work", "wait"]
    runners.timed(lambda: done.append("more"), torch.device("cpu"))  # which has nothing to wait for
    assert done[3:] == ["more"]


@pytest.mark.bench
def test_bert_base_is_compared_with_stock_models_of_its_depth(tmp_path: Path):
    found = bench_engine(options(systems=None, shape=replace(SHAPE, layers=12), lengths=(8,), batch_sizes=(1,)))
    table = found.tables["engine"].set_index("system")
    assert table.loc["hf-sdpa-12", "speedup"] == 1.0
    assert set(table["stock"]) <= {"hf-sdpa-12", "hf-bfloat16-12", "ort-int8-12"}
    assert table.loc["eat-12-all-leave", "depth"] == 4.0
    assert table.loc["packed-12", "max_difference"] < 1e-4
    assert "Speed-up over hf-sdpa-12" in found.markdown
    assert set(table["device"]) == {"cpu"} and table["gpu"].isna().all()
    write_findings(found, tmp_path / "out", "eat bench engine --shape bert-base")


def test_a_precision_that_is_of_no_use_here_is_left_out_with_a_line_and_refused_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(
        "eat.engines.precision._fault",
        lambda precision, device, stock: "computes wrong sums" if precision == "bfloat16" and stock else None,
    )
    found = bench_engine(options(systems=("packed-bfloat16-6",), lengths=(8,), batch_sizes=(1,), rounds=1))
    assert set(found.facts["skipped"]) == {"hf-bfloat16-6"}
    line = "hf-bfloat16-6 is left out: precision bfloat16 computes wrong sums on this processor ("
    assert line in capsys.readouterr().err
    assert f"\n{line}" in found.markdown
    rows = found.tables["engine"].set_index("system")
    assert np.isnan(rows.loc["packed-bfloat16-6", "stock_speedup"])  # against the row that is left out
    assert rows.loc[AGAIN, "stock_speedup"] > 0
    with pytest.raises(EatError, match=r"^hf-bfloat16-6: precision bfloat16 computes wrong sums on this processor \("):
        bench_engine(options(systems=("hf-bfloat16-6",)))


@pytest.mark.bench
def test_onnx_runtime_answers_as_stock_does_from_a_process_of_its_own():
    found = bench_engine(options(systems=("ort-6", "ort-int8-6"), mixed_lengths=True, memory=True))
    table = found.tables["engine"].set_index(["system", "case", "batch_size", "order"])
    assert table.loc[("ort-6", "mixed", 3, "arrival"), "max_difference"] < 1e-4
    assert 0 < table.loc[("ort-int8-6", "mixed", 3, "arrival"), "max_difference"] < 0.5
    assert table["call_mb"].notna().all()
    assert not psutil.Process().children()


@pytest.mark.bench
def test_openvino_answers_as_stock_does_from_a_process_of_its_own():
    pytest.importorskip("openvino", reason=NO_OPENVINO)
    found = bench_engine(options(systems=("openvino-6", "openvino-int8-6"), mixed_lengths=True, memory=True))
    table = found.tables["engine"].set_index(["system", "case", "batch_size", "order"])
    assert table.loc[("openvino-6", "mixed", 3, "arrival"), "max_difference"] < 1e-4
    assert 0 < table.loc[("openvino-int8-6", "mixed", 3, "arrival"), "max_difference"] < NEAR
    assert table["call_mb"].notna().all()
    assert not psutil.Process().children()


@pytest.mark.parametrize("name", ["openvino-6", "openvino-int8-6"])
def test_a_file_for_openvino_answers_padded_batches_of_any_size(tmp_path: Path, name: str):
    pytest.importorskip("openvino", reason=NO_OPENVINO)
    row = SYSTEMS[name]
    path = tmp_path / "model.onnx"
    stock = systems.build_stock(replace(SYSTEMS[REFERENCE], attention="eager"), SHAPE)
    onnx_model.write_openvino(stock, row.precision, path)
    model = onnx_worker.open_model(row, str(path), 1)
    for lengths in ([24], [5, 17, 9]):
        texts = random_texts(lengths, SHAPE.vocabulary)
        found = onnx_worker.run(model, [text.ids.numpy() for text in texts])
        with torch.inference_mode():
            expected = [stock(text.ids[None]).logits[0].numpy() for text in texts]
        assert found == pytest.approx(np.stack(expected), abs=NEAR if row.precision == "int8" else systems.SAME)


def test_int8_weights_for_openvino_are_within_half_a_step_of_each_column(tmp_path: Path):
    stock = systems.build_stock(replace(SYSTEMS[REFERENCE], attention="eager"), SHAPE)
    onnx_model.write_openvino(stock, "float32", tmp_path / "float32.onnx")
    onnx_model.write_openvino(stock, "int8", tmp_path / "int8.onnx")
    plain, whole = ({tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
                    for path in (tmp_path / "float32.onnx", tmp_path / "int8.onnx"))  # fmt: skip
    changed = set(plain) - set(whole)
    assert len(changed) == 6 * 6  # query, key, value, output, up, down
    for name in changed:
        steps = np.abs(plain[name]).max(axis=0) / 127
        assert whole[f"{name}.int8"].dtype == np.int8
        assert (np.abs(whole[f"{name}.int8"] * whole[f"{name}.scale"] - plain[name]) <= 0.501 * steps).all()


def test_openvino_that_is_not_installed_is_left_out_with_one_line_and_refused_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(engine_options, "find_spec", lambda name: None)
    monkeypatch.setattr("eat.engines.precision._fault", lambda precision, device, stock: None)
    why = 'OpenVINO is not installed; pip install "eat-study[bench]"'
    found, skipped = engine_options.systems_of(options(systems=None), torch.device("cpu"))
    names = [name for name, reason in skipped.items() if reason == why]
    assert names == ["openvino-6", "openvino-bfloat16-6", "openvino-int8-6"]
    assert f"{', '.join(names)} are left out: {why}\n" in capsys.readouterr().err
    assert not {row.name for row in found} & set(names)
    with pytest.raises(EatError, match=r"^openvino-6: OpenVINO is not installed; "):
        engine_options.systems_of(options(systems=("openvino-6",)), torch.device("cpu"))


def test_openvino_in_bfloat16_is_measured_only_where_it_computes_in_it(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("openvino", reason=NO_OPENVINO)
    monkeypatch.setattr("eat.engines.precision._fault", lambda precision, device, stock: None)
    row, cpu = SYSTEMS["openvino-bfloat16-6"], torch.device("cpu")
    monkeypatch.setattr("openvino.Core.get_property", lambda *_: ["FP32", "INT8"])
    assert str(engine_options.obstacle(row, cpu)).startswith("OpenVINO has no bfloat16 on this processor (")
    monkeypatch.setattr("openvino.Core.get_property", lambda *_: ["FP32", "BF16"])
    assert engine_options.obstacle(row, cpu) is None


@pytest.mark.bench
def test_growth_fits_and_writes(tmp_path: Path):
    found = bench_growth(
        GrowthOptions(
            lengths=(16, 32, 48, 64, 512, 600),
            batch_sizes=(1, 2),
            batch_length=8,
            threads=1,
            rounds=2,
            seconds=0.0,
            memory_repeats=0,
            shape=SHAPE,
        )
    )
    table, fits = found.tables["growth"], found.tables["fits"]
    assert set(table["system"]) == set(GROWTH_SYSTEMS) == set(fits["system"])
    assert fits["exponent"].notna().all()
    assert list(found.tables["crossings"]["second"]) == ["window-blocks", "window", "window"]
    predicted = table[table["predicted_ms"].notna()]
    assert set(predicted["system"]) == {"dense", "window", "eat", "eat-all-leave"}
    write_findings(found, tmp_path / "out", "eat bench growth")
    assert {"growth.csv", "fits.csv", "crossings.csv", "raw.parquet"} <= set(os.listdir(tmp_path / "out"))


def test_equation_5_predicts_what_follows_it_exactly():
    lengths = (64, 128, 256, 512, 1024)
    k, c0, alpha, alpha_window, beta = 34, 1.0, 1e-5, 1e-5, 4e-3
    rows = []
    for name in ("dense", "window", "eat", "eat-all-leave"):
        for length in lengths:
            tokens = live_tokens(length, GROWTH_SYSTEMS[name])
            pairs = [count**2 * alpha if name == "dense" else count * k * alpha_window for count in tokens]
            ms = c0 + sum(pairs) + beta * sum(tokens)
            rows.append({"system": name, "against": "length", "size": length, "ms_p50": ms})
    found = growth._with_equations(pd.DataFrame(rows), GrowthOptions(lengths=lengths), SHAPE)
    assert found["prediction_error"].abs().max() < 1e-6


@pytest.mark.slow
def test_training_steps_start_from_equal_losses(tmp_path: Path):
    shape = replace(SHAPE, positions=128)
    found = bench_training(TrainingOptions(batch_size=4, layers=2, threads=(1,), rounds=1, seconds=0.0, shape=shape))
    table = found.tables["training"]
    assert list(table["system"]) == [
        training.BASE,
        training.AGAIN,
        training.GROUPED,
        training.PACKED,
        training.PACKED_GROUPED,
    ]
    assert found.facts["loss_difference_at_step_1"] < 1e-4
    padding = table.set_index("system")["padding"]
    assert padding[training.BASE] > padding[training.GROUPED] > padding[training.PACKED] == 0.0
    write_findings(found, tmp_path / "out", "eat bench training")
    assert (tmp_path / "out" / "training.svg").read_text(encoding="utf-8").endswith("</svg>\n")


def test_training_losses_stay_equal_over_steps():
    still = replace(SHAPE, layers=2, dropout=0.0, attention_dropout=0.0, head_dropout=0.0)
    batches = training._batches(mixed_case(4, 200, 64), "arrival")
    packed, stock = training.packed_step(still, 1e-3), training.stock_step(still, 1e-3)
    assert [packed(batch) for batch in batches[:3]] == pytest.approx([stock(batch) for batch in batches[:3]], abs=1e-3)


def test_training_dropout_is_the_same_in_both():
    shape = replace(SHAPE, layers=2, dropout=0.3, attention_dropout=0.2, head_dropout=0.3)
    batch = training._batches(mixed_case(4, 200, 64), "arrival")[0]
    for step in (training.packed_step, training.stock_step):
        torch.manual_seed(0)
        first, again = step(shape, 0.0), step(shape, 0.0)
        assert first(batch) != again(batch)


# --- memory -------------------------------------------------------------------------------------------------------

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's record of Linux")


@linux
def test_a_peak_is_seen_though_it_is_given_back():
    kept: list[bytearray] = []
    peak = peak_of(lambda: len(bytearray(64 * 2**20)))
    assert peak is not None
    assert 60 < peak < 80
    held = peak_of(lambda: kept.append(bytearray(32 * 2**20)))
    assert held is not None
    assert 28 < held < 48


@linux
@pytest.mark.bench
def test_memory_is_that_of_each_case_alone():
    meter = Meter(SHAPE, 1)
    try:
        large, small = meter.measure(SYSTEMS["hf-eager-6"], [[[64] * 256], [[8]]])
        again = meter.measure(SYSTEMS["packed-6"], [[[64] * 256]])
        with pytest.raises(EatError, match="positions"):
            meter.measure(SYSTEMS["packed-6"], [[[65]]])
    finally:
        meter.close()
    assert isinstance(large, Memory)
    assert large.call_mb > small.call_mb + 10  # attention alone: 256 x 4 x 64 x 64 x 4 bytes = 16 MiB
    assert again[0].call_mb > 4
    assert not psutil.Process().children()


# --- processes ----------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_told_in_one_line():
    worker = Worker("eat.bench.onnx_worker")
    worker._process.kill()
    with pytest.raises(EatError, match=r"eat\.bench\.onnx_worker ended with status -9"):
        worker.ask("load", key="a", batches=[])
    worker.close()


def test_a_fault_of_a_worker_keeps_its_traceback():
    worker = Worker("eat.bench.onnx_worker")
    try:
        with pytest.raises(RuntimeError, match="Traceback"):
            worker.ask("answer", name="none", key="none")
        worker.ask("load", key="a", batches=[[[1, 2]]])  # and it goes on
    finally:
        worker.close()


# --- the command --------------------------------------------------------------------------------------------------

BAD = [
    ("engine --lengths 8,600", r"a length of 600 tokens, but the models have 512 positions"),
    ("engine --lengths 1", r"a length of 1; a text has at least 2 tokens"),
    ("engine --lengths 8,x", r"argument --lengths: '8,x' is not a list of whole numbers"),
    ("engine --lengths ,", r"no length is given"),
    ("engine --batch-sizes 0", r"a batch of 0; give at least 1"),
    ("engine --batch-sizes=-1", r"a batch of -1; give at least 1"),
    ("engine --systems hf-sdpa-7", r"unknown system hf-sdpa-7; known: hf-sdpa-6, "),
    (
        "engine --systems packed-float16-6",
        r"packed-float16-6: it computes in float16, which is for a GPU; use",
    ),
    ("engine --shape bert-large", r"'bert-large' is not a shape; known: minilm-6, bert-base"),
    ("engine --device gpu", r"--device: 'gpu' is not a device; known: auto, cuda, mps, cpu"),
    ("engine --threads 0", r"0 threads; give at least 1"),
    ("engine --rounds 0", r"0 rounds; give at least 1"),
    ("engine --model nowhere", r"nowhere: no config\.json"),
    ("engine --texts nowhere.txt --systems packed-6 --rounds 1", r"nowhere\.txt: no such file"),
    ("growth --systems packed-6", r"unknown system packed-6; known: hf-sdpa-6, dense"),
    ("growth --batch-sizes 0", r"a batch of 0"),
    ("growth --lengths 0", r"a length of 0"),
    ("growth --memory-repeats=-1", r"memory measured -1 times"),
    ("training --batch-size 0", r"a batch of 0"),
    ("training --threads 0", r"threads: 0"),
    ("training --dropout 1", r"dropout 1\.0; give at least 0 and less than 1"),
    ("nothing", r"invalid choice: 'nothing'"),
    ("engine --nothing", r"unrecognized arguments: --nothing"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_line_and_writes_nothing(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    # a mistake that is only seen with the models built need not build them at full size here
    monkeypatch.setattr(EngineOptions, "shape", replace(SHAPE, positions=512))
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", *line.split()])
    assert ended.value.code == 1
    captured = capsys.readouterr()
    (told,) = [part for part in captured.err.replace("\r", "\n").splitlines() if part.startswith("error")]
    assert re.search(message, told), told
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(SystemExit):
        cli.main(["bench", "engine", "--out", str(tmp_path)])
    assert "contains other files than a result of `eat bench engine`" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "precious"
    with pytest.raises(EatError, match="is a file"):
        check_folder(tmp_path / "thesis.txt", "engine")
    with pytest.raises(EatError, match="is a file"):
        check_folder(tmp_path / "thesis.txt" / "below", "engine")
    (tmp_path / "other").mkdir()
    check_folder(tmp_path / "other", "engine")
    (tmp_path / "other" / "run.json").write_text(json.dumps({"bench": "growth"}), encoding="utf-8")
    with pytest.raises(EatError, match="contains other files"):
        check_folder(tmp_path / "other", "engine")
    check_folder(tmp_path / "other", "growth")


def test_nothing_is_left_where_the_figure_cannot_be_drawn(tmp_path: Path):
    found = bench_training(TrainingOptions(batch_size=2, layers=1, threads=(1,), rounds=1, seconds=0.0, shape=SHAPE))

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_findings(replace(found, draw=fail), tmp_path / "out", "eat")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


INTERRUPTED = """
import collections, itertools, os, subprocess, sys, time
sys.path.insert(0, {root!r})
from eat import cli, interrupts, progress
from eat.commands import bench
interrupts.GRACE_SECONDS = 5.0
progress.EVERY_SECONDS = 3600.0
bench.quiet_libraries = lambda: None
def measured(options):
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -{number} {{os.getpid()}}"])
    {call}
bench._measured = measured
cli.main(["bench", "growth", "--out", "out"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "status", "line"),
    [
        ("time.sleep(60)", cli.INTERRUPTED, "interrupted; nothing was written"),
        ("os.read(os.pipe()[0], 1)", cli.INTERRUPTED, "interrupted; nothing was written"),
        (
            "collections.deque(itertools.repeat(0), maxlen=0)",
            -signal.SIGKILL,
            "error: it did not end within",
        ),
    ],
)
@pytest.mark.parametrize("number", ["TERM", "HUP"])
def test_an_interrupt_writes_nothing(tmp_path: Path, number: str, call: str, status: int, line: str):
    script = INTERRUPTED.format(root=str(Path(__file__).parent.parent), number=number, call=call)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_command_prints_a_table_and_says_where_the_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    seen: list[EngineOptions] = []

    def small(given: EngineOptions) -> object:
        seen.append(given)
        return bench_engine(replace(given, shape=SHAPE, products=PRODUCT))

    monkeypatch.setattr(engine, "bench_engine", small)
    monkeypatch.setattr("eat.bench.results.PACKAGES", ("torch", "not-installed"))
    line = ["bench", "engine", "--systems", "packed-6", "--lengths", "8,16", "--batch-sizes", "1", "--rounds", "1"]
    cli.main([*line, "--threads", "1", "--no-memory", "--out", str(tmp_path / "out")])
    assert seen[0].lengths == (8, 16)
    captured = capsys.readouterr()
    assert "### 8 tokens, batch 1 (1 rounds)" in captured.out
    assert f"Written to {tmp_path / 'out'}." in captured.out
    run = read_json(tmp_path / "out" / "run.json")
    assert run["command"].startswith("eat bench engine --systems packed-6 --lengths 8,16")
    assert {"cpu", "cores"} <= set(run["machine"])
    assert run["versions"]["torch"] and run["versions"]["not-installed"] is None
    assert "not-installed" not in (tmp_path / "out" / "engine.md").read_text(encoding="utf-8")


def test_the_documented_run_is_what_is_run_without_options():
    parser = cli._parser()
    given = parser.parse_args(["bench", "engine"])
    documented = EngineOptions()
    for name in ("systems", "lengths", "batch_sizes", "threads", "rounds", "seconds", "mixed_lengths"):
        assert getattr(given, name) == getattr(documented, name), name
    for kind, defaults in (("growth", GrowthOptions()), ("training", TrainingOptions())):
        given = parser.parse_args(["bench", kind])
        for name, value in vars(defaults).items():
            if hasattr(given, name):
                assert getattr(given, name) == value, (kind, name)


def test_help_needs_no_heavy_import():
    code = (
        "import sys; from eat import cli\n"
        "try: cli.main(['bench', 'engine', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(sorted({'torch', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    root = Path(cli.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--mixed-lengths" in done.stdout


# --- the machine --------------------------------------------------------------------------------------------------


def test_work_of_a_child_is_not_foreign():
    before = machine._own_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.4: pass"], check=True)
    assert machine._own_seconds() - before > 0.35
    with ForeignLoad() as load:
        time.sleep(0.1)
    assert load.share >= 0.0
    assert machine.machine_facts()["cores"]
