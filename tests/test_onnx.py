"""The ONNX form of each part answers as the packed forward pass does.

float32: logits within 1e-4 (those of a wide random head reach 40, and 1e-5 of that is added), the same executed depth
and kept tokens. The sums are in another order, so a choice may differ at a tie: texts within 1e-4 of one are left out.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tiny
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eat.engines.onnx import OnnxModel
from eat.engines.packed import PackedModel
from eat.engines.registry import engine_of
from eat.errors import EatError
from eat.model import heads_onnx
from eat.model.cascade import load_system
from eat.model.encoder_onnx import INPUTS, LAST_LAYER, RULE, operating_graph, products_of, trace_graph
from eat.model.exit_policy import ExitPolicy
from eat.model.graph_onnx import Graph
from eat.model.head_parts import READERS
from eat.model.options import Attention, Parts
from eat.model.products_onnx import Int8Products, quantize_columns
from eat.model.tokenizer import Encoded
from eat.results.replay import replay
from eat.results.trace import Trace
from eat.timing.agreement import tie_margin
from eat.trace.recording import trace_texts

CPU = torch.device("cpu")
LENGTHS = [1, 2, 3, 5, 8, 13, 27, 64]
TIE = 1e-4

LEARNED: dict[str, dict[str, Any]] = {
    "threshold": {"after": [1, 2, 3, 4], "final": 0.6, "temperature": 1e-3, "penalty": 0.1},
    "retention": {"after": [1, 2, 3], "longest": 40, "penalty": 0.1},
    "predictor": {
        "after": [1, 2, 4], "size": 8, "eta": 0.9, "saliency_weight": 0.1, "penalty": 0.1,
        "sharpness": 10.0, "growth": 10.0, "softness": 0.1,
    },
    "policy": {"after": [1, 2, 3], "size": 8},
    "merging": {"after": [1, 2, 4], "ratio": 0.45, "protect": ["cls", "sep"]},
}  # fmt: skip

REDUCERS: list[dict[str, Any]] = [
    {"kind": "none"},
    *(
        {"kind": kind, "after": [1, 3], "ratio": 0.4, "protect": protect}
        for kind, protect in product(["norm", "received", "random"], [["cls"], ["cls", "sep"], []])
    ),
    *({"kind": kind, **options} for kind, options in LEARNED.items()),
    {"kind": "threshold", **LEARNED["threshold"], "score": "mean"},
    {"kind": "threshold", **LEARNED["threshold"], "keep_at_least": 0.9},
    {"kind": "retention", **LEARNED["retention"], "protect": ["cls", "sep"]},
    {"kind": "policy", **LEARNED["policy"], "protect": ["cls", "sep"]},
    {"kind": "merging", **LEARNED["merging"], "protect": ["cls"]},
]

POLICIES = [
    ExitPolicy(),
    ExitPolicy(("confidence",), 0.6, {1: 1.3, 2: 0.7, 4: 2.0}),
    ExitPolicy(("confidence",), 1.0),
    ExitPolicy(("entropy",), 0.3),
    ExitPolicy(("agreement",)),
    ExitPolicy(("agreement",), patience=2),
    ExitPolicy(("confidence", "agreement"), 0.55),
    ExitPolicy(("confidence",), {1: 1.0, 2: 0.6, 3: 0.55}),
    ExitPolicy(("confidence",), {1: (0.55, 0.9), 2: (1.0, 0.6), 3: 0.55}),
    ExitPolicy(("margin",), 0.55),
    ExitPolicy(("margin",), {1: 1.0, 2: (0.5, 0.55), 3: (0.55, 0.5)}, patience=2),
]


def packed(reducer: dict[str, Any] | None = None, seed: int = 0, **parts: Any) -> PackedModel:
    """A random model whose reducer removes some tokens of most texts."""
    built = tiny.model(reducer=reducer, seed=seed, **parts)
    learned = {name.split(".")[-1]: values for name, values in built.encoder.reducer.named_parameters()}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, (low, high) in {
            "retention": (0, 1),
            "eta": (0.7, 1),
            "cls_factor": (0.3, 1),
            "theta": (0, 0.1),
        }.items():
            if name in learned:
                learned[name].uniform_(low, high, generator=generator)
    return PackedModel(built)


def traced(model: PackedModel | OnnxModel, texts: list[Encoded]) -> Trace:
    """The trace of these texts."""
    names = [f"{len(text.ids)} tokens" for text in texts]
    return trace_texts(model, texts, names, np.zeros(len(texts), dtype=np.int64))


def assert_same_trace(found: Trace, expected: Trace) -> None:
    """Logits, tokens and margins of every layer; the pairs of a window differ, since it is a mask here."""
    for depth, logits in expected.logits.items():
        np.testing.assert_allclose(found.logits[depth], logits, atol=1e-4, rtol=1e-5)
    for name in ("attended", "fed", "alive", "pattern_pairs"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    # a gap relative to a threshold near zero is large, and so is its rounding error
    np.testing.assert_allclose(found.cut_margin, expected.cut_margin, atol=1e-4, rtol=1e-3)


def assert_same_answers(model: PackedModel, policy: ExitPolicy, texts: list[Encoded], trace: Trace) -> None:
    """Logits, depth and kept tokens of the texts that are not at a tie, one at a time and together."""
    clear = [
        text
        for text, margin in zip(texts, tie_margin(trace, policy, replay(trace, policy)), strict=True)
        if margin > TIE
    ]
    if not clear:
        return
    with torch.inference_mode():
        expected = [model.runner(policy)([text]) for text in clear]
        run = OnnxModel(model, "float32").runner(policy)
        together, alone = run(clear), [run([text]) for text in clear]
    assert together.depth() == [one.depth()[0] for one in alone] == [one.depth()[0] for one in expected]
    assert together.tokens() == [one.tokens()[0] for one in expected]
    assert together.classes == [one.classes[0] for one in expected]
    torch.testing.assert_close(together.logits(), torch.cat([one.logits() for one in expected]), atol=1e-4, rtol=1e-5)
    probabilities = torch.cat([one.probabilities() for one in expected])
    torch.testing.assert_close(together.probabilities(), probabilities, atol=1e-4, rtol=0)


@pytest.mark.parametrize("window", [False, True], ids=["dense", "window"])
@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda entry: f"{entry['kind']}-{'-'.join(entry.get('protect', ''))}")
def test_every_reducer(reducer: dict[str, Any], window: bool):
    attention = {"kind": "window", "left": 3, "right": 5} if window else {"kind": "dense"}
    model = packed(reducer, exits=[1, 2, 3], attention=attention)
    texts = tiny.texts(LENGTHS, pairs=True)
    with torch.inference_mode():
        trace = traced(model, texts)
        assert_same_trace(traced(OnnxModel(model, "float32"), texts), trace)
    if reducer["kind"] != "none":
        assert (trace.alive[-1] < 64).any(), "this test removes nothing"
    assert_same_answers(model, POLICIES[1], texts, trace)


@pytest.mark.parametrize(
    "policy", POLICIES, ids=lambda policy: f"{'-'.join(policy.rule)}-{policy.tau}-{policy.patience}"
)
def test_every_rule(policy: ExitPolicy):
    model = packed({"kind": "norm", "after": [2], "ratio": 0.3}, exits=[1, 2, 3])
    texts = tiny.texts([length for length in LENGTHS for _ in range(4)])
    with torch.inference_mode():
        trace = traced(model, texts)
    if policy.may_exit:
        assert len(np.unique(replay(trace, policy).depth)) > 1, "this test exits at one depth only"
    assert_same_answers(model, policy, texts, trace)


@pytest.mark.parametrize(("head", "last_head"), [("linear", "distilbert"), ("mlp", "bert"), ("bert", "linear")])
@pytest.mark.parametrize("read", READERS)
def test_every_head(read: str, head: str, last_head: str):
    model = packed(exits=[2], read=read, head=head, last_head=last_head, classes=3)
    texts = tiny.texts(LENGTHS)
    with torch.inference_mode():
        trace = traced(model, texts)
    assert_same_answers(model, POLICIES[3], texts, trace)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("token_types", [0, 2])
def test_every_shape(activation: str, token_types: int):
    model = packed(activation=activation, token_types=token_types, classes=5, layers=2)
    texts = tiny.texts(LENGTHS)
    with torch.inference_mode():
        assert_same_trace(traced(OnnxModel(model, "float32"), texts), traced(model, texts))


@given(
    reducer=st.sampled_from(REDUCERS),
    left=st.integers(0, 70),
    right=st.integers(0, 70),
    exits=st.sets(st.integers(1, 3), min_size=1),
    read=st.sampled_from(list(READERS)),
    policy=st.sampled_from(POLICIES),
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=6),
    seed=st.integers(0, 100),
)
@settings(max_examples=25)
def test_drawn_configurations(
    reducer: dict[str, Any],
    left: int,
    right: int,
    exits: set[int],
    read: str,
    policy: ExitPolicy,
    lengths: list[int],
    seed: int,
):
    assume("agreement" not in policy.rule or len(exits) > policy.patience)
    assume({*policy.temperatures} <= {*exits, 4})
    window = {"kind": "window", "left": left, "right": right}
    model = packed(reducer, seed, exits=sorted(exits), attention=window, read=read)
    texts = tiny.texts(lengths, seed)
    with torch.inference_mode():
        trace = traced(model, texts)
        clear = [text for text, margin in zip(texts, trace.cut_margin.min(axis=1), strict=True) if margin > TIE]
        if clear:
            assert_same_trace(traced(OnnxModel(model, "float32"), clear), traced(model, clear))
    assert_same_answers(model, policy, texts, trace)


def test_long_texts():
    model = packed({"kind": "norm", "after": [1, 2], "ratio": 0.3}, exits=[1, 2, 3], positions=512)
    texts = tiny.texts([511, 512, 300])
    with torch.inference_mode():
        trace = traced(model, texts)
        assert_same_trace(traced(OnnxModel(model, "float32"), texts), trace)
    assert_same_answers(model, POLICIES[1], texts, trace)


def test_a_cascade(tmp_path: Path):
    for name, layers in (("small", 2), ("large", 4)):
        tiny.model(layers=layers, seed=layers, last_head="bert").save_pretrained(tmp_path / name)
        tiny.save_tokenizer(tmp_path / name)
    model = PackedModel(load_system([tmp_path / "small", tmp_path / "large"], Parts(exits=[2])))
    texts = tiny.texts([length for length in LENGTHS for _ in range(3)])
    policy = ExitPolicy(("confidence",), 0.9)
    with torch.inference_mode():
        trace = traced(model, texts)
        assert_same_trace(traced(OnnxModel(model, "float32"), texts), trace)
    assert set(replay(trace, policy).depth) == {2, 6}
    assert_same_answers(model, policy, texts, trace)


def session(model: PackedModel, policy: ExitPolicy, precision: str = "float32") -> onnxruntime.InferenceSession:
    """The graph with the runtime's own defaults, as a user opens it."""
    return onnxruntime.InferenceSession(
        operating_graph(model.encoder, policy, products_of(model.encoder, precision)).SerializeToString()
    )


