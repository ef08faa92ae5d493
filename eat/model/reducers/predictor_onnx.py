"""The contribution predictor as ONNX nodes; the sibling of `predictor.py`."""

from __future__ import annotations

import numpy as np
from torch import nn

from eat.model.graph_onnx import Graph, Value
from eat.model.products_onnx import Float32Products, array
from eat.model.reducers.base_onnx import Removal, TokenView, protected
from eat.model.reducers.predictor import PredictorReducer
from eat.model.reducers.selection_onnx import FLOAT, keep_above

FLOATS = Float32Products()


def predictor(graph: Graph, reducer: PredictorReducer, view: TokenView) -> Removal:
    """The tokens whose predicted share is at least eta / T."""
    index = reducer.index_of(view.depth)
    name = f"{view.name}.predictors.{view.depth}"
    layers = reducer.predictors[str(view.depth)]
    assert isinstance(layers, nn.Sequential)
    narrow, _, last = layers
    wide = _linear(graph, f"{name}.narrow", narrow, view.hidden)
    logits = _linear(graph, f"{name}.last", last, graph.op("Gelu", wide))  # (1, T, 1)
    softmax = graph.op("Softmax", graph.op("Squeeze", logits, graph.whole(0, 2)), axis=0)
    cls = graph.op("Equal", view.places, graph.whole(0))
    factor = graph.constant([float(reducer.cls_factor[index])], np.float32)
    weighted = graph.op("Where", cls, graph.op("Mul", softmax, factor), softmax)
    shares = graph.op("Div", weighted, graph.op("ReduceSum", weighted, graph.whole(0), keepdims=1))
    eta = graph.constant([float(reducer.eta[index])], np.float32)
    delta = graph.op("Div", eta, graph.op("Cast", view.length, to=FLOAT))
    return keep_above(graph, shares, delta, protected(graph, reducer, view), view.wants_margin)


def _linear(graph: Graph, name: str, linear: nn.Module, x: Value) -> Value:
    assert isinstance(linear, nn.Linear)
    return graph.op("Add", FLOATS.product(graph, name, linear, x), graph.weight(f"{name}.bias", array(linear.bias)))
