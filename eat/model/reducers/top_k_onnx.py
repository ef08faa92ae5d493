"""Removal of a fixed share of the tokens as ONNX nodes; the sibling of `top_k.py`."""

from __future__ import annotations

import numpy as np

from eat.model.graph_onnx import Graph, Value
from eat.model.reducers.base_onnx import Removal, TokenView, live_ids, protected
from eat.model.reducers.selection_onnx import DOUBLE, INFINITE, count_of, keep_most_important, kept_of
from eat.model.reducers.top_k import TopKReducer


def norm(graph: Graph, reducer: TopKReducer, view: TokenView) -> Removal | None:
    """Importance is the L2 norm of the hidden state."""
    return _most_important(graph, reducer, view, graph.op("ReduceL2", view.hidden, axes=[0, 2], keepdims=0))


def received(graph: Graph, reducer: TopKReducer, view: TokenView) -> Removal | None:
    """Importance is the attention received."""
    return _most_important(graph, reducer, view, view.received)


def random(graph: Graph, reducer: TopKReducer, view: TokenView) -> Removal | None:
    """Importance is a fixed pseudo-random number of the token, its position and the layer; float64."""

    def plus(left: Value, right: Value) -> Value:
        return graph.op("Add", left, right)

    def times(value: Value, factor: int) -> Value:
        return graph.op("Mul", value, graph.whole(factor))

    mixed = plus(times(live_ids(graph, view), 7_919), times(view.places, 104_729))
    mixed = plus(mixed, graph.whole(view.depth * 1_299_709))
    for _ in range(2):
        mixed = graph.op("Mod", plus(times(mixed, 48_271), graph.whole(11)), graph.whole(2_147_483_647))
    scores = graph.op("Div", graph.op("Cast", mixed, to=DOUBLE), graph.constant([2_147_483_647.0], np.float64))
    return _most_important(graph, reducer, view, scores, np.float64)


def _most_important(
    graph: Graph, reducer: TopKReducer, view: TokenView, scores: Value, dtype: type[np.floating] = np.float32
) -> Removal | None:
    """The protected tokens, and the share 1 - p of the others with the highest scores (T,)."""
    ratio = reducer.ratio * reducer.scale
    if ratio == 0.0:
        return None
    count = graph.whole(int("cls" in reducer.protect))
    if reducer.protect == ("cls",):  # the first token
        others = graph.op("Slice", scores, graph.whole(1), view.length)
        scores = graph.op("Concat", graph.constant([INFINITE], dtype), others, axis=0)
    elif reducer.protect:
        flags = protected(graph, reducer, view)
        scores = graph.op("Where", flags, graph.constant([INFINITE], dtype), scores)
        count = count_of(graph, flags)
    kept = kept_of(graph, view.length, count, ratio)
    return keep_most_important(graph, scores, kept, view.length, view.wants_margin)
