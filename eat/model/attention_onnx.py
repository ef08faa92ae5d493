"""Attention over one text as ONNX nodes; the sibling of `attention.py`.

The fused operator is used where it can be. A reducer that needs the attention received or the keys, and merged tokens,
which count several times as keys, need the attention written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from eat.model.attention import AttentionPattern
from eat.model.graph_onnx import OMITTED, Graph, Value
from eat.model.products_onnx import Products, array

NEVER = -1e30
"""Added to the attention logits of a pair outside the window."""


@dataclass(frozen=True)
class Attended:
    """The context of each token (1, T, d). If the attention was written out: its probabilities (1, h, T, T), and the
    keys (T, d).
    """

    context: Value
    probabilities: Value = OMITTED
    keys: Value = OMITTED


def seen_pairs(graph: Graph, pattern: AttentionPattern, length: Value) -> Value:
    """Which pairs attend to each other; bool (T, T), omitted if all do. length: int64 (1,)."""
    if not pattern.window:
        return OMITTED
    places = graph.op("Range", graph.constant(0, np.int64), graph.op("Squeeze", length), graph.constant(1, np.int64))
    queries, keys = graph.op("Unsqueeze", places, graph.whole(1)), graph.op("Unsqueeze", places, graph.whole(0))
    distance = graph.op("Sub", keys, queries)
    near = graph.op(
        "And",
        graph.op("GreaterOrEqual", distance, graph.whole(-pattern.left)),
        graph.op("LessOrEqual", distance, graph.whole(pattern.right)),
    )
    first = graph.op("Or", *(graph.op("Equal", side, graph.whole(0)) for side in (queries, keys)))  # [CLS]
    return graph.op("Or", near, first)


def fused_attention(
    graph: Graph, products: Products, name: str, qkv: nn.Linear, heads: int, x: Value, seen: Value
) -> Attended:
    """The context from the fused operator. seen: bool (T, T), or omitted."""
    mask = seen and graph.op("Unsqueeze", graph.op("Cast", seen, to=6), graph.whole(0))
    return Attended(products.attention(graph, name, qkv, heads, x, mask))


def written_out_attention(
    graph: Graph, products: Products, name: str, qkv: nn.Linear, heads: int, x: Value, seen: Value, key_bias: Value
) -> Attended:
    """The same, operator by operator. key_bias: added to the logits of each token as a key (T,), or omitted."""
    together = qkv.out_features // 3
    width = together // heads
    projected = graph.op("Add", products.product(graph, name, qkv, x), graph.weight(f"{name}.bias", array(qkv.bias)))
    query, key, value = graph.ops("Split", 3, projected, axis=2)
    split = graph.whole(0, 0, heads, width)
    queries, values = (
        graph.op("Transpose", graph.op("Reshape", part, split), perm=[0, 2, 1, 3]) for part in (query, value)
    )
    keys = graph.op("Transpose", graph.op("Reshape", key, split), perm=[0, 2, 3, 1])
    logits = graph.op("FusedMatMul", queries, keys, alpha=width**-0.5)
    if key_bias:
        logits = graph.op("Add", logits, key_bias)
    if seen:
        logits = graph.op("Where", seen, logits, graph.number(NEVER))
    probabilities = graph.op("Softmax", logits, axis=-1)
    context = graph.op("Transpose", graph.op("MatMul", probabilities, values), perm=[0, 2, 1, 3])
    return Attended(
        graph.op("Reshape", context, graph.whole(0, 0, together)),
        probabilities,
        graph.op("Squeeze", key, graph.whole(0)),
    )


def received(graph: Graph, probabilities: Value, length: Value, own_query: bool) -> Value:
    """The attention each token receives, averaged over heads and queries; (1, h, T, T) to (T,).

    length: int64 (1,). own_query: whether a token's attention to itself counts.
    """
    if not own_query:
        square = graph.op("Concat", length, length, axis=0)
        eye = graph.op("EyeLike", graph.op("Expand", graph.number(0.0), square))
        others = graph.op("Sub", graph.number(1.0), eye)
        probabilities = graph.op("Mul", probabilities, others)
    return graph.op("ReduceMean", probabilities, axes=[0, 1, 2], keepdims=0)
