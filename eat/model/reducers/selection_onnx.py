"""Selection of tokens by scores and counts, or by a flag per token, as ONNX nodes; the sibling of `selection.py`."""

from __future__ import annotations

import numpy as np

from eat.model.graph_onnx import OMITTED, Graph, Value
from eat.model.reducers.base_onnx import Removal

INFINITE = float("inf")
SMALLEST = float(np.finfo(np.float32).tiny)
FLOAT, INT64, DOUBLE = 1, 7, 11
"""The numbers of dtypes in ONNX."""


def keep_most_important(graph: Graph, scores: Value, count: Value, length: Value, wants_margin: bool) -> Removal:
    """Keep the `count` tokens with the highest scores (T,), in their order; ties go to the earlier token.

    scores: at least 0, infinite for tokens that must be kept. count, length: int64 (1,).
    """
    ordered, order = graph.ops("TopK", 2, scores, length if wants_margin else count)
    margin = OMITTED
    if wants_margin:
        order = graph.op("Slice", order, graph.whole(0), count)
        margin = _cut_margin(graph, graph.op("Cast", ordered, to=FLOAT), count)
    return Removal(ascending(graph, order, count), count, margin=margin)


def ascending(graph: Graph, indices: Value, count: Value) -> Value:
    """Indices (t,) in ascending order. count: t, int64 (1,)."""
    return graph.ops("TopK", 2, indices, count, largest=0)[0]


def _cut_margin(graph: Graph, ordered: Value, count: Value) -> Value:
    """The relative gap at the cut of descending scores (T,), infinite if nothing is removed; (1,)."""
    infinite = graph.constant([INFINITE], np.float32)
    least = graph.op("Gather", ordered, graph.op("Sub", count, graph.whole(1)))
    padded = graph.op("Concat", ordered, graph.op("Neg", infinite), axis=0)
    removed = graph.op("Gather", padded, count)
    gap = graph.op("Div", graph.op("Sub", least, removed), graph.op("Max", least, graph.number(SMALLEST)))
    open_end = graph.op("Or", graph.op("IsInf", removed), graph.op("IsInf", least))
    return graph.op("Where", open_end, infinite, gap)


def keep_above(graph: Graph, scores: Value, threshold: Value, protected: Value, wants_margin: bool) -> Removal:
    """Keep the protected tokens, and those with a score (T,) of at least the threshold ()."""
    flags = graph.op("Or", graph.op("GreaterOrEqual", scores, threshold), protected)
    kept = graph.op("Squeeze", graph.op("NonZero", flags), graph.whole(0))
    margin = OMITTED
    if wants_margin:
        distance = graph.op("Abs", graph.op("Sub", scores, threshold))
        gap = graph.op("Div", distance, graph.op("Max", threshold, graph.number(SMALLEST)))
        gap = graph.op("Where", protected, graph.constant([INFINITE], np.float32), gap)
        margin = graph.op("ReduceMin", gap, axes=[0], keepdims=1)
    return Removal(kept, graph.op("Shape", kept), margin=margin)


def highest_threshold(graph: Graph, scores: Value, protected: Value, least: Value) -> Value:
    """The highest threshold () at which `least` tokens stay, int64 (1,): the middle between the last of their scores
    (T,) and the next, of which 0 is the lowest; infinite if they are all protected."""
    masked = graph.op("Where", protected, graph.constant([INFINITE], np.float32), scores)
    padded = graph.op("Concat", masked, graph.constant([0.0], np.float32), axis=0)
    ordered, _ = graph.ops("TopK", 2, padded, graph.op("Add", least, graph.whole(1)))
    last = graph.op("Gather", ordered, graph.op("Sub", least, graph.whole(1)))
    middle = graph.op("Div", graph.op("Add", last, graph.op("Gather", ordered, least)), graph.number(2.0))
    return graph.op("Squeeze", middle, graph.whole(0))


def kept_of(graph: Graph, length: Value, protected: Value, ratio: float) -> Value:
    """The protected tokens and ceil((1 - p) x the others), in float64 as `top_k.kept_of`; int64 (1,), all of them."""
    others = graph.op("Cast", graph.op("Sub", length, protected), to=DOUBLE)
    share = graph.op("Mul", others, graph.constant([1.0 - ratio], np.float64))
    kept = graph.op("Ceil", graph.op("Sub", share, graph.constant([1e-9], np.float64)))
    return graph.op("Add", protected, graph.op("Cast", kept, to=INT64))


def count_of(graph: Graph, flags: Value) -> Value:
    """The number of true flags (T,); int64 (1,)."""
    return graph.op("ReduceSum", graph.op("Cast", flags, to=INT64), graph.whole(0), keepdims=1)
