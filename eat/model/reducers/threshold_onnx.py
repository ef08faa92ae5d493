"""Learned token pruning as ONNX nodes; the sibling of `threshold.py`."""

from __future__ import annotations

from eat.model.graph_onnx import Graph
from eat.model.reducers.base_onnx import Removal, TokenView, protected
from eat.model.reducers.selection_onnx import FLOAT, highest_threshold, keep_above, kept_of
from eat.model.reducers.threshold import LOWEST_THRESHOLD, PADDED_LENGTH, ThresholdReducer


def threshold(graph: Graph, reducer: ThresholdReducer, view: TokenView) -> Removal:
    """The tokens whose score is at least the layer's threshold."""
    scores = view.received
    if reducer.score != "mean":
        length = graph.op("Cast", view.length, to=FLOAT)
        scores = graph.op("Mul", scores, graph.op("Div", length, graph.number(PADDED_LENGTH)))
    flags = protected(graph, reducer, view)
    lowest = graph.number(max(LOWEST_THRESHOLD, float(reducer.threshold(view.depth))))
    if reducer.keep_at_least:
        least = kept_of(graph, view.length, graph.whole(0), 1.0 - reducer.keep_at_least)
        lowest = graph.op("Min", lowest, highest_threshold(graph, scores, flags, least))
    return keep_above(graph, scores, lowest, flags, view.wants_margin)
