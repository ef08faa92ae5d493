"""The token reducers by name. A token reducer decides which tokens a layer passes on.

A reducer declares its *place* in the layer and what it *needs*, and answers with the tokens to keep, or with merged
ones. The encoder removes the others physically: they are indexed away, not masked. A reducer that learns weakens tokens
while it does so, in a stage with `removal: soft`. Each kind is a module of this package, an entry of `REDUCERS`, and a
class of options in `options.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eat.errors import EatError, listed
from eat.model.reducers.base import UNKNOWN, Dimensions, Reducer
from eat.model.reducers.merging import MergingReducer
from eat.model.reducers.predictor import PredictorReducer
from eat.model.reducers.ratio import NormReducer, RandomReducer, ReceivedReducer
from eat.model.reducers.retention import RetentionReducer
from eat.model.reducers.threshold import ThresholdReducer

REDUCERS: Mapping[str, type[Reducer]] = {
    "none": Reducer,
    "norm": NormReducer,
    "received": ReceivedReducer,
    "random": RandomReducer,
    "threshold": ThresholdReducer,
    "retention": RetentionReducer,
    "predictor": PredictorReducer,
    "merging": MergingReducer,
}
"""The reducers by their name in the configuration."""


def build_reducer(options: Mapping[str, Any], dimensions: Dimensions = UNKNOWN) -> Reducer:
    """A reducer from its row in the configuration (`kind` and its options), for a model of these dimensions.

    Raises `EatError` where there is no such kind.
    """
    if options.get("kind") not in REDUCERS:
        raise EatError(f"reducer: found the kind {options.get('kind')!r}; allowed: {listed(REDUCERS)}")
    rest = {key: value for key, value in options.items() if key != "kind"}
    if options["kind"] == "none":  # a row may leave the options of another kind behind
        rest = {}
    return REDUCERS[options["kind"]](**rest, dimensions=dimensions)