def test_the_operating_point_is_an_input_with_a_default():
    model = packed(exits=[1, 2, 3], classes=3)
    opened = session(model, ExitPolicy(("confidence",), 0.01))
    feeds = {"ids": tiny.texts([9])[0].ids.numpy(), "types": np.zeros(9, dtype=np.int64)}

    def outputs(**others: np.ndarray) -> dict[str, np.ndarray]:
        names = [output.name for output in opened.get_outputs()]
        return dict(zip(names, opened.run(None, {**feeds, **others}), strict=True))

    first = outputs()
    assert first["depth"] == [1] and first["reason"] == [RULE] and list(first["kept"]) == list(range(9))
    assert list(first["fed"]) == [9]
    # a threshold of 1 never fires, even if a probability rounds to 1
    sharp = outputs(thresholds=np.ones((4, 3), np.float32), temperatures=np.full(4, 1e-4, np.float32))
    assert sharp["depth"] == [4] and sharp["reason"] == [LAST_LAYER] and sharp["probabilities"].max() == 1.0
    # the threshold is that of the most probable class
    only = np.ones((4, 3), np.float32)
    only[0, first["probabilities"].argmax()] = 0.01
    assert outputs(thresholds=only)["depth"] == [1]
    assert outputs(thresholds=1.01 - only)["depth"] == [1 if first["probabilities"].max() >= 1 else 2]


