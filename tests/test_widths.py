"""Widths of one set of weights (DynaBERT): what a narrow form keeps, computes and costs, and the order behind it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor

from eat.engines.engine import LoadedModel
from eat.engines.registry import engine_of
from eat.errors import EatError
from eat.finetune.widths import Importance, evenly_spaced, importance, reorder, rewire, run_at_width
from eat.model.batch import PackedBatch
from eat.model.cascade import load_system
from eat.model.encoder import PackedEncoder
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.options import Parts, Precision
from eat.model.shape import Shape
from eat.model.weights import to_stock
from eat.model.widths import layer_tensors, narrow_shape, narrow_tensors
from eat.results.flops import flops
from eat.trace.recording import trace_texts

LENGTHS = [9, 4, 17, 12, 3, 20]
CPU = torch.device("cpu")
SMALL = Shape(hidden=4, layers=1, heads=2, intermediate=3)


def numbered() -> dict[str, Tensor]:
    """The tensors of one layer of two heads of width 2 and three neurons; each value is its number in its tensor."""
    shapes = {"qkv.weight": (12, 4), "qkv.bias": (12,), "attention_output.weight": (4, 4), "up.weight": (3, 4)}
    shapes |= {"up.bias": (3,), "down.weight": (4, 3)}
    return {f"layers.0.{name}": torch.arange(np.prod(shape)).reshape(shape) for name, shape in shapes.items()}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a random model of four heads of width 8 and 64 neurons a layer."""
    tiny.model(last_head="bert").save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path)
    return tmp_path


# --- which weights a width has ------------------------------------------------------------------------------------


def test_a_width_has_the_first_heads_and_neurons():
    """At 1/2, of two heads the first, and of three neurons the first two."""
    assert narrow_shape(SMALL, 0.5) == Shape(hidden=4, layers=1, heads=1, intermediate=2, head_size=2)
    found = {name.removeprefix("layers.0."): tensor for name, tensor in narrow_tensors(numbered(), SMALL, 0.5).items()}
    # the rows of the first head: 0 and 1 of the query, 4 and 5 of the key, 8 and 9 of the value
    assert found["qkv.bias"].tolist() == [0, 1, 4, 5, 8, 9]
    assert found["qkv.weight"][:, 0].tolist() == [0, 4, 16, 20, 32, 36]
    assert found["attention_output.weight"].tolist() == [[0, 1], [4, 5], [8, 9], [12, 13]]
    assert found["up.weight"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] and found["up.bias"].tolist() == [0, 1]
    assert found["down.weight"].tolist() == [[0, 1], [3, 4], [6, 7], [9, 10]]


def test_another_order_moves_whole_heads_and_neurons():
    found = layer_tensors(numbered(), SMALL, 0, torch.tensor([1, 0]), torch.tensor([2, 0, 1]))
    assert found["layers.0.qkv.bias"].tolist() == [2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9]
    assert found["layers.0.attention_output.weight"][0].tolist() == [2, 3, 0, 1]
    assert found["layers.0.up.bias"].tolist() == [2, 0, 1]
    assert found["layers.0.down.weight"][0].tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("width", "heads", "neurons"), [(1.0, 12, 1536), (0.75, 9, 1152), (0.5, 6, 768), (0.25, 3, 384), (0.07, 1, 108)]
)
def test_shares_are_rounded_up(width: float, heads: int, neurons: int):
    """0.07 x 12 = 0.84 and 0.07 x 1536 = 107.52; a width of a width has heads of the same size."""
    shape = narrow_shape(Shape(hidden=384, heads=12, intermediate=1536), width)
    assert (shape.heads, shape.intermediate, shape.size_of_head) == (heads, neurons, 32)
    assert narrow_shape(shape, 0.5).size_of_head == 32
    assert narrow_shape(Shape(intermediate=100), 0.07).intermediate == 7


@pytest.mark.parametrize("width", [0.75, 0.5, 0.25])
def test_a_narrow_model_is_the_whole_one_without_the_other_heads_and_neurons(saved: Path, width: float):
    """Heads and neurons whose output is multiplied by zero do not exist."""
    narrow, whole = load_model(saved, Parts(width=width)), load_model(saved)
    assert [narrow.config.shape[key] for key in ("heads", "head_size", "hidden")] == [4 * width, 8, 32]
    with torch.no_grad():
        for layer in whole.encoder.layers:
            layer.attention_output.weight[:, int(32 * width) :] = 0.0
            layer.down.weight[:, int(64 * width) :] = 0.0
    batch = tiny.batch(LENGTHS)
    with torch.inference_mode():
        torch.testing.assert_close(narrow.run(batch).logits, whole.run(batch).logits, atol=1e-5, rtol=1e-5)


