"""Learned token pruning (LTP, arXiv:2107.00910): a token is removed if it receives too little attention.

With s_i the mean over heads and queries of the attention given to token i, and l counted from 0,

    Delta_l = final l / L + theta_l                  theta learned, from 0
    soft:  M_i = sigmoid((s_i - Delta_l) / T),  h_i <- M_i h_i at the layer's output,  loss + penalty sum_l mean_i(M_i)
    hard:  token i is removed between attention and feed-forward part iff s_i < max(1e-5, Delta_l)

With `keep_at_least`, which is not in the paper, the tokens with the highest scores stay up to this share of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from eat.model.operations import Operations
from eat.model.reducers.base import UNKNOWN, Dimensions, Place, Reducer, Reduction, TokenView
from eat.model.reducers.selection import keep_above, rows_of, sum_of_rows
from eat.model.reducers.top_k import kept_of

LOWEST_THRESHOLD = 1e-5
PADDED_LENGTH = 128
"""The length to which the public code pads, and by which it divides the received attention."""


class ThresholdReducer(Reducer):
    """Removes the tokens that receive less attention than the layer's learned threshold.

    final, temperature: Delta's slope and T above, in units of the score. penalty: lambda. score: `padded128` is the sum
    over the live queries over 128, as the public code computes it: then a threshold means t s_i >= 128 Delta, whatever
    the length t. `mean` is s_i itself, whose mean is 1 / t. keep_at_least: the least share of the tokens that stays.
    """

    place: Place = "after_attention"
    needs_received = True
    learns = True

    def __init__(
        self,
        after: Sequence[int],
        final: float,
        temperature: float,
        penalty: float,
        score: Literal["padded128", "mean"] = "padded128",
        keep_at_least: float = 0.0,
        protect: Sequence[str] = ("cls",),
        dimensions: Dimensions = UNKNOWN,
    ) -> None:
        super().__init__(after, protect, dimensions)
        self.final = final
        self.temperature = temperature
        self.penalty = penalty
        self.score = score
        self.keep_at_least = keep_at_least
        self.theta = nn.Parameter(torch.zeros(len(self.after)))

    def soften(self, soft: bool) -> None:
        """The soft mask scales the layer's output; the removal comes before the feed-forward part, which it saves."""
        super().soften(soft)
        self.place = "layer_output" if soft else "after_attention"

    def threshold(self, depth: int) -> Tensor:
        """Delta of a layer; ()."""
        return self.final * (depth - 1) / self.dimensions.layers + self.theta[self.index_of(depth)]

    def importance(self, view: TokenView) -> Tensor:
        """The score of each token; (n,)."""
        assert view.received is not None
        if self.score == "mean":
            return view.received
        lengths = view.layout.lengths_tensor.to(view.received.dtype)
        own_length = lengths if view.layout.rows == 1 else lengths.index_select(0, view.layout.row_of_token)
        return view.received * (own_length / PADDED_LENGTH)

    def reduce(self, view: TokenView) -> Reduction:
        """Soft: hidden states weighted by the mask, and its L1 term. Hard: the tokens at or above the threshold."""
        scores, threshold, protected = self.importance(view), self.threshold(view.depth), self.protected(view)
        if not self.soft:
            threshold = threshold.clamp_min(LOWEST_THRESHOLD)
            if self.keep_at_least:
                threshold = torch.minimum(threshold, self._highest(scores.masked_fill(protected, torch.inf), view))
            return keep_above(scores, threshold, protected, view.layout, view.wants_margin)
        mask = torch.sigmoid((scores - threshold) / self.temperature).masked_fill(protected, 1.0)
        kept_part = sum_of_rows(mask, view.layout) / view.layout.lengths_tensor
        return Reduction(
            view.layout,
            hidden=view.hidden * mask[:, None].to(view.hidden.dtype),
            loss=self.penalty * kept_part.mean(),
        )

    def _highest(self, scores: Tensor, view: TokenView) -> Tensor:
        """The highest threshold at which enough tokens of each row stay, by token; (n,).

        It lies in the middle between the last score that must stay and the next, of which 0 is the lowest.
        """
        layout = view.layout
        least = [kept_of(length, 0, 1.0 - self.keep_at_least) for length in layout.lengths]
        table = rows_of(scores, layout, -torch.inf)
        ordered = torch.cat([table, torch.zeros_like(table[:, :1])], dim=1).sort(dim=1, descending=True).values
        last = torch.tensor(least, device=scores.device)[:, None]
        middle = (ordered.gather(1, last - 1) + ordered.gather(1, last))[:, 0] / 2.0
        return middle.index_select(0, layout.row_of_token)

    def operations(self) -> Operations:
        """The attention logits are computed once more: 2 d per pair."""
        return Operations(per_pair=2.0 * self.dimensions.hidden)
