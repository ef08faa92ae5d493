"""Floating-point operations of one text, from the counts that its trace recorded.

A multiply-add is two operations. Only matrix products count: the projections, attention, the feed-forward part and the
heads. Norms, activations, additions, embeddings, the pooling of a head and the scoring of tokens by a reducer are left
out, as `torch.utils.flop_counter` leaves them out; they are below a hundredth of the whole. Nothing is padded.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eat.errors import EatError

if TYPE_CHECKING:
    from eat.trace import Trace

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]


def flops(trace: Trace, depth: Integers, heads: Collection[int], pattern: bool = False) -> Floats:
    """Operations of each text that runs its first `depth` layers; float64 (N,).

    With a tokens entering attention, f entering the feed-forward part, m the width of that part and s attended pairs,
    a layer costs 8 d^2 a (query, key, value, output) + 4 d s (scores, context; all attention heads together) + 4 d m f.

    depth: executed depth of each text (N,), from 1 to L. heads: the layers whose head the operating point evaluates;
    a text pays for those it reaches. pattern: count the pairs of the attention pattern instead of those computed.
    Raises `EatError` where a depth is outside 1..L.
    """
    layers, hidden, intermediate = trace.shape["layers"], trace.shape["hidden"], trace.shape["intermediate"]
    if depth.size and not (depth.min() >= 1 and depth.max() <= layers):
        raise EatError(f"executed depth from {depth.min()} to {depth.max()}; the model has layers 1 to {layers}")
    pairs = trace.pattern_pairs if pattern else trace.pairs
    per_layer = 8.0 * hidden * hidden * trace.attended + 4.0 * hidden * pairs + 4.0 * hidden * intermediate * trace.fed
    executed = np.arange(1, layers + 1) <= depth[:, None]
    cost: Floats = np.where(executed, per_layer, 0.0).sum(axis=1)
    for head in heads:
        cost += np.where(depth >= head, head_flops(trace, head), 0.0)
    return cost


def head_flops(trace: Trace, depth: int) -> float:
    """Operations of the head after layer `depth`: 2 d C, and 2 d^2 more for a last head of BERT or DistilBERT."""
    hidden, classes = trace.shape["hidden"], trace.shape["classes"]
    projects = depth == trace.shape["layers"] and trace.shape["last_head"] in ("bert", "distilbert")
    return float(2 * hidden * classes + (2 * hidden * hidden if projects else 0))
