"""What a precision does to a model: int8 products against float ones, and models that answer as they did, or nearly.

Bounds of int8 come from its steps: 1/127 of the largest value of a token, and of an output's weights. Where a machine
computes int8 wrongly, these tests are skipped with its own reason; what decides that is tested at the end.
"""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from eat.engines import precision as precisions
from eat.engines.precision import PRECISIONS, Int8Linear, prepare, prepare_stock, refusal, require_usable
from eat.engines.probe import slowdown
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

RELATIVE = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.1, "int8": 0.15}
"""How far the logits may be from those of float32, as a part of the largest of them.

float32: only the layout of the weights changes, and with it the order of sums of up to 64 terms. The others round every
result by up to 2^-12 or 2^-9 of it, and in int8 by 1/254 of a token's largest value; errors of some 30 operations that
follow one another, on weights 15 times as wide as usual. Of 18 random models the farthest was at 0.006, 0.04 and 0.09.
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


# --- one product --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "outputs"), [(32, 96), (64, 32), (384, 100), (33, 7)])
def test_an_int8_product_errs_by_at_most_its_steps(inputs: int, outputs: int):
    tiny.need_right_sums("int8")
    float_linear = linear(inputs, outputs)
    float_linear.weight.mul_(10.0 ** torch.linspace(-2, 2, outputs)[:, None])  # outputs of very different size
    x = tokens(20, inputs)
    quantised = Int8Linear(float_linear)
    error = (quantised(x).double() - float_linear.double()(x.double())).abs()
    # rounding moves x by at most half a step, max|x| / 254, and w by max|w| / 254. Of each of the k products this is at
    # most (1/254 + 1/254 + 1/254^2) max|x| max|w|; float32 adds 2^-23 or so of the sum, far below 1e-5 of the bound
    largest_x = x.abs().amax(dim=1, keepdim=True).double()  # (n, 1)
    largest_w = float_linear.weight.abs().amax(dim=1)  # (out,)
    step = inputs * (2 / 254 + 1 / 254**2) * largest_x * largest_w  # (n, out)
    float32 = 1e-6 * float_linear.bias.abs()
    assert (error <= step * (1 + 1e-5) + float32).all()
    # the bound is met where all errors have one sign. Errors at random are sqrt(k) steps, not k: of a product of two
    # normal vectors they are about (3.5 / 127) / sqrt(12) of its size for each factor, 1.1 % for both
    plain = linear(inputs, outputs, bias=False)
    plain.weight.normal_(generator=torch.Generator().manual_seed(1))
    expected = plain(x)
    relative = (Int8Linear(plain)(x) - expected).norm(dim=1) / expected.norm(dim=1)  # (n,)
    assert relative.mean() < 0.02


def test_values_that_int8_holds_are_exact():
    tiny.need_right_sums("int8")
    # whole numbers up to 127 times a power of 2, 127 among them: the scale is that power, and a sum of 32 products is
    # at most 32 * 127^2 < 2^24, exact in float32
    generator = torch.Generator().manual_seed(0)
    float_linear = linear(32, 16)
    float_linear.weight.copy_(torch.randint(-127, 128, (16, 32), generator=generator) * 2.0**-9)
    float_linear.weight[:, 5] = 127 * 2.0**-9
    float_linear.bias.copy_(torch.arange(16) - 8.0)
    x = torch.randint(-127, 128, (11, 32), generator=generator) * 2.0 ** torch.arange(-5, 6)[:, None]
    x[:, 3] = -127 * 2.0 ** torch.arange(-5, 6)
    quantised = Int8Linear(float_linear)
    assert torch.equal(quantised(x), float_linear.double()(x.double()).float())
    assert quantised.weight.dtype == torch.int8


@pytest.mark.parametrize(("inputs", "outputs"), [(32, 96), (384, 1152), (33, 7)])
def test_a_row_is_the_same_bits_whatever_stands_beside_it(inputs: int, outputs: int):
    quantised = Int8Linear(linear(inputs, outputs))
    x = tokens(65, inputs)
    together = quantised(x)
    for row in range(len(x)):
        assert torch.equal(quantised(x[row : row + 1])[0], together[row])
    for count in (2, 3, 16, 64):
        assert torch.equal(quantised(x[:count]), together[:count])
    order = torch.randperm(65, generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantised(x[order]), together[order])


def test_a_row_of_zeros_gives_the_bias():
    x = tokens(3, 32)
    x[1] = 0.0
    float_linear = linear(32, 8)
    assert torch.equal(Int8Linear(float_linear)(x)[1], float_linear.bias)
    assert torch.equal(Int8Linear(linear(32, 8, bias=False))(x)[1], torch.zeros(8))


def test_an_output_whose_weights_are_all_zero_gives_the_bias():
    float_linear = linear(32, 8)
    float_linear.weight[3] = 0.0
    found = Int8Linear(float_linear)(tokens(4, 32))
    assert torch.equal(found[:, 3], float_linear.bias[3].expand(4))
    assert found.isfinite().all()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_broken_activation_is_not_hidden(broken: float):
    x = tokens(3, 32)
    x[1, 4] = broken
    found = Int8Linear(linear(32, 8))(x)
    assert found.isfinite().all(dim=1).tolist() == [True, False, True]


# --- a model ------------------------------------------------------------------------------------------------------


def logits_of(model: EatForSequenceClassification, lengths: list[int] = LENGTHS) -> Tensor:
    """Of every exit and text; (exits, B, C)."""
    return torch.stack(list(model.run(tiny.batch(lengths)).exits.values()))


@pytest.mark.parametrize("parts", [{}, {"last_head": "bert", "read": "mean"}, PARTS], ids=["dense", "bert", "eat"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_prepared_model_answers_as_before_within_its_precision(precision: str, parts: dict[str, Any]):
    tiny.need_right_sums(precision)
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
    dtype, product_of = PRECISIONS[precision]
    module = linear(384, 100).to(dtype)
    product = product_of(module, activation)
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


def test_int8_is_of_the_four_products_of_each_layer_alone():
    model = tiny.model(exits=[1, 2], last_head="bert")
    before = [{name: Int8Linear(getattr(layer, name)) for name in PRODUCTS} for layer in model.encoder.layers]
    prepare(model.encoder, "int8")
    x = tokens(7, model.encoder.shape.hidden)
    for layer, expected in zip(model.encoder.layers, before, strict=True):
        assert torch.equal(layer.qkv(x), expected["qkv"](x))
        assert torch.equal(layer.attention_output(x), expected["attention_output"](x))
        wide = layer.expand(x)
        assert torch.equal(wide, torch.nn.functional.gelu(expected["up"](x)))
        assert torch.equal(layer.down(wide), expected["down"](wide))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}  # embeddings and heads
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(heads) == 4  # of the exits after 1 and 2, and the pooler and the classifier of the last


@pytest.mark.parametrize("kind", ["norm", "received", "random"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_prepared_model_leaves_early_and_removes_tokens(precision: str, kind: str):
    tiny.need_right_sums(precision)
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


def test_an_int8_answer_depends_on_the_texts_beside_it_by_rounding_alone():
    model = tiny.model(**PARTS, seed=4)
    prepare(model.encoder, "int8")
    texts = tiny.texts(LENGTHS)
    together = logits_of(model)
    alone = [torch.stack(list(model.run(tiny.PackedBatch.of([text])).exits.values()))[:, 0] for text in texts]
    # attention in float32 rounds otherwise, which may move an activation by one step of 1/127 of a token's largest:
    # 0.8 % of the logits in one of 8 random models, 1e-7 in the others. One scale for a whole
    # batch would move them all, in this model by 5 %
    error = (torch.stack(alone, dim=1) - together).abs().max()
    assert error <= 0.02 * together.abs().max()


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


def test_int8_of_a_stock_model_is_pytorch_s_dynamic_quantisation():
    stock = tiny.stock()
    prepare_stock(stock, "int8")
    products = [module for name, module in stock.named_modules() if name.endswith((".query", ".dense", "classifier"))]
    assert len(products) == 4 * 4 + 1 + 1  # query and three dense in each layer, the pooler, the classifier
    assert all("quantized.dynamic" in type(product).__module__ for product in products)


# --- what is refused ----------------------------------------------------------------------------------------------


def test_an_unknown_precision_is_refused():
    model = tiny.model()
    line = r"^precision 'int4'; known: float32, float16, bfloat16, int8$"
    with pytest.raises(EatError, match=line):
        prepare(model.encoder, "int4")
    with pytest.raises(EatError, match=line):
        prepare_stock(tiny.stock(), "int4")


def test_int8_on_a_gpu_is_refused_before_anything_is_moved():
    model, stock = tiny.model(), tiny.stock()
    with pytest.raises(EatError, match=r"^precision int8 on cuda; .* CPU") as error:
        prepare(model.encoder, "int8", torch.device("cuda"))
    assert "\n" not in str(error.value)
    assert all(type(product) is nn.Linear for product in products_of(model).values())
    with pytest.raises(EatError, match=r"^precision int8 on cuda; .* CPU"):
        prepare_stock(stock, "int8", "cuda")
    assert type(stock.bert.encoder.layer[0].output.dense) is nn.Linear


# --- what a machine refuses ---------------------------------------------------------------------------------------


@pytest.fixture
def tried_anew():
    """What is tried once a process is tried again."""
    precisions._fault.cache_clear()
    yield
    precisions._fault.cache_clear()


def product_of(monkeypatch: pytest.MonkeyPatch, precision: str, change: Any) -> None:
    """Let products of a precision be those of float32, changed."""

    def changed(linear: nn.Linear, activation: str | None) -> Any:
        product = PRECISIONS["float32"][1](linear.float(), activation)
        return lambda x: change(product(x.float()))

    monkeypatch.setattr(precisions, "PRECISIONS", {**PRECISIONS, precision: (PRECISIONS[precision][0], changed)})


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
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
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
        require_usable(precision)


@pytest.mark.usefixtures("tried_anew")
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_a_precision_that_is_as_fast_is_taken(monkeypatch: pytest.MonkeyPatch, precision: str):
    product_of(monkeypatch, precision, lambda y: y * 1.001)
    monkeypatch.setattr(precisions, "slowdown", lambda tried, plain: 1.9)
    assert refusal(precision) is None
    require_usable(precision)


@pytest.mark.usefixtures("tried_anew")
def test_a_precision_is_tried_once_a_process(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(precisions, "slowdown", lambda tried, plain: asked.append("") or 3.0)
    assert refusal("bfloat16") == refusal("bfloat16", torch.device("cpu")) is not None
    assert len(asked) == 1
    assert refusal("float32") is None
    assert len(asked) == 1  # what all others are compared with


@pytest.mark.usefixtures("tried_anew")
def test_stock_int8_without_an_engine_for_it_is_refused(monkeypatch: pytest.MonkeyPatch):
    def missing(module: nn.Module) -> None:
        raise RuntimeError("Didn't find engine for operation quantized::linear_prepack NoQEngine")

    monkeypatch.setattr(precisions, "_quantize", missing)
    reason = refusal("int8", stock=True)
    assert reason is not None and reason.startswith("precision int8 does not run on this processor (")


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
