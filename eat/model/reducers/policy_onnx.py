"""The token policy as ONNX nodes; the sibling of `policy.py`."""

from __future__ import annotations

from torch import nn

from eat.model.graph_onnx import Graph, Value
from eat.model.products_onnx import Float32Products, array
from eat.model.reducers.base_onnx import Removal, TokenView, protected
from eat.model.reducers.policy import KEPT_FROM, PolicyReducer
from eat.model.reducers.selection_onnx import keep_above

FLOATS = Float32Products()


def policy(graph: Graph, reducer: PolicyReducer, view: TokenView) -> Removal:
    """The tokens that are kept with a probability of at least 1/2."""
    name = f"{view.name}.networks.{view.depth}"
    layers = reducer.networks[str(view.depth)]
    assert isinstance(layers, nn.Sequential)
    narrow, _, last = layers
    wide = _linear(graph, f"{name}.narrow", narrow, view.hidden)
    logits = _linear(graph, f"{name}.last", last, graph.op("Gelu", wide))  # (1, T, 1)
    probabilities = graph.op("Sigmoid", graph.op("Squeeze", logits, graph.whole(0, 2)))
    kept_from = graph.number(KEPT_FROM)
    return keep_above(graph, probabilities, kept_from, protected(graph, reducer, view), view.wants_margin)


def _linear(graph: Graph, name: str, linear: nn.Module, x: Value) -> Value:
    assert isinstance(linear, nn.Linear)
    return graph.op("Add", FLOATS.product(graph, name, linear, x), graph.weight(f"{name}.bias", array(linear.bias)))
