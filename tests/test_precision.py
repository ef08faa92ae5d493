"""What a floating-point precision does to a model: it answers as it did, or nearly."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from eat.engines import precision as precisions
from eat.engines.precision import PRECISIONS, prepare, prepare_stock, refusal
from eat.engines.probe import slowdown
from eat.engines.registry import require_usable
from eat.engines.setting import training_fault
from eat.errors import EatError
from eat.model.encoder import ACTIVATIONS, EncoderLayer
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification
from eat.processor import cpu_name

LENGTHS = [17, 3, 24, 1, 9, 12]
PARTS: dict[str, Any] = {
    "exits": [1, 2],
    "reducer": {"kind": "random", "after": [1, 3], "ratio": 0.3},  # removes the same tokens in every precision
    "attention": {"kind": "window", "left": 3, "right": 2},
}
RULES = ("confidence", "entropy", "agreement")

RELATIVE = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.1}
"""How far the logits may be from those of float32, as a part of the largest of them.

float32: only the layout of the weights changes, and with it the order of sums of up to 64 terms. The others round every
result by up to 2^-12 or 2^-9 of it; errors of some 30 operations that follow one another, on weights 15 times as wide
as usual. Of 18 random models the farthest was at 0.006 and 0.04.
"""


@pytest.fixture(autouse=True)
def no_gradients():
    """As in tracing and timing: what is prepared is for inference alone."""
    with torch.inference_mode():
        yield


def linear(inputs: int, outputs: int, bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs, bias)


def tokens(count: int, width: int, seed: int = 0) -> Tensor:
    """Random activations whose rows differ by several orders of magnitude; (n, k)."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10.0 ** torch.linspace(-3, 3, count)
    return torch.randn(count, width, generator=generator) * sizes[:, None]


# --- a model ------------------------------------------------------------------------------------------------------


def logits_of(model: EatForSequenceClassification, lengths: list[int] = LENGTHS) -> Tensor:
    """Of every exit and text; (exits, B, C)."""
    return torch.stack(list(model.run(tiny.batch(lengths)).exits.values()))


