"""Token merging (ToMe, arXiv:2210.09461), implemented from the paper, for text: tokens are merged instead of removed.

Between attention and feed-forward part, the unprotected live tokens are split alternately into A and B. Each token of A
chooses the token of B with the most similar key (cosine of the keys averaged over heads). The most similar pairs become
one token each: the mean of the two, weighted by the number of tokens they represent. In later layers a token that
represents k tokens counts k times in attention: log k is added to its logits as a key (the paper's proportional
attention).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from eat.model.operations import Operations
from eat.model.reducers.base import UNKNOWN, Dimensions, Place, Reducer, Reduction, TokenView
from eat.model.reducers.selection import keep_most_important, rows_of
from eat.model.reducers.top_k import kept_of


class MergingReducer(Reducer):
    """Merges the share `ratio` of the unprotected tokens, at most half, into others.

    The number of remaining tokens is that of a removal with the same ratio.
    """

    place: Place = "after_attention"
    needs_keys = True

    def __init__(
        self,
        after: Sequence[int],
        ratio: float,
        protect: Sequence[str] = ("cls", "sep"),
        dimensions: Dimensions = UNKNOWN,
    ) -> None:
        super().__init__(after, protect, dimensions)
        self.ratio = ratio

    def reduce(self, view: TokenView) -> Reduction | None:
        """The remaining tokens, with the means of the tokens they represent."""
        layout = view.layout
        protected = rows_of(self.protected(view), layout, True)  # (B, T), and so are all tables here
        counts = protected.logical_and(layout.live).sum(dim=1).tolist()
        kept = [kept_of(t, count, self.ratio * self.scale) for t, count in zip(layout.lengths, counts, strict=True)]
        if kept == layout.lengths:
            return None
        place = (~protected).cumsum(dim=1) - 1  # among the row's unprotected tokens
        in_a, in_b = ~protected & (place % 2 == 0), ~protected & (place % 2 == 1)
        alike = self._similarity(view).masked_fill(~in_b[:, None, :], -torch.inf)  # (B, T, T)
        best, choice = alike.max(dim=2)
        # the distance 1 - cosine is the importance of a token of A; all others are kept
        distance = (1.0 - best).clamp_min(0.0).masked_fill(~in_a, torch.inf)
        selected = keep_most_important(layout.unpad(distance), layout, kept, view.wants_margin)
        assert selected.kept is not None
        is_kept = torch.zeros(layout.tokens, dtype=torch.bool, device=best.device).index_fill(0, selected.kept, True)
        target = layout.unpad(choice + layout.starts[:, None])
        hidden, sizes = _merged(view, selected.kept, is_kept, target)
        margin = selected.margin
        if margin is not None:  # another choice of B also changes the answer
            second = alike.scatter(2, choice[:, :, None], -torch.inf).amax(dim=2)
            gap = (best - second).masked_fill(rows_of(is_kept, layout, True), torch.inf)
            margin = torch.minimum(margin, gap.amin(dim=1))
        return Reduction(selected.layout, selected.kept, hidden, sizes.log(), margin)

    def _similarity(self, view: TokenView) -> Tensor:
        """Cosine of the keys, averaged over heads, of every pair of tokens of a row; (B, T, T)."""
        assert view.keys is not None
        keys = view.keys.detach().view(len(view.keys), self.dimensions.heads, -1).mean(dim=1)
        padded = view.layout.pad(F.normalize(keys.float(), dim=1))
        return padded @ padded.transpose(1, 2)

    def operations(self) -> Operations:
        """The similarity of all pairs: 2 d / h per pair."""
        return Operations(per_pair=2.0 * self.dimensions.hidden / self.dimensions.heads)


def _merged(view: TokenView, kept: Tensor, is_kept: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden states of the kept tokens (m, d) after merging, and the number of tokens each represents (m,).

    is_kept: which tokens are kept, bool (n,). target: the kept token that each token would be merged into (n,).
    """
    own = torch.arange(len(is_kept), device=is_kept.device)
    place = torch.empty_like(own).index_put((kept,), torch.arange(len(kept), device=kept.device))
    joins = place.index_select(0, torch.where(is_kept, own, target))
    sizes = torch.ones_like(view.hidden[:, 0]) if view.key_bias is None else view.key_bias.exp().round()
    total = sizes.new_zeros(len(kept)).index_add(0, joins, sizes)
    summed = view.hidden.new_zeros(len(kept), view.hidden.shape[1]).index_add(0, joins, view.hidden * sizes[:, None])
    return summed / total[:, None], total
