"""PoWER-BERT (arXiv:2001.08950): a learned number of tokens in each layer, those that receive the most attention.

The tokens of a text are sorted by significance, which is the attention received from the *other* tokens.

    soft:  the k-th is multiplied by r_l[k] in [0, 1] between attention and feed-forward part
           loss + penalty sum_l l sum_k r_l[k]
    hard:  [CLS] and the n_l - 1 most significant others are kept, n_l = floor(sum_k r_l[k]), never more than before

All other protected tokens are also kept, even if they are more than n_l.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eat.model.operations import Operations
from eat.model.reducers.base import UNKNOWN, Dimensions, Place, Reducer, Reduction, TokenView
from eat.model.reducers.selection import keep_most_important, ranks, sum_of_rows


class RetentionReducer(Reducer):
    """Keeps the most significant tokens of each text; their number follows from the layer's learned retention r.

    longest: N, the length of r; later positions share the last entry. penalty: the weight of the L1 term above.
    Protected tokens come first, are weighted by 1, and are not penalised; r_l[0] belongs to [CLS] and stays 1.
    """

    place: Place = "after_attention"
    needs_received = True
    counts_own_query = False
    learns = True

    def __init__(
        self,
        after: Sequence[int],
        longest: int,
        penalty: float,
        protect: Sequence[str] = ("cls",),
        dimensions: Dimensions = UNKNOWN,
    ) -> None:
        super().__init__(after, protect, dimensions)
        self.penalty = penalty
        self.retention = nn.Parameter(torch.ones(len(self.after), longest))

    def kept(self, depth: int) -> int:
        """n_l, the most tokens that a text keeps in a layer; at least 1."""
        sums = self.retention.detach().float().sum(dim=1).add(1e-4).floor().tolist()  # 5.99999 is 6
        return max(1, int(min(sums[: self.index_of(depth) + 1])))

    def importance(self, view: TokenView) -> Tensor:
        """The significance of each token; (n,)."""
        assert view.received is not None
        return view.received.detach()

    def reduce(self, view: TokenView) -> Reduction | None:
        """Soft: hidden states weighted by the retention of their place, and the L1 term. Hard: the most significant."""
        protected = self.protected(view)
        significance = self.importance(view).masked_fill(protected, torch.inf)
        if not self.soft:
            kept = self.kept(view.depth)
            if kept >= view.layout.longest:
                return None
            fewest = self._fewest(protected, view)
            counts = [min(max(kept, least), length) for least, length in zip(fewest, view.layout.lengths, strict=True)]
            return keep_most_important(significance, view.layout, counts, view.wants_margin)
        own = self.retention[self.index_of(view.depth)]
        places = ranks(significance, view.layout).clamp_max(len(own) - 1)
        weight = own.index_select(0, places).masked_fill(protected, 1.0)
        return Reduction(
            view.layout,
            hidden=view.hidden * weight[:, None].to(view.hidden.dtype),
            loss=self.penalty * view.depth * own[1:].sum(),
        )

    def _fewest(self, protected: Tensor, view: TokenView) -> list[int]:
        """The number of tokens that each row must keep; for [CLS] it is known without waiting for the device."""
        if "sep" not in self.protect:
            return [1] * view.layout.rows
        return [int(count) for count in sum_of_rows(protected.float(), view.layout).tolist()]

    def end_step(self) -> None:
        """Clamp r to [0, 1]."""
        with torch.no_grad():
            self.retention.clamp_(0.0, 1.0)

    def operations(self) -> Operations:
        """The attention logits are computed once more: 2 d per pair."""
        return Operations(per_pair=2.0 * self.dimensions.hidden)