@pytest.mark.parametrize("parts", [{}, {"last_head": "bert", "read": "mean"}, PARTS], ids=["dense", "bert", "eat"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_prepared_model_answers_as_before_within_its_precision(precision: str, parts: dict[str, Any]):
    model = tiny.model(**parts)
    before = logits_of(model)
    model.train()
    prepare(model.encoder, precision)
    assert not model.encoder.training
    after = logits_of(model)
    assert after.dtype == {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision, torch.float32)
    assert (after.float() - before).abs().max() <= RELATIVE[precision] * before.abs().max()


def products_of(model: EatForSequenceClassification) -> dict[str, Any]:
    """What stands in each layer for its matrix products, by their names."""
    layers = model.encoder.layers
    return {f"{number}.{part}": getattr(layer, part) for number, layer in enumerate(layers) for part in PRODUCTS}


PRODUCTS = ("qkv", "attention_output", "up", "down")


def test_a_layer_has_four_products():
    layer = tiny.model().encoder.layers[0]
    assert isinstance(layer, EncoderLayer)
    assert {name for name, module in layer.named_children() if isinstance(module, nn.Linear)} == set(PRODUCTS)


@pytest.mark.parametrize("with_onednn", [True, False], ids=["onednn", "plain"])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_product_and_its_activation_are_those_of_the_modules(
    precision: str, activation: str | None, with_onednn: bool, monkeypatch: pytest.MonkeyPatch
):
    if not with_onednn:
        monkeypatch.setattr("eat.engines.precision._onednn_computes", lambda weight: False)
    dtype = PRECISIONS[precision]
    module = linear(384, 100).to(dtype)
    product = precisions._product(module, activation)
    # sums of 384 terms in another order, rounded to 24, 11 or 8 bits once
    allowed = {"float32": 1e-5, "float16": 2.0**-9, "bfloat16": 2.0**-6}[precision]
    for count in (1, 3, 16, 65, 131, 160):  # rows beyond 128 are rounded up
        x = tokens(count, 384).div(1000).to(dtype)
        expected = module.float()(x.float())
        if activation is not None:
            expected = ACTIVATIONS[activation](expected)
        found = product(x)
        assert (found.dtype, found.shape) == (dtype, expected.shape)
        assert ((found.float() - expected).abs() <= allowed * (1 + expected.abs().amax(dim=1, keepdim=True))).all()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_converts_everything(precision: str):
    model = tiny.model(**PARTS)
    prepare(model.encoder, precision)
    dtype = getattr(torch, precision)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}  # embeddings and heads
    x = torch.randn(5, model.encoder.shape.hidden).to(dtype)
    for layer in model.encoder.layers:
        assert {layer.qkv(x).dtype, layer.feed(x.clone()).dtype, layer.attention_norm(x).dtype} == {dtype}


@pytest.mark.parametrize("kind", ["norm", "received", "random"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_prepared_model_leaves_early_and_removes_tokens(precision: str, kind: str):
    reducer = {"kind": kind, "after": [1, 3], "ratio": 0.3, "protect": ["cls", "sep"]}
    model = tiny.model(**PARTS | {"reducer": reducer}, read="mean")
    before = {rule: model.run(tiny.batch(LENGTHS), ExitPolicy((rule,), 0.5)) for rule in RULES}
    prepare(model.encoder, precision)
    for rule in RULES:
        after = model.run(tiny.batch(LENGTHS), ExitPolicy((rule,), 0.5))
        assert after.work[0].fed == sorted(LENGTHS)  # the shortest first
        assert after.work[0].alive == before[rule].work[0].alive  # how many, by rule; which, by precision
        if precision == "float32":
            assert after.depth == before[rule].depth
    assert len({depth for found in before.values() for depth in found.depth}) > 1  # some leave and some stay


# --- stock models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_stock_model_answers_nearly_as_before(kind: str, precision: str):
    stock = tiny.stock(kind)
    inputs = tiny.padded(tiny.texts(LENGTHS))
    if kind == "distilbert":
        del inputs["token_type_ids"]
    before = stock(**inputs).logits
    prepare_stock(stock, precision)
    after = stock(**inputs).logits.float()
    assert not stock.training
    assert (after - before).abs().max() <= RELATIVE[precision] * before.abs().max()


# --- what is refused ----------------------------------------------------------------------------------------------


def test_an_unknown_precision_is_refused():
    model = tiny.model()
    line = r"^precision 'int8'; known to PyTorch: float32, float16, bfloat16$"
    with pytest.raises(EatError, match=line):
        prepare(model.encoder, "int8")
    with pytest.raises(EatError, match=line):
        prepare_stock(tiny.stock(), "int8")


# --- what a machine refuses ---------------------------------------------------------------------------------------


@pytest.fixture
def tried_anew():
    """What is tried once a process is tried again."""
    precisions._fault.cache_clear()
    yield
    precisions._fault.cache_clear()


def product_of(monkeypatch: pytest.MonkeyPatch, precision: str, change: Any) -> None:
    """Let products of a precision be those of float32, changed."""

    product_of = precisions._product

    def changed(linear: nn.Linear, activation: str | None) -> Any:
        if linear.weight.dtype == torch.float32:
            return product_of(linear, activation)
        product = product_of(linear.float(), activation)
        return lambda x: change(product(x.float()))

    monkeypatch.setattr(precisions, "_product", changed)


@pytest.mark.usefixtures("tried_anew")
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda y: y * 0.9, r"computes wrong sums \(10 % off\)"),
        (lambda y: y * torch.nan, r"computes wrong sums \(nan % off\)"),
        (lambda y: y.a_kernel_that_is_missing(), "does not run"),
        (lambda y: (time.sleep(0.1), y)[1], r"takes \d+(\.\d)? times as long as float32"),
    ],
    ids=["wrong", "not a number", "without a kernel", "slow"],
)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_precision_of_no_use_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, precision: str, change: Any, fault: str
):
    product_of(monkeypatch, precision, change)
    reason = refusal(precision)
    assert reason is not None
    here = re.escape(cpu_name())
    assert re.fullmatch(
        rf"precision {precision} {fault} on this processor \({here}\); use float32, omit it, or use a .+", reason
    )
    with pytest.raises(EatError, match=f"^{re.escape(reason)}$"):
        require_usable("torch", precision, torch.device("cpu"))


@pytest.mark.usefixtures("tried_anew")
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_precision_that_is_as_fast_is_taken(monkeypatch: pytest.MonkeyPatch, precision: str):
    product_of(monkeypatch, precision, lambda y: y * 1.001)
    monkeypatch.setattr(precisions, "slowdown", lambda tried, plain: 1.9)
    assert refusal(precision) is None
    require_usable("torch", precision, torch.device("cpu"))


@pytest.mark.usefixtures("tried_anew")
def test_a_precision_is_tried_once_a_process(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(precisions, "slowdown", lambda tried, plain: asked.append("") or 3.0)
    assert refusal("bfloat16") == refusal("bfloat16", torch.device("cpu")) is not None
    assert len(asked) == 1
    assert refusal("float32") is None
    assert len(asked) == 1  # what all others are compared with


def test_trying_is_bounded_and_leaves_threads_and_random_numbers_as_they_were():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    calls: list[int] = []

    def slow() -> Tensor:
        calls.append(torch.get_num_threads())
        time.sleep(0.3)
        return torch.zeros(1)

    try:
        assert slowdown(slow, lambda: torch.zeros(1)) > 10
        assert set(calls) == {1} and len(calls) <= 4  # 0.5 s, and one round more
        precisions._fault.__wrapped__("bfloat16", torch.device("cpu"), False)
        training_fault.__wrapped__("bfloat16", torch.device("cpu"))
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.rand(1), expected)
    finally:
        torch.set_num_threads(threads)


def test_training_in_float32_is_never_refused():
    assert training_fault("float32", torch.device("cpu")) is None
