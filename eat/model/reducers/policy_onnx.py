"""The token policy as ONNX nodes; the sibling of `policy.py`."""

from __future__ import annotations

from eat.model.graph_onnx import Graph
from eat.model.reducers.base_onnx import Removal, TokenView, protected
from eat.model.reducers.networks_onnx import token_logits
from eat.model.reducers.policy import KEPT_FROM, PolicyReducer
from eat.model.reducers.selection_onnx import keep_above


def policy(graph: Graph, reducer: PolicyReducer, view: TokenView) -> Removal:
    """The tokens that are kept with a probability of at least 1/2."""
    name = f"{view.name}.networks.{view.depth}"
    probabilities = graph.op("Sigmoid", token_logits(graph, name, reducer.networks[str(view.depth)], view.hidden))
    kept_from = graph.number(KEPT_FROM)
    return keep_above(graph, probabilities, kept_from, protected(graph, reducer, view), view.wants_margin)
