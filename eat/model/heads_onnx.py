"""Exit heads as ONNX nodes; the sibling of `heads.py`. Heads are in float32 in every precision."""

from __future__ import annotations

import torch
from torch import nn

from eat.model.graph_onnx import OMITTED, Graph, Value
from eat.model.heads import ALL_VECTORS, READER_HEADS, AttendingReader, ExitHead
from eat.model.products_onnx import Float32Products, array

FLOATS = Float32Products()


def head_logits(graph: Graph, name: str, head: ExitHead, hidden: Value) -> Value:
    """Hidden states (1, T, d) to logits (1, C)."""
    vector = _read(graph, name, head, hidden)
    if head.projection is not None:
        projected = _linear(graph, f"{name}.projection", head.projection, vector)
        vector = graph.op({"bert": "Tanh", "electra": "Gelu"}.get(head.kind, "Relu"), projected)
    return _linear(graph, f"{name}.classifier", head.classifier, vector)


def _read(graph: Graph, name: str, head: ExitHead, hidden: Value) -> Value:
    """The vector that a head classifies; (1, width)."""
    if head.reader is not None:
        return _attending(graph, f"{name}.reader", head.reader, hidden)
    vectors = {"cls": _first, "mean": _mean, "max": _max}
    if head.read == ALL_VECTORS:
        return graph.op("Concat", *(vector(graph, hidden) for vector in vectors.values()), axis=1)
    return vectors[head.read](graph, hidden)


def _attending(graph: Graph, name: str, reader: AttendingReader, hidden: Value) -> Value:
    """FastBERT's reader; (1, T, d) to (1, 128)."""
    narrow = graph.op("Tanh", _linear(graph, f"{name}.narrow", reader.narrow, hidden))
    context = FLOATS.attention(graph, f"{name}.qkv", reader.qkv, READER_HEADS, narrow, OMITTED)
    return _linear(graph, f"{name}.output", reader.output, _first(graph, context))


def _first(graph: Graph, hidden: Value) -> Value:
    """The vector of [CLS]; (1, T, d) to (1, d)."""
    return graph.op("Gather", hidden, graph.constant(0, "int64"), axis=1)


def _mean(graph: Graph, hidden: Value) -> Value:
    return graph.op("ReduceMean", hidden, axes=[1], keepdims=0)


def _max(graph: Graph, hidden: Value) -> Value:
    return graph.op("ReduceMax", hidden, axes=[1], keepdims=0)


def _linear(graph: Graph, name: str, linear: nn.Linear, x: Value) -> Value:
    product = FLOATS.product(graph, name, linear, x)
    bias = linear.bias if linear.bias is not None else torch.zeros(linear.out_features)
    return graph.op("Add", product, graph.weight(f"{name}.bias", array(bias)))
