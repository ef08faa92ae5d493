"""Matrix products of an ONNX graph, in float32 or int8.

int8: weights are symmetric with one scale for each output column. Activations are quantised at each call with one scale
for all tokens; a call is one text, so its answer does not depend on other texts.

Weights have 7 bits and a sign, so that sums are right on every processor. Those without VNNI add two products of 8 bits
in 16 bits, which saturate: with weights of 8 bits, products with uniform weights were 19 % off under AVX2 (0.6 % with
exact sums), and with 7 bits 0.9 %, at the same speed. Unsigned weights of 8 bits avoid it too, but took 1.2 times as
long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from eat.model.encoder import PackedEncoder
from eat.model.equalization_onnx import equalization
from eat.model.graph_onnx import Graph, Value

LARGEST = 64
"""The largest quantised weight: 2 x 255 x 64 is below 2^15, so that the sum of two products fits into 16 bits."""


@dataclass(frozen=True)
class Quantized:
    """int8 weights, and their scales: weight = whole x scale, the scale broadcast along the last axis."""

    whole: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]


def quantize(weight: npt.NDArray[np.float32], axis: int, largest: int = LARGEST) -> Quantized:
    """Symmetric int8 weights; `axis` is the one over which a scale is shared."""
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True) / largest, 1e-12).astype(np.float32)
    return Quantized(np.rint(weight / scale).astype(np.int8), scale.squeeze(axis))


def rounded(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The values of a weight (in, out) after quantisation."""
    quantized = quantize(weight, axis=0)
    return quantized.whole * quantized.scale


def array(tensor: Tensor) -> npt.NDArray[np.float32]:
    """The values of a tensor; float32."""
    values: npt.NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return values


def columns(linear: nn.Linear) -> npt.NDArray[np.float32]:
    """The weight of a linear layer as the right factor of a product; (in, out)."""
    return array(linear.weight).T


class Float32Products:
    """Products in float32."""

    def prepared(self, encoders: Mapping[str, PackedEncoder]) -> Float32Products:
        """Ready for these encoders; nothing to do."""
        return self

    def product(self, graph: Graph, name: str, linear: nn.Linear, x: Value) -> Value:
        """x W without the bias; (1, T, in) to (1, T, out)."""
        return graph.op("MatMul", x, graph.weight(f"{name}.weight", columns(linear)))

    def attention(self, graph: Graph, name: str, qkv: nn.Linear, heads: int, x: Value, mask: Value) -> Value:
        """The fused attention; (1, T, d) to (1, T, d). mask: int32 (1, T, T), 1 for pairs that attend, or omitted."""
        weight, bias = graph.weight(f"{name}.weight", columns(qkv)), graph.weight(f"{name}.bias", array(qkv.bias))
        return graph.op("Attention", x, weight, bias, mask, num_heads=heads)

    def rows(self, graph: Graph, name: str, table: nn.Embedding, ids: Value) -> Value:
        """Rows of an embedding; int64 (T,) to float32 (1, T, d)."""
        return graph.op("Unsqueeze", graph.op("Gather", graph.weight(name, array(table.weight)), ids), graph.whole(0))


@dataclass(frozen=True)
class Int8Products:
    """Products in int8, with float32 inputs and outputs.

    scales: name of a product -> the scales of its input (in,); see `eat.model.equalization_onnx`.
    """

    scales: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def prepared(self, encoders: Mapping[str, PackedEncoder]) -> Int8Products:
        """Ready for these encoders: with the scales of their layers. encoders: prefix of the names -> encoder."""
        return Int8Products(
            {
                f"{prefix}layers.{product}": scale
                for prefix, encoder in encoders.items()
                for product, scale in equalization(encoder, rounded).items()
            }
        )

    def product(self, graph: Graph, name: str, linear: nn.Linear, x: Value) -> Value:
        """As `Float32Products.product`."""
        weights = self._weights(graph, name, self._scaled(name, linear), axis=0)
        return graph.op("DynamicQuantizeMatMul", self._divided(graph, name, x), *weights)

    def attention(self, graph: Graph, name: str, qkv: nn.Linear, heads: int, x: Value, mask: Value) -> Value:
        """As `Float32Products.attention`."""
        weight, scale = self._weights(graph, name, self._scaled(name, qkv), axis=0)
        bias = graph.weight(f"{name}.bias", array(qkv.bias))
        whole, x_scale, x_zero = graph.ops("DynamicQuantizeLinear", 3, self._divided(graph, name, x))
        return graph.op("QAttention", whole, weight, bias, x_scale, scale, mask, x_zero, num_heads=heads)

    def rows(self, graph: Graph, name: str, table: nn.Embedding, ids: Value) -> Value:
        """As `Float32Products.rows`, with one scale for each row."""
        weight, scale = self._weights(graph, name, array(table.weight), axis=1)
        whole = graph.op("Cast", graph.op("Gather", weight, ids), to=1)
        own = graph.op("Unsqueeze", graph.op("Gather", scale, ids), graph.whole(1))
        return graph.op("Unsqueeze", graph.op("Mul", whole, own), graph.whole(0))

    def _scaled(self, name: str, linear: nn.Linear) -> npt.NDArray[np.float32]:
        """The weight (in, out), its rows multiplied by the scales."""
        scale = self.scales.get(name)
        return columns(linear) if scale is None else columns(linear) * scale[:, None]

    def _divided(self, graph: Graph, name: str, x: Value) -> Value:
        """The input, divided by the scales."""
        scale = self.scales.get(name)
        return x if scale is None else graph.op("Mul", x, graph.weight(f"{name}.scales", 1.0 / scale))

    def _weights(self, graph: Graph, name: str, weight: npt.NDArray[np.float32], axis: int) -> tuple[Value, Value]:
        """Quantised weights and their scales. Their zero points are omitted: given as zeros, they would cost time."""
        quantized = quantize(weight, axis)
        return graph.weight(f"{name}.whole", quantized.whole), graph.weight(f"{name}.scale", quantized.scale)


Products = Float32Products | Int8Products

PRODUCTS: Mapping[str, Products] = {"float32": Float32Products(), "int8": Int8Products()}
"""Precision -> its products, before they are prepared for an encoder."""
