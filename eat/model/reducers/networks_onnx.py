"""The small network of a learned reducer as ONNX nodes: a number for each token."""

from __future__ import annotations

from torch import nn

from eat.model.graph_onnx import Graph, Value
from eat.model.products_onnx import Float32Products, array

FLOATS = Float32Products()
"""Such a network is in float32 also in a file of int8."""


def token_logits(graph: Graph, name: str, layers: nn.Module, hidden: Value) -> Value:
    """Linear, GELU, linear on the hidden states (1, T, d); returns (T,). name: the prefix of the weights."""
    assert isinstance(layers, nn.Sequential)
    narrow, _, last = layers
    wide = _linear(graph, f"{name}.narrow", narrow, hidden)
    logits = _linear(graph, f"{name}.last", last, graph.op("Gelu", wide))  # (1, T, 1)
    return graph.op("Squeeze", logits, graph.whole(0, 2))


def _linear(graph: Graph, name: str, linear: nn.Module, x: Value) -> Value:
    assert isinstance(linear, nn.Linear)
    return graph.op("Add", FLOATS.product(graph, name, linear, x), graph.weight(f"{name}.bias", array(linear.bias)))