def test_a_text_with_nan_runs_to_the_end():
    model = packed(exits=[1, 2, 3])
    with torch.no_grad():
        model.encoder.layers[0].qkv.weight[0, 0] = float("nan")
    for policy in POLICIES[1:]:
        assert OnnxModel(model, "float32").runner(policy)(tiny.texts([9])).depth() == [4]


def test_int8_does_not_depend_on_other_texts():
    model = packed(exits=[1, 2, 3])
    run = OnnxModel(model, "int8").runner(POLICIES[1])
    texts = tiny.texts([30, 5, 12])
    together, alone = run(texts), [run([text]) for text in texts]
    assert torch.equal(together.logits(), torch.cat([one.logits() for one in alone]))


@pytest.mark.parametrize("weights", ["uniform", "1111", "0110", "1001", "1010"])
def test_int8_sums_are_exact_on_this_processor(weights: str):
    """The product equals that of the quantised integers in int64, even with all weights at their largest.

    0110: of four inputs only the middle two have a weight. The largest weights, 127, are allowed there, and a processor
    that added others than (0, 1), (2, 3) and so on would saturate.
    """
    generator = np.random.default_rng(0)
    weight = generator.uniform(-1.0, 1.0, (64, 32)).astype(np.float32)
    x = generator.uniform(-1.0, 3.0, (1, 27, 64)).astype(np.float32)
    if weights != "uniform":
        weight = np.ones_like(weight) * np.tile([float(digit) for digit in weights], 16)[:, None].astype(np.float32)
        x = np.full_like(x, 3.0)
    graph = Graph()
    linear = torch.nn.Linear(64, 32, bias=False)
    linear.weight.data = torch.from_numpy(weight.T.copy())
    found = Int8Products().product(graph, "w", linear, "x")
    shape = [1, 27, "width"]
    made = graph.model({"x": (np.float32, shape)}, {"y": (found, np.float32, shape)})
    (y,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})
    quantized = quantize_columns(weight)
    # the operator DynamicQuantizeLinear of ONNX: 0 is always in the range
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / scale), 0, 255).astype(np.int64)
    whole = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int64) - zero
    exact = (whole @ quantized.whole.astype(np.int64)) * (scale * quantized.scale)
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)


