"""The contribution predictor as ONNX nodes; the sibling of `predictor.py`."""

from __future__ import annotations

import numpy as np

from eat.model.graph_onnx import Graph
from eat.model.reducers.base_onnx import Removal, TokenView, protected
from eat.model.reducers.networks_onnx import token_logits
from eat.model.reducers.predictor import PredictorReducer
from eat.model.reducers.selection_onnx import FLOAT, keep_above


def predictor(graph: Graph, reducer: PredictorReducer, view: TokenView) -> Removal:
    """The tokens whose predicted share is at least eta / T."""
    index = reducer.index_of(view.depth)
    name = f"{view.name}.predictors.{view.depth}"
    logits = token_logits(graph, name, reducer.predictors[str(view.depth)], view.hidden)
    softmax = graph.op("Softmax", logits, axis=0)
    cls = graph.op("Equal", view.places, graph.whole(0))
    factor = graph.constant([float(reducer.cls_factor[index])], np.float32)
    weighted = graph.op("Where", cls, graph.op("Mul", softmax, factor), softmax)
    shares = graph.op("Div", weighted, graph.op("ReduceSum", weighted, graph.whole(0), keepdims=1))
    eta = graph.constant([float(reducer.eta[index])], np.float32)
    delta = graph.op("Div", eta, graph.op("Cast", view.length, to=FLOAT))
    return keep_above(graph, shares, delta, protected(graph, reducer, view), view.wants_margin)
