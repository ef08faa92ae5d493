"""The precisions a system can run in, and a model made ready for inference in one of them.

float32, float16 and bfloat16 convert everything. int8 (for the CPU) computes the layers' four matrix products in
integers, with one scale for each output of a weight and one for each token: a text's answer does not depend on the
texts beside it. What is prepared here can no longer be trained or saved: the layers' products and norms become plain
functions on weights laid out for inference (docs/speed.md has what each step gave).

Which precisions are worth running depends on the processor: `refusal` tells, by trying.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
import torch.ao.quantization
import torch.nn.functional as F
from torch import Tensor, nn

from eat.engines.probe import MISSING, example, slowdown, too_slow, where
from eat.errors import EatError, listed
from eat.model.encoder import ACTIVATIONS, EncoderLayer, PackedEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST = 127.0

Product = Callable[[Tensor], Tensor]
"""A part of a layer as a plain function: (n, in) to (n, out)."""


class Int8Linear:
    """y = (x_q W_q) s_x s_w + b: weights in int8 once, each token's activations in int8 as they come.

    s_w: one scale an output, max |w| / 127. s_x: one a token, max |x| / 127.
    """

    def __init__(self, linear: nn.Linear) -> None:
        weight = linear.weight.detach().float()
        scale = _scale_of(weight)
        self.weight = torch.ops.onednn.qlinear_prepack((weight / scale).round().to(torch.int8), None)
        self.scale = scale[:, 0]
        self.zero = torch.zeros(len(weight), dtype=torch.int32)
        self.bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        """(n, in) to (n, out), float32 both."""
        scale = _scale_of(x)
        whole = (x / scale).round_().to(torch.int8)
        # the token's scale cannot be given to the product, which knows one for all: 1, and no bias
        product = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, 0, self.weight, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        scaled: Tensor = torch.addcmul(self.bias, product, scale)
        return scaled


def _scale_of(rows: Tensor) -> Tensor:
    """max |x| / 127 of each row; (n, k) to (n, 1), above 0."""
    return rows.abs().amax(dim=1, keepdim=True).clamp_min_(1e-12).mul_(1.0 / LARGEST)


FUSED = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "relu": ("relu", "")}
"""What oneDNN calls our activations: the name of the operation and its algorithm."""


def _int8(linear: nn.Linear, activation: str | None) -> Product:
    product = _rounded(Int8Linear(linear))
    return product if activation is None else _then(ACTIVATIONS[activation], product)


def _floating(linear: nn.Linear, activation: str | None) -> Product:
    """A product in the weight's own dtype, and the activation that follows it.

    On a CPU the weight is put once into the blocks in which oneDNN reads it, and the activation is computed while its
    output is at hand. The operations are those that PyTorch's compiler emits, which by itself gains nothing here.
    """
    weight, bias = linear.weight.detach(), None if linear.bias is None else linear.bias.detach()
    if not _onednn_computes(weight):
        product = partial(F.linear, weight=weight, bias=bias)
        return product if activation is None else _then(ACTIVATIONS[activation], product)
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    operation, algorithm = ("none", "") if activation is None else FUSED[activation]
    pointwise = torch.ops.mkldnn._linear_pointwise.default

    def fused(x: Tensor) -> Tensor:
        product: Tensor = pointwise(x, blocks, bias, operation, [], algorithm)
        return product

    return _rounded(fused)


def _onednn_computes(weight: Tensor) -> bool:
    """Whether oneDNN has this dtype on this machine."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if weight.dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return weight.dtype == torch.float32


ROUNDED_FROM, ROUNDED_TO = 128, 32
"""Above so many rows, a product's rows are rounded up to a multiple."""


def _rounded(product: Product) -> Product:
    """The product of a few sizes only, if there are many rows: the rest are rows of zeros, and cut off.

    oneDNN builds a kernel for each number of rows it has not met, which takes as long as the product itself. Batches of
    texts, of which tokens and rows leave, meet a new number nearly every time.
    """

    def rounded(x: Tensor) -> Tensor:
        rows = x.shape[0]
        if rows <= ROUNDED_FROM or rows % ROUNDED_TO == 0:
            return product(x)
        return product(F.pad(x, (0, 0, 0, -rows % ROUNDED_TO)))[:rows]

    return rounded


def _then(activation: Product, product: Product) -> Product:
    return lambda x: activation(product(x))


def _norm(norm: nn.LayerNorm) -> Product:
    """A layer norm as a function: the operation itself, without what `torch.nn.functional` checks before it."""
    weight, bias = norm.weight.detach(), norm.bias.detach()
    size, epsilon = list(norm.normalized_shape), norm.eps
    return lambda x: torch.layer_norm(x, size, weight, bias, epsilon)


PRECISIONS: Mapping[str, tuple[torch.dtype, Callable[[nn.Linear, str | None], Product]]] = {
    "float32": (torch.float32, _floating),
    "float16": (torch.float16, _floating),
    "bfloat16": (torch.bfloat16, _floating),
    "int8": (torch.float32, _int8),
}
"""Precision -> what everything is converted to, and what becomes of the layers' products."""


