"""The floating-point precisions of PyTorch, and the preparation of a model for inference in one of them.

float32, float16 and bfloat16 convert everything. A prepared model can no longer be trained or saved: the layers'
products and norms become plain functions on weights laid out for inference (docs/speed.md lists the gain of each step).
int8 is a precision of the engine `onnx`.

Which precisions are useful depends on the processor: `refusal` finds out by measuring.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eat.engines.probe import MISSING, example, slowdown, too_slow, where
from eat.errors import EatError, listed
from eat.model.encoder import ACTIVATIONS, EncoderLayer, PackedEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Product = Callable[[Tensor], Tensor]
"""A part of a layer as a plain function: (n, in) to (n, out)."""


FUSED = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "relu": ("relu", "")}
"""The names of the activations in oneDNN: operation and algorithm."""


def _product(linear: nn.Linear, activation: str | None) -> Product:
    """A product in the weight's own dtype, and the activation that follows it.

    On a CPU the weight is reordered once into oneDNN's blocked layout, and the activation is fused with the product.
    The operations are those that PyTorch's compiler emits; the compiler itself brings no gain here.
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
    """Whether oneDNN supports this dtype on this machine."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if weight.dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return weight.dtype == torch.float32


ROUNDED_FROM, ROUNDED_TO = 128, 32
"""Above this number of rows, a product's rows are padded to a multiple."""


def _rounded(product: Product) -> Product:
    """A product that pads large numbers of rows with zeros to one of few sizes, and drops the padding.

    oneDNN builds a kernel for each new number of rows, which takes as long as the product itself. Batches from which
    tokens and rows are removed have a new number of rows nearly every time.
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
    """A layer norm as a function, without the checks of `torch.nn.functional`."""
    weight, bias = norm.weight.detach(), norm.bias.detach()
    size, epsilon = list(norm.normalized_shape), norm.eps
    return lambda x: torch.layer_norm(x, size, weight, bias, epsilon)


PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Precision -> the dtype of all tensors."""


def prepare(encoder: PackedEncoder, precision: str, device: torch.device | str = "cpu") -> None:
    """Move an encoder to the device and prepare it, in place, for the fastest inference in a precision.

    Raises `EatError` if the precision is unknown.
    """
    _require_known(precision)
    _keep_kernels()
    encoder.eval().to(device, PRECISIONS[precision])
    for layer in encoder.layers:
        assert isinstance(layer, EncoderLayer)
        for name in ("qkv", "attention_output", "down"):
            _replace(layer, name, _product(getattr(layer, name), None))
        for name in ("attention_norm", "output_norm"):
            _replace(layer, name, _norm(getattr(layer, name)))
        _replace(layer, "expand", _product(layer.up, encoder.shape.activation))
        del layer.up


def _keep_kernels() -> None:
    """Increase oneDNN's cache of kernels; must be called before its first product in this process.

    It builds one per number of rows and keeps 1,024, which is too few for several precisions on texts of all lengths:
    kernels would be rebuilt at every call. Training keeps the default, since its kernels take megabytes each.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")


def _require_known(precision: str) -> None:
    if precision not in PRECISIONS:
        raise EatError(f"precision {precision!r}; known to PyTorch: {listed(PRECISIONS)}")


def _replace(layer: nn.Module, name: str, function: Product) -> None:
    """Replace a module or a method by a plain function."""
    if name in layer._modules:
        delattr(layer, name)
    setattr(layer, name, function)


def prepare_stock(model: PreTrainedModel, precision: str, device: torch.device | str = "cpu") -> None:
    """The same for a stock `transformers` model, whose weights keep their layout.

    Raises `EatError` as `prepare` does.
    """
    _require_known(precision)
    _keep_kernels()
    model.eval().to(torch.device(device), PRECISIONS[precision])


# --- usable precisions --------------------------------------------------------------------------------------------

FARTHEST = 0.05
"""The largest relative error of a product against float32; rounding in bfloat16 gives 0.003."""

REMEDY = {
    "bfloat16": "a processor that multiplies bfloat16 (AVX-512 BF16, AMX)",
    "float16": "a GPU",
}


def refusal(precision: str, device: torch.device | str = "cpu", stock: bool = False) -> str | None:
    """Why a precision is not used on a device, in one line with the remedy; `None` if it can be used.

    It is refused if a product takes more than `SLOWEST` times as long as in float32, is wrong, or does not run at all.
    stock: use the implementation of stock models.
    """
    device = torch.device(device)
    if precision not in PRECISIONS:
        return f"precision {precision!r}; known to PyTorch: {listed(PRECISIONS)}"
    if precision == "float32":
        return None
    fault = _fault(precision, device, stock)
    if fault is None:
        return None
    return f"precision {precision} {fault} on {where(device)}; use float32, omit it, or use {REMEDY[precision]}"


@cache
def _fault(precision: str, device: torch.device, stock: bool) -> str | None:
    """The problem of a precision on a device, in a few words; tried once per process."""
    _keep_kernels()

    def product_in(precision: str) -> Callable[[], Tensor]:
        linear, x = example(device)
        dtype = PRECISIONS[precision]
        product = linear.to(dtype) if stock else _product(linear.to(dtype), None)
        return partial(product, x.to(dtype))

    try:
        with torch.inference_mode():
            tried, plain = product_in(precision), product_in("float32")
            error = float((tried().float() - plain()).norm() / plain().norm())
            if not error <= FARTHEST:
                return f"computes wrong sums ({100 * error:.0f} % off)"
            return too_slow(slowdown(tried, plain))
    except MISSING:
        return "does not run"