def test_a_channel_that_is_much_larger_than_the_others_is_equalised():
    """One of 64 channels is 30 times as large: without scales the others keep 3 bits, and the logits are far off."""
    model, texts = packed(exits=[2]), tiny.texts([60, 5, 12, 20, 30, 40, 50, 9, 7, 3])
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.attention_norm.weight[3], layer.up.weight[:, 3] = 30.0, layer.up.weight[:, 3] / 30.0
            # the residual connection carries the channel on to a norm, where it would drown the others
            layer.output_norm.weight[3] = 0.0
    scales = products_of(model.encoder, "int8").scales
    assert {name.split(".")[2] for name in scales} <= {"up", "down"}
    for depth in (1, 2, 3, 4):
        assert scales[f"layers.{depth}.up"][3] >= 4 * np.median(scales[f"layers.{depth}.up"])
    exact = OnnxModel(model, "float32").full_depth(texts).logits[4]

    def error(products: Int8Products) -> float:
        graph = trace_graph(model.encoder, products).model.SerializeToString()
        run = onnxruntime.InferenceSession(graph).run
        feeds = [dict(zip(INPUTS, (part.numpy() for part in text), strict=True)) for text in texts]
        return float(np.abs(np.stack([run(["logits"], feed)[0][-1] for feed in feeds]) - exact).mean())

    assert error(Int8Products(scales)) < error(Int8Products()) / 2


