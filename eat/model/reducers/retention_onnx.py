"""Learned retention as ONNX nodes; the sibling of `retention.py`."""

from __future__ import annotations

import numpy as np

from eat.model.graph_onnx import Graph
from eat.model.reducers.base_onnx import Removal, TokenView, protected
from eat.model.reducers.retention import RetentionReducer
from eat.model.reducers.selection_onnx import INFINITE, count_of, keep_most_important


def retention(graph: Graph, reducer: RetentionReducer, view: TokenView) -> Removal:
    """The most significant tokens, as many as the layer retains, and at least the protected ones."""
    flags = protected(graph, reducer, view)
    scores = graph.op("Where", flags, graph.constant([INFINITE], np.float32), view.received)
    count = graph.whole(reducer.kept(view.depth))
    if "sep" in reducer.protect:
        count = graph.op("Max", count, count_of(graph, flags))
    count = graph.op("Min", count, view.length)
    return keep_most_important(graph, scores, count, view.length, view.wants_margin)