def test_a_narrow_model_is_saved_and_loaded_as_any_other(saved: Path, tmp_path: Path):
    narrow = load_model(saved, Parts(width=0.5))
    narrow.save_pretrained(tmp_path / "narrow")
    batch = tiny.batch(LENGTHS)
    with torch.inference_mode():
        expected = narrow.run(batch).logits
        for again in (
            EatForSequenceClassification.from_pretrained(tmp_path / "narrow"),
            load_model(tmp_path / "narrow"),
        ):
            assert torch.equal(again.eval().run(batch).logits, expected)
    with pytest.raises(EatError, match=r"this model has 2 of 8 in layers of 32; use the full width"):
        to_stock(narrow.encoder, tiny.UNNAMED)


# --- engines, traces, costs ---------------------------------------------------------------------------------------


def loaded(folder: Path, width: float, engine: str = "torch", precision: Precision = "float32") -> LoadedModel:
    return engine_of(engine).load([folder], Parts(width=width, precision=precision), CPU)


@pytest.mark.parametrize("width", [0.75, 0.25])
def test_every_engine_runs_a_width(saved: Path, width: float):
    texts = tiny.texts(LENGTHS)
    expected = load_model(saved, Parts(width=width)).run(PackedBatch.of(texts)).logits
    packed = loaded(saved, width).runner(ExitPolicy())(texts)
    exported = loaded(saved, width, "onnx").runner(ExitPolicy())(texts)
    rounded = loaded(saved, width, "onnx", "int8").runner(ExitPolicy())(texts)
    torch.testing.assert_close(packed.logits(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(exported.logits(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rounded.logits(), expected, atol=0.3, rtol=0.0)
    assert packed.flops() == pytest.approx(exported.flops()) == pytest.approx(rounded.flops())
    full_depth = loaded(saved, width, "onnx").full_depth(texts)
    np.testing.assert_allclose(full_depth.logits[4], expected.detach(), atol=1e-4)


def test_the_operations_and_weights_of_a_width(saved: Path):
    """Of a text of t tokens at 1/2: heads of width e = 16 together, m = 32 neurons, d = 32."""
    t, d, e, m = 9, 32, 16, 32
    model = loaded(saved, 0.5)
    trace = trace_texts(model, tiny.texts([t]), ["a"], np.zeros(1, np.int64))
    layer = 2 * t * d * 3 * e + 2 * t * e * d + 2 * 2 * t * t * e + 2 * 2 * t * d * m
    last_head = 2 * d * d + 2 * d * 2
    found = flops(trace, np.array([4]), [4])
    # the last layer computes its feed-forward part and output for [CLS] alone, which the count leaves out
    assert found[0] == 4 * layer + last_head
    assert model.runner(ExitPolicy())(tiny.texts([t])).flops() == 4 * layer + last_head
    whole, narrow = (loaded(saved, width).shape() for width in (1.0, 0.5))
    # query, key, value and output have 4 d (d - e) weights less, the feed-forward part 2 d (64 - m), biases apart
    saved_weights = 4 * (4 * d * (d - e) + 3 * (d - e) + 2 * d * (64 - m) + (64 - m))
    assert whole["parameters"] - narrow["parameters"] == saved_weights
    assert "layer_widths" not in whole and narrow["layer_widths"] == [(e, m)] * 4


def test_a_cascade_of_widths_runs_the_weights_of_one_folder(saved: Path):
    parts = Parts(exits=[4, 8], member_widths=[0.25, 0.5, 1.0])
    texts = tiny.texts(LENGTHS)
    ids, labels = [str(row) for row in range(6)], np.zeros(6, np.int64)
    traces = [
        trace_texts(engine_of(engine).load([saved] * 3, parts, CPU), texts, ids, labels) for engine in ("torch", "onnx")
    ]
    for place, width in enumerate(parts.member_widths, start=1):
        alone = trace_texts(loaded(saved, width), texts, ids, labels)
        for trace in traces:
            np.testing.assert_allclose(trace.logits[4 * place], alone.logits[4], atol=1e-4)
    # a text that exits after the second width has paid for the first two
    costs = [flops(trace_texts(loaded(saved, width), texts, ids, labels), np.full(6, 4), [4]) for width in (0.25, 0.5)]
    for trace in traces:
        np.testing.assert_allclose(flops(trace, np.full(6, 8), [4, 8, 12]), costs[0] + costs[1])
    system = load_system([saved] * 3, parts)
    policy = ExitPolicy(("confidence",), {4: 0.0, 8: 0.0})
    engine = engine_of("torch").load([saved] * 3, parts, CPU)
    assert engine.runner(policy)(texts).flops() == pytest.approx(costs[0].sum())
    assert [member.shape.heads for member in system.members] == [1, 2, 4]


# --- the order of importance --------------------------------------------------------------------------------------


def scaled_loss(encoder: PackedEncoder, scale: Callable[[], Any], batch: PackedBatch, labels: Tensor) -> float:
    """The loss of an encoder after a change of its weights, which is undone."""
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    with torch.no_grad():
        scale()
        loss = F.cross_entropy(encoder(batch).logits, labels).item()
        for name, parameter in encoder.named_parameters():
            parameter.copy_(before[name])
    return loss


def test_importance_is_the_change_of_the_loss_if_a_part_is_scaled():
    """The slope of the loss in a factor of a head's output, or of a neuron's weights, by finite differences."""
    encoder = tiny.model(last_head="bert").double().encoder
    texts, labels, step = tiny.texts([7, 5, 9]), [0, 1, 1], 1e-5
    found = importance(encoder, texts, labels)
    batch, truth = PackedBatch.of(texts), torch.tensor(labels)

    def slope(scale: Callable[[float], Any]) -> float:
        above, below = (scaled_loss(encoder, partial(scale, factor), batch, truth) for factor in (1 + step, 1 - step))
        return abs(above - below) / (2 * step)

    def head(layer: int, number: int) -> Callable[[float], Any]:
        columns = encoder.layers[layer].attention_output.weight[:, 8 * number : 8 * number + 8]
        return columns.mul_

    def neuron(layer: int, number: int) -> Callable[[float], None]:
        def scale(factor: float) -> None:
            encoder.layers[layer].up.weight[number].mul_(factor)
            encoder.layers[layer].down.weight[:, number].mul_(factor)

        return scale

    for layer in (0, 3):
        for number in range(4):
            with torch.no_grad():
                expected = slope(head(layer, number))
            assert found.heads[layer, number].item() == pytest.approx(expected, rel=1e-4, abs=1e-8)
        for number in (0, 31, 63):
            with torch.no_grad():
                expected = slope(neuron(layer, number))
            assert found.neurons[layer, number].item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_importance_is_a_mean_over_batches(monkeypatch: pytest.MonkeyPatch):
    encoder = tiny.model(last_head="bert").encoder
    texts, labels = tiny.texts([7, 5, 9, 6]), [0, 1, 1, 0]
    halves = [importance(encoder, texts[part], labels[part]) for part in (slice(0, 2), slice(2, 4))]
    monkeypatch.setattr("eat.finetune.widths.BATCH", 2)
    found = importance(encoder, texts, labels)
    for place in (0, 1):
        torch.testing.assert_close(found[place], (halves[0][place] + halves[1][place]) / 2)


def test_the_most_important_come_first_and_the_function_stays():
    model = tiny.model(last_head="bert", exits=[2]).double()
    batch = tiny.batch(LENGTHS)
    before = {name: parameter.detach().clone() for name, parameter in model.encoder.named_parameters()}
    heads = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).expand(4, 4)
    neurons = torch.arange(64.0).expand(4, 64)
    with torch.inference_mode():
        expected = model.run(batch)
        reorder(model.encoder, Importance(heads, neurons))
        found = model.run(batch)
    for depth, logits in expected.exits.items():
        torch.testing.assert_close(found.exits[depth], logits, atol=1e-12, rtol=1e-12)
    layer = model.encoder.layers[1]
    # heads 1, 3, 2, 0, and the neurons from the last to the first
    values = before["layers.1.qkv.bias"][64:]
    assert torch.equal(layer.qkv.bias[64:], torch.cat([values[8 * head : 8 * head + 8] for head in (1, 3, 2, 0)]))
    assert torch.equal(layer.up.bias, before["layers.1.up.bias"].flip(0))
    assert torch.equal(layer.down.weight, before["layers.1.down.weight"].flip(1))


def test_only_labelled_texts_decide_the_order():
    encoder = tiny.model(last_head="bert").encoder
    examples = [
        {"text": text, "label": label} for text, label in zip(tiny.texts(LENGTHS), [0, -1, 1, -1, 0, 1], strict=True)
    ]
    labelled = [example for example in examples if example["label"] >= 0]
    expected = importance(encoder, [each["text"] for each in labelled], [each["label"] for each in labelled])
    rewire(encoder, examples)
    found = importance(encoder, [each["text"] for each in labelled], [each["label"] for each in labelled])
    for place in (0, 1):
        torch.testing.assert_close(
            found[place], expected[place].sort(dim=1, descending=True).values, atol=1e-5, rtol=1e-3
        )
    assert evenly_spaced(10, 4) == [0, 2, 5, 7] and evenly_spaced(3, 4) == [0, 1, 2]


# --- training -----------------------------------------------------------------------------------------------------


def test_the_forward_pass_of_training_is_that_of_the_narrow_model(saved: Path):
    whole, batch = load_model(saved), tiny.batch(LENGTHS)
    for width in (1.0, 0.5):
        output = run_at_width(whole.encoder, batch, width)
        assert torch.equal(output.logits, load_model(saved, Parts(width=width)).run(batch).logits)
    output.logits.sum().backward()
    layer = whole.encoder.layers[0]
    assert layer.heads == 4
    # the two first heads and the first 32 neurons learn, the others do not
    kept = [slice(0, 16), slice(32, 48), slice(64, 80)]
    assert all(layer.qkv.weight.grad[rows].abs().sum() > 0 for rows in kept)
    assert not any(layer.qkv.weight.grad[rows.start + 16 : rows.stop + 16].any() for rows in kept)
    assert layer.down.weight.grad[:, :32].any() and not layer.down.weight.grad[:, 32:].any()
    assert whole.encoder.embeddings.token.weight.grad.any()
