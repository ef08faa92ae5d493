"""Heads and their parts as ONNX nodes; the sibling of `heads.py` and `head_parts.py`. Always in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from eat.errors import EatError, listed
from eat.model.graph_onnx import OMITTED, Graph, Value
from eat.model.head_parts import READER_HEADS
from eat.model.heads import ExitHead
from eat.model.products_onnx import Float32Products, array

FLOATS = Float32Products()

Form = Callable[[Graph, Value, str, Any], Value]
"""Hidden states (1, T, d), the prefix of the reader's weights, and its layers, to the vector (1, width)."""


def head_logits(graph: Graph, name: str, head: ExitHead, hidden: Value) -> Value:
    """Hidden states (1, T, d) to logits (1, C). Raises `EatError` for a part without an ONNX form."""
    for found, known in ((head.read, READERS), (head.kind, ACTIVATIONS)):
        if found not in known:
            raise EatError(f"the part {found!r} of a head has no ONNX form; parts with one: {listed(known)}")
    vector = READERS[head.read](graph, hidden, f"{name}.reader", head.reader)
    if head.projection is not None:
        projected = _linear(graph, f"{name}.projection", head.projection, vector)
        vector = graph.op(ACTIVATIONS[head.kind], projected)
    return _linear(graph, f"{name}.classifier", head.classifier, vector)


def _attending(graph: Graph, hidden: Value, name: str, layers: Any) -> Value:
    """FastBERT's reader; (1, T, d) to (1, 128)."""
    narrow = graph.op("Tanh", _linear(graph, f"{name}.narrow", layers["narrow"], hidden))
    context = FLOATS.attention(graph, f"{name}.qkv", layers["qkv"], READER_HEADS, narrow, OMITTED)
    return _linear(graph, f"{name}.output", layers["output"], _first(graph, context))


def _first(graph: Graph, hidden: Value, *_: Any) -> Value:
    """The vector of [CLS]; (1, T, d) to (1, d)."""
    return graph.op("Gather", hidden, graph.constant(0, "int64"), axis=1)


def _mean(graph: Graph, hidden: Value, *_: Any) -> Value:
    return graph.op("ReduceMean", hidden, axes=[1], keepdims=0)


def _max(graph: Graph, hidden: Value, *_: Any) -> Value:
    return graph.op("ReduceMax", hidden, axes=[1], keepdims=0)


def _all(graph: Graph, hidden: Value, *_: Any) -> Value:
    return graph.op("Concat", *(vector(graph, hidden) for vector in (_first, _mean, _max)), axis=1)


READERS: Mapping[str, Form] = {"cls": _first, "mean": _mean, "max": _max, "cls_mean_max": _all, "attention": _attending}
"""Name of a reader -> its nodes."""

ACTIVATIONS = {"linear": "", "mlp": "Relu", "bert": "Tanh", "distilbert": "Relu", "electra": "Gelu"}
"""Name of a kind -> the operator of its activation."""


def _linear(graph: Graph, name: str, linear: nn.Linear, x: Value) -> Value:
    product = FLOATS.product(graph, name, linear, x)
    bias = linear.bias if linear.bias is not None else torch.zeros(linear.out_features)
    return graph.op("Add", product, graph.weight(f"{name}.bias", array(bias)))
