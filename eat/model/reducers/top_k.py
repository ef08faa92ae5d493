"""Removal of a fixed share of the tokens: those with the lowest scores.

EAT removes after the layer, by the L2 norm of the hidden state (its algorithm 1); `received` is its alternative score,
`random` a control.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eat.model.operations import Operations
from eat.model.reducers.base import UNKNOWN, Dimensions, Reducer, Reduction, TokenView
from eat.model.reducers.selection import keep_most_important


class TopKReducer(Reducer):
    """Keeps the protected tokens and the ceil((1 - p)(t - protected)) most important others (algorithm 1)."""

    def __init__(
        self,
        after: Sequence[int] = (),
        ratio: float = 0.0,
        protect: Sequence[str] = ("cls",),
        dimensions: Dimensions = UNKNOWN,
    ) -> None:
        super().__init__(after, protect, dimensions)
        self.ratio = ratio

    def reduce(self, view: TokenView) -> Reduction | None:
        """The most important tokens of each row, in their order.

        Importance must be at least 0, in a tensor that may be modified.
        """
        ratio = self.ratio * self.scale
        if ratio == 0.0:
            return None
        scores = self.importance(view)
        counts = self._protect(scores, view)
        kept = [kept_of(length, count, ratio) for length, count in zip(view.layout.lengths, counts, strict=True)]
        return keep_most_important(scores, view.layout, kept, view.wants_margin)

    def _protect(self, scores: Tensor, view: TokenView) -> list[int]:
        """Set the scores of the protected tokens to infinity; returns their number in each row."""
        layout = view.layout
        if "cls" in self.protect:
            scores.index_fill_(0, layout.starts, torch.inf)
        if "sep" in self.protect and view.separator is not None:
            scores.masked_fill_(view.ids.eq(view.separator), torch.inf)
            return [int(count) for count in layout.pad(scores.isposinf()).logical_and(layout.live).sum(dim=1).tolist()]
        return [int("cls" in self.protect)] * layout.rows  # known on the host, without waiting for the device


def kept_of(length: int, protected: int, ratio: float) -> int:
    """The number of kept tokens of a row: the protected ones and ceil((1 - p) x the others), in exact arithmetic."""
    return protected + math.ceil((1.0 - ratio) * (length - protected) - 1e-9)


class NormReducer(TopKReducer):
    """Importance is the L2 norm of the hidden state, s_i = ||h_i||_2 (EAT, section 3.1)."""

    def importance(self, view: TokenView) -> Tensor:
        """L2 norms; (n,)."""
        norms: Tensor = torch.linalg.vector_norm(view.hidden.detach(), dim=-1)
        return norms


class ReceivedReducer(TopKReducer):
    """Importance is the attention received in this layer, averaged over heads and queries (PoWER-BERT's score)."""

    needs_received = True

    def importance(self, view: TokenView) -> Tensor:
        """Attention received; (n,)."""
        assert view.received is not None
        return view.received.detach().clone()

    def operations(self) -> Operations:
        """The attention logits are computed once more: 2 d per pair."""
        return Operations(per_pair=2.0 * self.dimensions.hidden)


class RandomReducer(TopKReducer):
    """A control: importance is a fixed pseudo-random number of the token, its position and the layer.

    It depends on nothing else, so that the same tokens of a text are removed in every batch and on every device.
    """

    def importance(self, view: TokenView) -> Tensor:
        """Numbers in [0, 1), exact in float64; (n,)."""
        mixed = view.ids * 7_919 + view.positions * 104_729 + view.depth * 1_299_709
        mixed = (mixed * 48_271 + 11) % 2_147_483_647
        mixed = (mixed * 48_271 + 11) % 2_147_483_647
        return mixed.to(torch.float64) / 2_147_483_647
