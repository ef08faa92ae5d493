"""The precisions a system can run in, and a model made ready for inference in one of them.

float32, float16 and bfloat16 convert everything. int8 (for the CPU) computes the layers' four matrix products in
integers, with one scale for each output of a weight and one for each token: a text's answer does not depend on the
texts beside it. What is prepared here can no longer be trained or saved: the layers' products and norms become plain
functions, because at one short text the call of a module costs as much as a small operation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.ao.quantization
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from eat.encoder import PackedEncoder
from eat.errors import EatError, listed

LARGEST = 127.0


class Int8Linear:
    """y = (x_q W_q) s_x s_w + b: weights in int8 once, each token's activations in int8 as they come.

    s_w: one scale an output, max |w| / 127. s_x: one a token, max |x| / 127.
    """

    def __init__(self, linear: nn.Linear) -> None:
        weight = linear.weight.detach().float()
        scale = _scale_of(weight)
        self.weight = (weight / scale).round().to(torch.int8).t().contiguous()  # (in, out)
        self.scale = scale[:, 0]
        self.bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        """(n, in) to (n, out), float32 both."""
        scale = _scale_of(x)
        product = torch._int_mm((x / scale).round_().to(torch.int8), self.weight)
        scaled = product.float().mul_(scale)
        return torch.addcmul(self.bias, scaled, self.scale, out=scaled)


def _scale_of(rows: Tensor) -> Tensor:
    """max |x| / 127 of each row; (n, k) to (n, 1), above 0."""
    return rows.abs().amax(dim=1, keepdim=True).clamp_min_(1e-12).mul_(1.0 / LARGEST)


def _linear(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """A product as a function.

    On a CPU, float32 weights are stored (in, out), which is faster where there are few tokens.
    """
    weight = linear.weight.detach()
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        weight = weight.t().contiguous().t()
    return partial(F.linear, weight=weight, bias=None if linear.bias is None else linear.bias.detach())


def _norm(norm: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    """A layer norm as a function."""
    weight, bias = norm.weight.detach(), norm.bias.detach()
    return partial(F.layer_norm, normalized_shape=list(norm.normalized_shape), weight=weight, bias=bias, eps=norm.eps)


PRECISIONS: Mapping[str, tuple[torch.dtype, Callable[[nn.Linear], Callable[[Tensor], Tensor]]]] = {
    "float32": (torch.float32, _linear),
    "float16": (torch.float16, _linear),
    "bfloat16": (torch.bfloat16, _linear),
    "int8": (torch.float32, Int8Linear),
}
"""Precision -> what everything is converted to, and what becomes of the layers' products."""


def prepare(encoder: PackedEncoder, precision: str, device: torch.device | str = "cpu") -> None:
    """Bring an encoder to the device, in place, as it runs fastest at a precision.

    Raises `EatError` where the precision is unknown, or int8 is asked for on a GPU.
    """
    _require_known(precision)
    device = torch.device(device)
    if precision == "int8" and device.type != "cpu":
        raise EatError(f"precision int8 on {device.type}; it is for the CPU: take float16 or bfloat16 on a GPU")
    dtype, product = PRECISIONS[precision]
    encoder.eval().to(device, dtype)
    for layer in encoder.layers:
        for name, module in list(layer.named_children()):
            if isinstance(module, nn.Linear):
                _replace(layer, name, product(module))
            elif isinstance(module, nn.LayerNorm):
                _replace(layer, name, _norm(module))


def _require_known(precision: str) -> None:
    if precision not in PRECISIONS:
        raise EatError(f"precision {precision!r}; known: {listed(PRECISIONS)}")


def _replace(layer: nn.Module, name: str, function: Callable[[Tensor], Tensor]) -> None:
    delattr(layer, name)
    setattr(layer, name, function)


def prepare_stock(model: PreTrainedModel, precision: str, device: torch.device | str = "cpu") -> None:
    """The same for a stock `transformers` model, as its users would do it; in int8 by PyTorch's dynamic quantisation.

    Its weights keep the layout that `transformers` gives them. Raises `EatError` as `prepare` does.
    """
    _require_known(precision)
    if precision != "int8":
        model.eval().to(torch.device(device), getattr(torch, precision))
        return
    if torch.device(device).type != "cpu":
        raise EatError(f"precision int8 on {device}; dynamic quantisation is for the CPU")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what there is without another package
        quantize: Callable[..., object] = torch.ao.quantization.quantize_dynamic
        quantize(model.eval(), {nn.Linear}, dtype=torch.qint8, inplace=True)
