"""Token merging as ONNX nodes; the sibling of `merging.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eat.model.graph_onnx import OMITTED, Graph, Value
from eat.model.reducers.base_onnx import Removal, TokenView, protected
from eat.model.reducers.merging import MergingReducer
from eat.model.reducers.selection_onnx import FLOAT, INFINITE, INT64, count_of, keep_most_important, kept_of


def merging(graph: Graph, reducer: MergingReducer, view: TokenView) -> Removal:
    """The remaining tokens, with the means of the tokens they represent."""
    infinite = graph.constant([INFINITE], np.float32)
    flags = protected(graph, reducer, view)
    in_a, in_b = _alternate(graph, flags)
    similarity = _similarity(graph, reducer, view)  # (T, T)
    alike = graph.op("Where", in_b, similarity, graph.op("Neg", infinite))
    two_best, choices = graph.ops(
        "TopK", 2, graph.op("Pad", alike, graph.whole(0, 0, 0, 1), _lowest(graph)), graph.whole(2)
    )
    best, second = graph.ops("Split", 2, two_best, axis=1)
    choice = graph.op(
        "Squeeze", graph.op("Slice", choices, graph.whole(0), graph.whole(1), graph.whole(1)), graph.whole(1)
    )
    flat_best = graph.op("Squeeze", best, graph.whole(1))
    # the distance 1 - cosine is the importance of a token of A; all others are kept
    distance = graph.op("Max", graph.op("Sub", graph.number(1.0), flat_best), graph.number(0.0))
    distance = graph.op("Where", in_a, distance, infinite)
    count = kept_of(graph, view.length, count_of(graph, flags), reducer.ratio * reducer.scale)
    selected = keep_most_important(graph, distance, count, view.length, view.wants_margin)
    live = graph.op("Range", *_zero_to(graph, view.length))
    is_kept = graph.op("ReduceMax", _matches(graph, selected.kept, live), axes=[0], keepdims=0)  # float (T,)
    kept_flags = graph.op("Greater", is_kept, graph.number(0.5))
    target = graph.op("Where", kept_flags, live, choice)
    joins = _matches(graph, selected.kept, target)  # (t, T): which tokens each kept token represents
    sizes = (
        graph.op("Round", graph.op("Exp", view.key_bias))
        if view.key_bias
        else graph.op("Cast", _ones(graph, live), to=FLOAT)
    )
    weights = graph.op("Mul", joins, sizes)
    total = graph.op("ReduceSum", weights, graph.whole(1), keepdims=1)  # (t, 1)
    hidden = graph.op("Div", graph.op("MatMul", weights, view.hidden), total)
    margin = OMITTED
    if view.wants_margin:  # another choice of B also changes the answer
        gap = graph.op("Squeeze", graph.op("Sub", best, second), graph.whole(1))
        gap = graph.op("Where", kept_flags, infinite, gap)
        margin = graph.op("Min", selected.margin, graph.op("ReduceMin", gap, axes=[0], keepdims=1))
    bias = graph.op("Log", graph.op("Squeeze", total, graph.whole(1)))
    return replace(selected, hidden=hidden, key_bias=bias, margin=margin)


def _alternate(graph: Graph, flags: Value) -> tuple[Value, Value]:
    """The unprotected tokens, alternately in A and B; bool (T,) each."""
    free = graph.op("Not", flags)
    number = graph.op("CumSum", graph.op("Cast", free, to=INT64), graph.constant(0, np.int64))  # from 1
    odd = graph.op("Equal", graph.op("Mod", number, graph.whole(2)), graph.whole(1))
    return graph.op("And", free, odd), graph.op("And", free, graph.op("Not", odd))


def _similarity(graph: Graph, reducer: MergingReducer, view: TokenView) -> Value:
    """The cosine of the keys, averaged over heads, of every pair of tokens; (T, T)."""
    heads = reducer.dimensions.heads
    split = graph.whole(0, heads, reducer.dimensions.hidden // heads)
    keys = graph.op("ReduceMean", graph.op("Reshape", view.keys, split), axes=[1], keepdims=0)
    norm = graph.op("Max", graph.op("ReduceL2", keys, axes=[1], keepdims=1), graph.number(1e-12))
    unit = graph.op("Div", keys, norm)
    return graph.op("FusedMatMul", unit, unit, transB=1)


def _matches(graph: Graph, left: Value, right: Value) -> Value:
    """1 where the integers are equal; int64 (t,), (T,) to float (t, T)."""
    rows, columns = graph.op("Unsqueeze", left, graph.whole(1)), graph.op("Unsqueeze", right, graph.whole(0))
    return graph.op("Cast", graph.op("Equal", rows, columns), to=FLOAT)


def _zero_to(graph: Graph, length: Value) -> tuple[Value, Value, Value]:
    """The inputs of a `Range` over the live tokens."""
    return graph.constant(0, np.int64), graph.op("Squeeze", length), graph.constant(1, np.int64)


def _ones(graph: Graph, values: Value) -> Value:
    return graph.op("Equal", values, values)


def _lowest(graph: Graph) -> Value:
    """The value of the padding: a text of one token has no second choice."""
    return graph.constant(-INFINITE, np.float32)
