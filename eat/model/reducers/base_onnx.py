"""The input and the result of a reducer's ONNX nodes; the sibling of `base.py`."""

from __future__ import annotations

from dataclasses import dataclass

from eat.model.graph_onnx import OMITTED, Graph, Value
from eat.model.reducers.base import Reducer


@dataclass(frozen=True)
class TokenView:
    """The live tokens of one text at a reducer's place in a layer.

    name: the prefix of its weights. hidden: (1, T, d). length: int64 (1,). ids, places: the token ids at the input, and
    the place of each live token among them, int64 (T,). separator: the id of [SEP]. received: the attention received
    (T,), and keys (T, d), if the reducer needs them. key_bias: added to a token's logits as a key (T,), if any.
    wants_margin: whether the margin of the removal is used.
    """

    name: str
    depth: int
    hidden: Value
    length: Value
    ids: Value
    places: Value
    separator: int
    received: Value = OMITTED
    keys: Value = OMITTED
    key_bias: Value = OMITTED
    wants_margin: bool = False


@dataclass(frozen=True)
class Removal:
    """The kept tokens.

    kept: their ascending indices among the live tokens, int64 (t,). length: t, int64 (1,). hidden: their new hidden
    states (1, t, d), if a token is merged into others. key_bias: added to their logits as keys from now on (t,), if
    any. margin: as in `base.py`, float (1,), if it is wanted.
    """

    kept: Value
    length: Value
    hidden: Value = OMITTED
    key_bias: Value = OMITTED
    margin: Value = OMITTED


def protected(graph: Graph, reducer: Reducer, view: TokenView) -> Value:
    """Which tokens are never removed; bool (T,)."""
    flags = graph.op("Less", view.places, graph.whole(int("cls" in reducer.protect)))
    if "sep" in reducer.protect:
        flags = graph.op("Or", flags, graph.op("Equal", live_ids(graph, view), graph.whole(view.separator)))
    return flags


def live_ids(graph: Graph, view: TokenView) -> Value:
    """The token ids of the live tokens; int64 (T,)."""
    return graph.op("Gather", view.ids, view.places)
