"""Token policies (TR-BERT, arXiv:2105.11618): after given layers, a small network keeps or drops each token.

    p_i = sigmoid(linear(GELU(linear(h_i))))      the probability that token i is kept
    inference:  token i is removed iff p_i < 1/2

The policy is trained in stages in which tokens are removed, too, each by an action a_i, 1 or 0, if it is not protected:

    imitation:  a_i is 1 for the share `keep` of them that received the most attention in the layer
    reinforce:  a_i is drawn, 1 with probability p_i

`eat.finetune.policies` has the losses of the two. They need ln pi(a), the mean over a text's tokens that are not
protected of ln p_i where a_i is 1, and of ln(1 - p_i) where it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eat.model.operations import Operations
from eat.model.reducers.base import UNKNOWN, Dimensions, Reducer, Reduction, TokenView
from eat.model.reducers.selection import keep_above, ranks, sum_of_rows
from eat.model.reducers.top_k import kept_of

KEPT_FROM = 0.5
"""The probability from which a token is kept at inference."""


class Actions(NamedTuple):
    """What the policy did after a layer.

    log_probability: ln pi(a) of each row (B,). kept: the share of the text's tokens that remain (B,).
    """

    log_probability: Tensor
    kept: Tensor


class PolicyReducer(Reducer):
    """Removes the tokens that a small network does not keep.

    size: width of the networks. imitates: the share of tokens that the imitated heuristic keeps; `None` if actions are
    drawn. It is set before `soften`. While soft, the actions of a forward pass are collected for the loss.
    """

    learns = True

    def __init__(
        self, after: Sequence[int], size: int, protect: Sequence[str] = ("cls",), dimensions: Dimensions = UNKNOWN
    ) -> None:
        super().__init__(after, protect, dimensions)
        self.size = size
        self.imitates: float | None = None
        self._actions: list[Actions] = []
        self.networks = nn.ModuleDict(
            {
                str(depth): nn.Sequential(nn.Linear(dimensions.hidden, size), nn.GELU(), nn.Linear(size, 1))
                for depth in sorted(self.after)
            }
        )

    def soften(self, soft: bool) -> None:
        """Train the policy (True), or remove by it (False); only the heuristic needs the attention received."""
        super().soften(soft)
        self.needs_received = soft and self.imitates is not None

    def take_actions(self) -> list[Actions]:
        """The actions since the last call, in the order of the layers."""
        taken, self._actions = self._actions, []
        return taken

    def importance(self, view: TokenView) -> Tensor:
        """The probability that each token is kept; (n,)."""
        return torch.sigmoid(self._logits(view))

    def _logits(self, view: TokenView) -> Tensor:
        # the losses of the policy do not reach the encoder
        logits: Tensor = self.networks[str(view.depth)](view.hidden.detach())[:, 0]
        return logits.float()

    def reduce(self, view: TokenView) -> Reduction:
        """Hard: the tokens of a probability of at least 1/2. Soft: those that the actions keep."""
        protected = self.protected(view)
        if not self.soft:
            threshold = torch.tensor(KEPT_FROM, device=view.hidden.device)
            return keep_above(self.importance(view), threshold, protected, view.layout, view.wants_margin)
        logits = self._logits(view)
        with torch.no_grad():
            keeps = torch.rand_like(logits) < torch.sigmoid(logits) if self.imitates is None else self.expert(view)
        reduction = keep_above(keeps.float(), logits.new_tensor(KEPT_FROM), protected, view.layout, False)
        of_tokens = F.logsigmoid(torch.where(keeps, logits, -logits)).masked_fill(protected, 0.0)
        free = sum_of_rows((~protected).float(), view.layout).clamp_min(1.0)
        # no text exits while a policy is trained, so that these are the rows of the batch
        kept = reduction.layout.lengths_tensor / view.batch_layout.lengths_tensor
        self._actions.append(Actions(sum_of_rows(of_tokens, view.layout) / free, kept))
        return reduction

    def expert(self, view: TokenView) -> Tensor:
        """Whether the heuristic keeps each token: the share `imitates` that received the most attention; bool (n,)."""
        assert view.received is not None and self.imitates is not None
        protected, layout = self.protected(view), view.layout
        received = view.received.float().masked_fill(protected, torch.inf)
        fixed = sum_of_rows(protected.float(), layout).tolist()
        counts = [
            kept_of(length, int(count), 1.0 - self.imitates)
            for length, count in zip(layout.lengths, fixed, strict=True)
        ]
        of_rows = torch.tensor(counts, device=received.device)
        return ranks(received, layout) < of_rows.index_select(0, layout.row_of_token)

    def operations(self) -> Operations:
        """The two products of a network."""
        return Operations(per_token=2.0 * (self.dimensions.hidden * self.size + self.size))
