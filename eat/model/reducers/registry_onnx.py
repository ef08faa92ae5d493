"""The ONNX form of each reducer; the sibling of `registry.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eat.errors import EatError, listed
from eat.model.graph_onnx import Graph
from eat.model.reducers.base import Reducer
from eat.model.reducers.base_onnx import Removal, TokenView
from eat.model.reducers.merging import MergingReducer
from eat.model.reducers.merging_onnx import merging
from eat.model.reducers.policy import PolicyReducer
from eat.model.reducers.policy_onnx import policy
from eat.model.reducers.predictor import PredictorReducer
from eat.model.reducers.predictor_onnx import predictor
from eat.model.reducers.retention import RetentionReducer
from eat.model.reducers.retention_onnx import retention
from eat.model.reducers.threshold import ThresholdReducer
from eat.model.reducers.threshold_onnx import threshold
from eat.model.reducers.top_k import NormReducer, RandomReducer, ReceivedReducer
from eat.model.reducers.top_k_onnx import norm, random, received

FORMS: Mapping[type[Reducer], Callable[[Graph, Any, TokenView], Removal | None]] = {
    NormReducer: norm,
    ReceivedReducer: received,
    RandomReducer: random,
    ThresholdReducer: threshold,
    RetentionReducer: retention,
    PredictorReducer: predictor,
    PolicyReducer: policy,
    MergingReducer: merging,
}
"""Class of a reducer -> the function that appends its nodes, which returns `None` if it removes nothing."""


def removal(graph: Graph, reducer: Reducer, view: TokenView) -> Removal | None:
    """Append the nodes of a reducer. Raises `EatError` if it has no ONNX form."""
    form = FORMS.get(type(reducer))
    if form is None:
        known = listed(kind.__name__ for kind in FORMS)
        raise EatError(f"{type(reducer).__name__} has no ONNX form; reducers with one: {known}")
    return form(graph, reducer, view)
