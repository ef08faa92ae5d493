"""The trace of a model: its counts against algorithm 1 by loop, its file, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from eat.engines.packed import PackedModel
from eat.engines.precision import prepare
from eat.errors import DamagedFile, EatError
from eat.model.attention import AttentionPattern
from eat.model.batch import PackedBatch
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.options import Attention, Parts
from eat.model.tokenizer import encode_split
from eat.results.trace import PER_LAYER, Trace
from eat.trace.recording import _batches_of_like_length, record_trace, trace_texts

LENGTHS = [17, 3, 24, 1, 9, 2, 30, 12, 12, 21, 6, 28]
NORM = {"kind": "norm", "after": [1, 3], "ratio": 0.3, "protect": ["cls"]}
DENSE = Attention().plain()
WINDOW = {"kind": "window", "left": 3, "right": 2}


def parts_of(**given: Any) -> Parts:
    """How weights are run: densely, but for what is given."""
    return Parts.model_validate({"attention": {"kind": "dense"}} | given)


def traced(model: EatForSequenceClassification, lengths: list[int] = LENGTHS) -> Trace:
    labels = np.arange(len(lengths), dtype=np.int64) % 2
    return trace_texts(PackedModel(model), tiny.texts(lengths), [f"{row:016x}" for row in range(len(lengths))], labels)


def require_same(found: Trace, expected: Trace) -> None:
    assert found.shape == expected.shape
    assert list(found.logits) == list(expected.logits)
    for depth, logits in expected.logits.items():
        np.testing.assert_array_equal(found.logits[depth], logits)
    for name in ("ids", "labels", "lengths", *PER_LAYER):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_counts_are_those_of_algorithm_1():
    trace = traced(tiny.model(exits=[2], reducer=NORM, attention=WINDOW))
    pattern = AttentionPattern(3, 2, True)
    for row, length in enumerate(LENGTHS):
        entering, passed = [], []
        now = length
        for layer in (1, 2, 3, 4):
            entering.append(now)
            now = 1 + math.ceil(7 * (now - 1) / 10) if layer in NORM["after"] else now
            passed.append(now)
        assert trace.attended[row].tolist() == trace.fed[row].tolist() == entering
        assert trace.alive[row].tolist() == passed
        assert trace.pairs[row].tolist() == [pattern.computed_pairs(tokens) for tokens in entering]
        assert trace.pattern_pairs[row].tolist() == [pattern.pattern_pairs(tokens) for tokens in entering]
    assert trace.lengths.tolist() == LENGTHS


def test_a_dense_model_computes_all_pairs_of_all_tokens_in_all_layers():
    trace = traced(tiny.model())
    every = np.repeat(np.array(LENGTHS)[:, None], 4, axis=1)
    for name, expected in (("attended", every), ("fed", every), ("alive", every), ("pairs", every**2)):
        np.testing.assert_array_equal(getattr(trace, name), expected)
    np.testing.assert_array_equal(trace.pattern_pairs, every**2)
    assert np.isposinf(trace.cut_margin).all()


def test_the_cut_margin_is_the_relative_gap_between_kept_and_removed():
    model = tiny.model(reducer=NORM)
    trace = traced(model)
    kept_whole = [1 + math.ceil(7 * (length - 1) / 10) == length for length in LENGTHS]  # 1, 2 and 3 tokens
    # removed after layers 1 and 3: layers 2 and 4 are the first to feel it
    assert np.isposinf(trace.cut_margin[:, [0, 2]]).all()
    assert np.isposinf(trace.cut_margin[:, 1]).tolist() == kept_whole
    assert (trace.cut_margin >= 0).all()
    # one text of 9 tokens: 8 norms after layer 1, of which ceil(.7 * 8) = 6 stay; again of 6, 5 after layer 3
    norms: list[torch.Tensor] = []
    for layer in (0, 2):
        model.encoder.layers[layer].output_norm.register_forward_hook(lambda *call: norms.append(call[2].norm(dim=1)))
    with torch.no_grad():
        model.run(PackedBatch.of([tiny.texts(LENGTHS)[4]]))
    for values, keep, layer in zip(norms, (6, 5), (2, 4), strict=True):
        ordered = values[1:].sort(descending=True).values
        gap = float((ordered[keep - 1] - ordered[keep]) / ordered[keep - 1])
        assert trace.cut_margin[4, layer - 1] == pytest.approx(gap, abs=1e-5)


def test_rows_keep_their_order_and_do_not_depend_on_their_company():
    model = tiny.model(exits=[1, 2], reducer=NORM, attention=WINDOW)
    together = traced(model)
    encoded = tiny.texts(LENGTHS)
    for row, text in enumerate(encoded):
        alone = trace_texts(PackedModel(model), [text], ["x"], np.zeros(1, np.int64))
        np.testing.assert_array_equal(alone.fed[0], together.fed[row])
        for depth in (1, 2, 4):
            np.testing.assert_allclose(alone.logits[depth][0], together.logits[depth][row], atol=1e-5)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 200))
def test_batches_hold_every_row_once_and_texts_of_like_length(lengths: list[int], tokens: int):
    array = np.array(lengths, dtype=np.int32)
    batches = _batches_of_like_length(array, tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert np.all(np.diff(array[np.concatenate(batches)]) >= 0)
    # a batch begins with the text that reaches a multiple of `tokens`, and ends before the next
    assert all(array[batch].sum() <= tokens + max(lengths) for batch in batches)


def test_the_shape_tells_what_flops_and_reports_need():
    model = tiny.model(exits=[1, 2], reducer=NORM, attention=WINDOW, read="mean", last_head="bert", classes=3)
    model.config.id2label = {0: "a", 1: "b", 2: "c"}
    assert traced(model).shape == {
        "layers": 4,
        "hidden": 32,
        "intermediate": 64,
        "heads": 4,
        "classes": 3,
        "exits": [1, 2, 4],
        "read": "mean",
        "last_head": "bert",
        "task": "classification",
        "precision": "float32",
        "device": "cpu",
        "reducer": NORM,
        "attention": WINDOW,
        # scores of norms are no matrix products; a head on one vector costs 2 d C, the pooler 2 d^2 more
        "scoring": {"1": [0.0, 0.0, 0.0], "3": [0.0, 0.0, 0.0]},
        "scoring_place": "layer_output",
        "head_operations": {"1": [192.0, 0.0, 0.0], "2": [192.0, 0.0, 0.0], "4": [192.0 + 2048.0, 0.0, 0.0]},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "labels": ["a", "b", "c"],
    }


@pytest.mark.parametrize("parts", [{}, {"exits": [1, 3], "reducer": NORM, "attention": WINDOW}], ids=["dense", "eat"])
def test_a_trace_survives_the_disk(parts: dict[str, Any], tmp_path: Path):
    trace = traced(tiny.model(**parts))
    trace.write(tmp_path / "dev.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev.json", "dev.parquet"]
    table = pd.read_parquet(tmp_path / "dev.parquet")
    heads = [f"logits_{depth}" for depth in trace.logits]
    assert list(table.columns) == ["id", "label", "length", *heads, *PER_LAYER]
    require_same(Trace.read(tmp_path / "dev.parquet"), trace)


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
def test_a_split_is_traced_from_its_folder(tmp_path: Path, pairs: bool):
    model = tiny.model(exits=[2], reducer=NORM, attention=DENSE)
    parts = parts_of(reducer=NORM, exits=[2])
    trace, table = recorded(model, parts, tmp_path, pairs)
    encoded = encode_split(tiny.tokenizer(), table, 16)
    shape = traced(model).shape | {"precision": "float32", "device": "cpu"}
    prepare(model.encoder, "float32")  # the same layout of the weights, so that sums are in the same order
    expected = trace_texts(PackedModel(model), encoded, list(table["id"]), table["label"].to_numpy(np.int64))
    require_same(trace, replace(expected, shape=shape))
    assert trace.lengths.max() == 16  # longer texts are cut
    assert any(text.types.any() for text in encoded) == pairs


def recorded(
    model: EatForSequenceClassification, parts: Parts, folder: Path, pairs: bool = False
) -> tuple[Trace, pd.DataFrame]:
    """The trace of a model that is run with these parts over a split of 16 texts, and the split."""
    model.save_pretrained(folder / "model")
    tiny.save_tokenizer(folder / "model")
    table = tiny.split(folder / "dev.parquet", rows=16, pairs=pairs)
    return record_trace([folder / "model"], parts, folder / "dev.parquet", tiny.UNNAMED, 16, "tiny"), table


def test_a_model_for_other_labels_or_another_order_is_refused(tmp_path: Path):
    # MNLI's classes are numbered in two orders on the hub: right answers of the one are wrong ones of the other
    model = tiny.model()
    model.config.id2label = {0: "entailment", 1: "contradiction"}
    model.save_pretrained(tmp_path / "model")
    tiny.save_tokenizer(tmp_path / "model")
    tiny.split(tmp_path / "dev.parquet", rows=16)
    parts = parts_of()
    arguments = [tmp_path / "model"], parts, tmp_path / "dev.parquet"
    record_trace(*arguments, ["entailment", "contradiction"], 16, "tiny")
    for labels in (["contradiction", "entailment"], ["entailment", "contradiction", "neutral"]):
        with pytest.raises(EatError, match=r"model: answers entailment, contradiction, but the text has the labels "):
            record_trace(*arguments, labels, 16, "tiny")


def test_weights_are_traced_with_other_parts_than_they_were_trained_with(tmp_path: Path):
    trained = tiny.model(exits=[1, 3], reducer=NORM, attention=WINDOW)
    parts = parts_of(exits=[3])
    trace, _ = recorded(trained, parts, tmp_path)
    assert list(trace.logits) == [3, 4]
    np.testing.assert_array_equal(trace.alive, np.repeat(trace.lengths[:, None], 4, axis=1))
    np.testing.assert_array_equal(trace.pairs, trace.attended**2)
    assert (trace.shape["reducer"], trace.shape["attention"]) == (
        {"kind": "none", "after": [], "ratio": 0.3, "protect": ["cls"]},
        DENSE,
    )
    # in no other respect: a model built so, with the same weights, says the same
    dense = tiny.model(exits=[3])
    dense.load_state_dict({name: trained.state_dict()[name] for name in dense.state_dict()})
    plain, _ = recorded(dense, parts, tmp_path / "dense")
    for depth in (3, 4):
        np.testing.assert_array_equal(trace.logits[depth], plain.logits[depth])


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_trace_is_of_the_precision_it_is_asked_for(tmp_path: Path, precision: str):
    parts = {"attention": WINDOW, "exits": [2]}
    model = tiny.model(exits=[2], attention=WINDOW)
    full, _ = recorded(model, parts_of(**parts), tmp_path)
    with tiny.any_precision():
        found, _ = recorded(model, parts_of(**parts, precision=precision), tmp_path)
    assert found.shape == full.shape | {"precision": precision}  # among it the number of parameters
    for depth in (2, 4):
        assert found.logits[depth].dtype == np.float32
        error = np.abs(found.logits[depth] - full.logits[depth]).max()
        assert 0 < error <= 0.15 * np.abs(full.logits[depth]).max()  # see RELATIVE in test_precision


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_precision_that_this_machine_refuses_is_not_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("eat.engines.precision._fault", lambda *_: "takes 7 times as long as float32")
    parts = parts_of(attention=WINDOW, exits=[2], precision="bfloat16")
    with pytest.raises(EatError, match=r"^precision bfloat16 takes 7 times as long as float32 on this processor \("):
        recorded(tiny.model(exits=[2]), parts, tmp_path)


@pytest.mark.parametrize("depth", [2, 4])
def test_logits_that_are_not_finite_are_an_error(depth: int):
    model = tiny.model(exits=[2])
    with torch.no_grad():
        model.encoder.exit_heads[str(depth)].classifier.bias[0] = torch.nan
    with pytest.raises(EatError, match=rf"the logits of exit {depth} are not finite for text {0:016x}; train again"):
        traced(model)


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def without_a_column(path: Path) -> None:
    pd.read_parquet(path).drop(columns="fed").to_parquet(path)


def with_nan(path: Path) -> None:
    table = pd.read_parquet(path)
    table["logits_4"] = [np.array([np.nan, 1.0], dtype=np.float32)] * len(table)
    table.to_parquet(path)


def nan_in_shape(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "parameters": math.nan}))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("dev.parquet", cut_in_half, "not a whole table"),
        ("dev.parquet", lambda path: path.write_bytes(b""), "not a whole table"),
        ("dev.parquet", Path.unlink, "no such file"),
        ("dev.parquet", without_a_column, "lacks the column fed"),
        ("dev.parquet", with_nan, "the logits of exit 4 hold NaN or infinity"),
        ("dev.json", cut_in_half, "not a whole JSON file"),
        ("dev.json", Path.unlink, "no such file"),
        ("dev.json", nan_in_shape, "it holds NaN"),
    ],
)
def test_a_damaged_trace_is_named(file: str, damage: Callable[[Path], object], message: str, tmp_path: Path):
    traced(tiny.model()).write(tmp_path / "dev.parquet")
    damage(tmp_path / file)
    with pytest.raises(DamagedFile, match=message) as error:
        Trace.read(tmp_path / "dev.parquet")
    assert str(tmp_path / file) in str(error.value)
    assert "\n" not in str(error.value)
