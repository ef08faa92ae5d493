"""Matrix products of an ONNX graph, in float32 or int8.

int8: weights are symmetric with one scale for each output column. Activations are quantised at each call with one scale
for all tokens; a call is one text, so its answer does not depend on other texts.

Sums are right on every processor. Those without VNNI multiply two adjacent inputs of 8 bits by their weights and add
both in 16 bits, which saturate: with weights of 8 bits, products with uniform weights were 19 % off under AVX2. So the
scale of a column is such that no two adjacent weights together exceed 128: 255 x 128 is below 2^15. A column keeps 7 to
8 bits, at the speed of 8. Unsigned weights of 8 bits avoid it too, but took 1.2 times as long.
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

LARGEST = 127
"""The largest quantised weight. Rounding adds at most 1 to the sum of two adjacent ones."""


@dataclass(frozen=True)
class Quantized:
    """int8 weights, and their scales: weight = whole x scale, the scale broadcast along the last axis."""

    whole: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]


def quantize_columns(weight: npt.NDArray[np.float32]) -> Quantized:
    """A weight (in, out) with a scale for each output; two adjacent weights of a column never exceed 128 together."""
    size = np.abs(weight)
    even = len(size) // 2 * 2
    pairs = size[:even].reshape(even // 2, 2, -1).sum(axis=1)
    return _quantized(weight, np.maximum(size.max(axis=0), pairs.max(axis=0, initial=0.0)), axis=0)


def quantize_rows(table: npt.NDArray[np.float32]) -> Quantized:
    """A table of vectors (rows, d) with a scale for each row."""
    return _quantized(table, np.abs(table).max(axis=1), axis=1)


def _quantized(weight: npt.NDArray[np.float32], largest: npt.NDArray[np.float32], axis: int) -> Quantized:
    """Symmetric int8 values of which `largest` becomes 127; `axis` is the one over which a scale is shared."""
    scale = np.maximum(largest / LARGEST, 1e-12).astype(np.float32)
    return Quantized(np.rint(weight / np.expand_dims(scale, axis)).astype(np.int8), scale)


def rounded(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The values of a weight (in, out) after quantisation."""
    quantized = quantize_columns(weight)
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
        weights = self._weights(graph, name, quantize_columns(self._scaled(name, linear)))
        return graph.op("DynamicQuantizeMatMul", self._divided(graph, name, x), *weights)

    def attention(self, graph: Graph, name: str, qkv: nn.Linear, heads: int, x: Value, mask: Value) -> Value:
        """As `Float32Products.attention`."""
        weight, scale = self._weights(graph, name, quantize_columns(self._scaled(name, qkv)))
        bias = graph.weight(f"{name}.bias", array(qkv.bias))
        whole, x_scale, x_zero = graph.ops("DynamicQuantizeLinear", 3, self._divided(graph, name, x))
        return graph.op("QAttention", whole, weight, bias, x_scale, scale, mask, x_zero, num_heads=heads)

    def rows(self, graph: Graph, name: str, table: nn.Embedding, ids: Value) -> Value:
        """As `Float32Products.rows`, with one scale for each row."""
        weight, scale = self._weights(graph, name, quantize_rows(array(table.weight)))
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

    def _weights(self, graph: Graph, name: str, quantized: Quantized) -> tuple[Value, Value]:
        """Quantised weights and their scales. Their zero points are omitted: given as zeros, they would cost time."""
        return graph.weight(f"{name}.whole", quantized.whole), graph.weight(f"{name}.scale", quantized.scale)


Products = Float32Products | Int8Products

PRODUCTS: Mapping[str, Products] = {"float32": Float32Products(), "int8": Int8Products()}
"""Precision -> its products, before they are prepared for an encoder."""