def prepare(encoder: PackedEncoder, precision: str, device: torch.device | str = "cpu") -> None:
    """Bring an encoder to the device, in place, as it runs fastest at a precision.

    Raises `EatError` if the precision is unknown, or int8 is asked for on a GPU.
    """
    _require_possible(precision, device)
    _keep_kernels()
    dtype, product = PRECISIONS[precision]
    encoder.eval().to(device, dtype)
    for layer in encoder.layers:
        assert isinstance(layer, EncoderLayer)
        for name in ("qkv", "attention_output", "down"):
            _replace(layer, name, product(getattr(layer, name), None))
        for name in ("attention_norm", "output_norm"):
            _replace(layer, name, _norm(getattr(layer, name)))
        _replace(layer, "expand", product(layer.up, encoder.shape.activation))
        del layer.up


def _keep_kernels() -> None:
    """Have oneDNN keep more kernels than it does by itself; in force from its first product in this process on.

    It builds one for each number of rows and keeps 1,024: too few for systems of several precisions on texts of all
    lengths, which then build theirs at every call. Training keeps to the 1,024, for its kernels take megabytes each.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")


def _require_possible(precision: str, device: torch.device | str) -> None:
    reason = _impossible(precision, device)
    if reason is not None:
        raise EatError(reason)


def _impossible(precision: str, device: torch.device | str) -> str | None:
    """Why a precision is not to be had on a device of any make, in one line."""
    if precision not in PRECISIONS:
        return f"precision {precision!r}; known: {listed(PRECISIONS)}"
    if precision == "int8" and torch.device(device).type != "cpu":
        return f"precision int8 on {device}; it is for the CPU: use float16 or bfloat16 on a GPU"
    return None


def _replace(layer: nn.Module, name: str, function: Product) -> None:
    """Put a plain function in the place of a module or a method."""
    if name in layer._modules:
        delattr(layer, name)
    setattr(layer, name, function)


def prepare_stock(model: PreTrainedModel, precision: str, device: torch.device | str = "cpu") -> None:
    """The same for a stock `transformers` model, as its users would do it; in int8 by PyTorch's dynamic quantisation.

    Its weights keep the layout that `transformers` gives them. Raises `EatError` as `prepare` does.
    """
    _require_possible(precision, device)
    _keep_kernels()
    if precision == "int8":
        _quantize(model.eval())
    else:
        model.eval().to(torch.device(device), getattr(torch, precision))


def _quantize(module: nn.Module) -> None:
    """PyTorch's dynamic quantisation of every `nn.Linear` below a module, in place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what there is without another package
        quantize: Callable[..., object] = torch.ao.quantization.quantize_dynamic
        quantize(module, {nn.Linear}, dtype=torch.qint8, inplace=True)


# --- what a machine can do ----------------------------------------------------------------------------------------

FARTHEST = 0.05
"""How far a product may be from that in float32, as a part of its norm. In int8 rounding alone makes it 0.01 to 0.02.

Processors without VNNI add pairs of int8 products in 16 bits, which saturate: the product is then off by an eighth.
"""

REMEDY = {
    "int8": "a processor with AMX",
    "bfloat16": "a processor that multiplies bfloat16 (AVX-512 BF16, AMX)",
    "float16": "a GPU",
}


def refusal(precision: str, device: torch.device | str = "cpu", stock: bool = False) -> str | None:
    """Why a precision is not used on a device, in one line with the remedy; `None` if nothing speaks against it.

    It is refused if a product takes more than `SLOWEST` times as long as in float32, is wrong, or does not run at all.
    stock: as stock models compute it.
    """
    device = torch.device(device)
    impossible = _impossible(precision, device)
    if impossible is not None or precision == "float32":
        return impossible
    fault = _fault(precision, device, stock)
    if fault is None:
        return None
    return f"precision {precision} {fault} on {where(device)}; use float32, omit it, or use {REMEDY[precision]}"


def require_usable(precision: str, device: torch.device | str = "cpu", stock: bool = False) -> None:
    """Raise `EatError` with the line of `refusal` if there is one."""
    reason = refusal(precision, device, stock)
    if reason is not None:
        raise EatError(reason)


@cache
def _fault(precision: str, device: torch.device, stock: bool) -> str | None:
    """What is wrong with a precision on a device, in a few words; tried once a process."""
    _keep_kernels()

    def product_in(precision: str) -> Callable[[], Tensor]:
        linear, x = example(device)
        dtype, product = PRECISIONS[precision]
        if not stock:
            return partial(product(linear.to(dtype), None), x.to(dtype))
        model = nn.Sequential(linear.to(dtype))
        if precision == "int8":
            _quantize(model)
        return partial(model, x.to(dtype))

    try:
        with torch.inference_mode():
            tried, plain = product_in(precision), product_in("float32")
            error = float((tried().float() - plain()).norm() / plain().norm())
            if not error <= FARTHEST:
                return f"computes wrong sums ({100 * error:.0f} % off)"
            return too_slow(slowdown(tried, plain))
    except MISSING:
        return "does not run"
