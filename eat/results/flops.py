"""Floating-point operations of one text, from the counts that its trace recorded.

A multiply-add is two operations. Only matrix products count: the projections, attention, the feed-forward part, the
heads, and what a reducer needs to score tokens. Norms, activations, additions, embeddings and the pooling of a head are
not counted, as in `torch.utils.flop_counter`; they are less than one per cent of the total. Padding does not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eat.errors import EatError
from eat.model.operations import layer_operations

if TYPE_CHECKING:
    from eat.results.trace import Trace

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]


def flops(trace: Trace, depth: Integers, heads: Collection[int], pattern: bool = False) -> Floats:
    """Operations of each text that runs its first `depth` layers; float64 (N,).

    A layer costs its products (`layer_operations`) and its reducer's scoring of tokens.

    depth: executed depth of each text (N,), from 1 to L. heads: the layers whose head the operating point evaluates;
    those that a text reaches are counted. pattern: count the pairs of the attention pattern instead of those computed.
    Raises `EatError` if a depth is outside 1..L.
    """
    layers, hidden = trace.shape["layers"], trace.shape["hidden"]
    if depth.size and not (depth.min() >= 1 and depth.max() <= layers):
        raise EatError(f"executed depth from {depth.min()} to {depth.max()}; the model has layers 1 to {layers}")
    pairs = trace.pattern_pairs if pattern else trace.pairs
    counts = (values.astype(np.float64) for values in (trace.attended, trace.fed, pairs))
    per_layer = layer_operations(hidden, *_widths(trace.shape), *counts)
    for layer, cost_of_scoring in trace.shape["scoring"].items():
        per_layer[:, int(layer) - 1] += _count(cost_of_scoring, _scored(trace, int(layer)))
    executed = np.arange(1, layers + 1) <= depth[:, None]
    cost: Floats = np.where(executed, per_layer, 0.0).sum(axis=1)
    for head in heads:
        cost += np.where(depth >= head, head_flops(trace, head), 0.0)
    return cost


def head_flops(trace: Trace, depth: int) -> Floats:
    """Operations of the head after layer `depth`, which sees the tokens fed to that layer; float64 (N,)."""
    return _count(trace.shape["head_operations"][str(depth)], trace.fed[:, depth - 1])


def _widths(shape: Mapping[str, Any]) -> Floats:
    """The width of all attention heads, and that of the feed-forward part, of each layer; float64 (2, L)."""
    every = shape.get("layer_widths") or [[shape["hidden"], shape["intermediate"]]] * shape["layers"]
    return np.array(every, dtype=np.float64).T


def _scored(trace: Trace, layer: int) -> Integers:
    """The tokens that the reducer scores in a layer: those before a removal at its input, else those attended."""
    if trace.shape["scoring_place"] != "layer_input":
        return trace.attended[:, layer - 1]
    return trace.lengths if layer == 1 else trace.alive[:, layer - 2]


def _count(operations: Sequence[float], tokens: Integers) -> Floats:
    fixed, per_token, per_pair = operations
    count: Floats = fixed + per_token * tokens + per_pair * tokens.astype(np.float64) ** 2
    return count