def test_int8_is_near_float32():
    """Each product is 1 to 2 % off. Of random weights, 4 of 5 answers in a model of 4 layers stay the same."""
    model, texts = packed(exits=[1, 2, 3]), tiny.texts([60, 5, 12, 20, 30, 40, 50, 9, 7, 3])
    whole, exact = (traced(OnnxModel(model, precision), texts) for precision in ("int8", "float32"))
    for depth, logits in exact.logits.items():
        assert (whole.logits[depth].argmax(axis=1) == logits.argmax(axis=1)).mean() >= 0.8
        assert (whole.logits[depth] != logits).any(), "int8 computes in float32"


@pytest.mark.parametrize(("forms", "part"), [("READERS", "mean"), ("ACTIVATIONS", "mlp")])
def test_a_part_of_a_head_without_an_onnx_form_is_refused(forms: str, part: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(getattr(heads_onnx, forms), part)
    model = packed(exits=[2], read="mean", head="mlp")
    with pytest.raises(EatError, match=f"^the part '{part}' of a head has no ONNX form; parts with one: "):
        operating_graph(model.encoder, POLICIES[1], products_of(model.encoder, "float32"))


def test_what_the_engine_has_not_is_refused():
    engine = engine_of("onnx")
    assert engine.refusal("float32", CPU) is None and engine.refusal("int8", CPU) is None
    assert engine.refusal("bfloat16", CPU) == "precision bfloat16 in the engine onnx; it has float32, int8"
    reason = "the engine onnx on cuda; it runs on the CPU: set the device to cpu"
    assert engine.refusal("int8", torch.device("cuda")) == reason
    with pytest.raises(EatError, match="the precision float16 has no ONNX form; precisions with one: float32, int8"):
        products_of(packed().encoder, "float16")


def test_a_folder_of_a_study_loads(tmp_path: Path):
    tiny.model(exits=[2]).save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path)
    model = engine_of("onnx").load([tmp_path], Parts(exits=[2], attention=Attention(), precision="int8"), CPU)
    shape = model.shape()
    assert (shape["engine"], shape["precision"], model.exits) == ("onnx", "int8", [2, 4])


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_branch_holds_the_weights_of_its_products(precision: str) -> None:
    """In a branch within a branch ONNX Runtime packs only these when it loads the model; others in every call."""
    model = packed(exits=[1, 2, 3])
    graph = operating_graph(
        model.encoder, ExitPolicy(("confidence",), 0.6), products_of(model.encoder, precision)
    ).graph
    depth = 0
    while True:
        held = {weight.name for weight in graph.initializer}
        products = [node for node in graph.node if "MatMul" in node.op_type or "Attention" in node.op_type]
        weights = {name for node in products for name in node.input if name.endswith((".weight", ".whole"))}
        assert weights and weights <= held
        branches = [node for node in graph.node if node.op_type == "If"]
        if not branches:
            break
        graph = next(one.g for one in branches[0].attribute if one.name == "else_branch")
        depth += 1
    assert depth == 3


def test_a_weight_is_held_once_by_the_branches_around_its_uses() -> None:
    graph = Graph()
    graph.weight("outer", np.zeros(2, np.float32))
    taken = graph.branch(
        "condition",
        lambda: [graph.op("Identity", graph.weight("outer", np.ones(2, np.float32)))],
        lambda: [graph.op("Identity", graph.weight("inner", np.ones(2, np.float32)))],
    )
    made = graph.model({"condition": (np.bool_, [])}, {"taken": (taken[0], np.float32, [2])})
    assert [weight.name for weight in made.graph.initializer] == ["outer"]
    bodies = {one.name: one.g for one in made.graph.node[0].attribute}
    assert [weight.name for weight in bodies["then_branch"].initializer] == []
    assert [weight.name for weight in bodies["else_branch"].initializer] == ["inner"]
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    for condition, expected in ((True, [0.0, 0.0]), (False, [1.0, 1.0])):
        np.testing.assert_array_equal(session.run(None, {"condition": np.array(condition)})[0], expected)
