"""AdapLeR (arXiv:2203.08991): a small network before each layer predicts the contribution of every token to the answer.

The predictor of layer l gives each live token a share, s = softmax(linear(GELU(linear(h)))). With n live tokens and a
learned eta, token i is removed before the layer iff s_i < delta = eta / n. In training tokens are removed softly: with

    m(s) = max(-10^4, min(0, (k / delta)(s - delta) - b / k, (s - 1)(b / k) / (1 - delta)))

added to the attention logits of the token as a key, from this layer on. k is the sharpness, which grows each epoch; in
the limit this becomes the removal. The targets of the shares are the saliency of the tokens
(`eat.model.saliency`):

    encoder, predictors:   CE + gamma sum_l (L - l) KL(saliency || s_l)      l from 0
    eta, factor of [CLS]:  CE + phi mean(sum_l n_l)

In training, n_l is the sum of exp of the biases so far: the number of tokens that are still attended to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eat.model.operations import Operations
from eat.model.reducers.base import UNKNOWN, Dimensions, Place, Reducer, Reduction, TokenView
from eat.model.reducers.selection import keep_above, log_softmax_of_rows, sum_of_rows

REMOVED = -1e4
LOWEST_ETA = 0.01
SMALLEST = 1e-9
"""Shares below this are ignored in a divergence, where they would be 0 x log 0."""


class PredictorReducer(Reducer):
    """Removes tokens by the contribution that a small network predicts for them.

    size: width of the predictors. eta: its initial value. saliency_weight, penalty: gamma and phi above. softness: b.
    sharpness, growth: k is sharpness x growth^e in epoch e, from 0. [CLS] is kept; its share is multiplied by a learned
    factor, and the shares are normalised again, since it would dominate them.
    """

    place: Place = "layer_input"
    needs_saliency = True
    learns = True

    def __init__(
        self,
        after: Sequence[int],
        size: int,
        eta: float,
        saliency_weight: float,
        penalty: float,
        sharpness: float,
        growth: float,
        softness: float,
        protect: Sequence[str] = ("cls",),
        dimensions: Dimensions = UNKNOWN,
    ) -> None:
        super().__init__(after, protect, dimensions)
        self.size = size
        self.saliency_weight = saliency_weight
        self.penalty = penalty
        self.sharpness = self.first_sharpness = sharpness
        self.growth = growth
        self.softness = softness
        self.predictors = nn.ModuleDict(
            {
                str(depth): nn.Sequential(nn.Linear(dimensions.hidden, size), nn.GELU(), nn.Linear(size, 1))
                for depth in sorted(self.after)
            }
        )
        self.eta = nn.Parameter(torch.full((len(self.after),), eta))
        self.cls_factor = nn.Parameter(torch.ones(len(self.after)))

    def begin_step(self, epoch: float) -> None:
        """Set k for this epoch."""
        self.sharpness = self.first_sharpness * self.growth ** int(epoch)

    def end_step(self) -> None:
        """Clamp eta and the factor of [CLS] to [0.01, 1]."""
        with torch.no_grad():
            self.eta.clamp_(LOWEST_ETA, 1.0)
            self.cls_factor.clamp_(LOWEST_ETA, 1.0)

    def reduce(self, view: TokenView) -> Reduction:
        """Soft: a bias on the tokens' keys, and the two terms of the loss. Hard: the tokens at or above delta."""
        layout, protected = view.layout, self.protected(view)
        if not self.soft:
            shares = self.importance(view)
            threshold = self.eta[self.index_of(view.depth)].float() / layout.lengths_tensor
            return keep_above(shares, self._expand_to_tokens(threshold, view), protected, layout, view.wants_margin)
        logits = self._logits(view)
        before = torch.zeros_like(logits) if view.key_bias is None else view.key_bias
        shares = log_softmax_of_rows(logits + before, layout).exp()  # softly removed tokens have no share
        bias = self._weakened(shares, before, protected, view)
        # only eta learns from this term, not the encoder or the predictors
        attended = sum_of_rows(self._weakened(shares.detach(), before.detach(), protected, view).exp(), layout)
        divergence = _divergence(view.saliency, log_softmax_of_rows(logits, layout), view)
        layers_left = self.dimensions.layers - (view.depth - 1)
        loss = self.penalty * attended.mean() + self.saliency_weight * layers_left * divergence
        return Reduction(layout, key_bias=bias, loss=loss)

    def importance(self, view: TokenView) -> Tensor:
        """The predicted share of each token; (n,)."""
        return self.shares(log_softmax_of_rows(self._logits(view), view.layout).exp(), view)

    def _logits(self, view: TokenView) -> Tensor:
        logits: Tensor = self.predictors[str(view.depth)](view.hidden)[:, 0]
        return logits.float()

    def shares(self, softmax: Tensor, view: TokenView) -> Tensor:
        """The shares (n,) with that of [CLS] multiplied by its factor; those of a row sum to 1."""
        layout = view.layout
        factor = torch.ones_like(softmax).index_put(
            (layout.starts,), self.cls_factor[self.index_of(view.depth)].to(softmax.dtype)
        )
        weighted = softmax * factor
        return weighted / self._expand_to_tokens(sum_of_rows(weighted, layout), view)

    def _weakened(self, softmax: Tensor, before: Tensor, protected: Tensor, view: TokenView) -> Tensor:
        """The bias on each key from this layer on; (n,)."""
        live = sum_of_rows(before.detach().exp(), view.layout)
        delta = self._expand_to_tokens(self.eta[self.index_of(view.depth)] / live, view)
        shares = self.shares(softmax, view)
        removal = soft_removal(shares, delta, self.sharpness, self.softness).masked_fill(protected, 0.0)
        return (before + removal).clamp_min(REMOVED)

    def _expand_to_tokens(self, of_rows: Tensor, view: TokenView) -> Tensor:
        """Expand one value per row (B,) to one per token (n,)."""
        return of_rows.index_select(0, view.layout.row_of_token)

    def operations(self) -> Operations:
        """The two products of a predictor."""
        return Operations(per_token=2.0 * (self.dimensions.hidden * self.size + self.size))


def soft_removal(shares: Tensor, delta: Tensor, sharpness: float, softness: float) -> Tensor:
    """m(s) above: from far below 0 at a share of 0, over -b / k at delta, to 0 at 1; (n,)."""
    step = softness / sharpness
    steep = (sharpness / delta) * (shares - delta) - step
    flat = (shares - 1.0) * step / (1.0 - delta).clamp_min(SMALLEST)
    return torch.minimum(steep, flat).clamp(REMOVED, 0.0)


def _divergence(target: Tensor, log_shares: Tensor, view: TokenView) -> Tensor:
    """KL(target || shares), averaged over rows; ()."""
    terms = torch.special.xlogy(target, target.clamp_min(SMALLEST)) - target * log_shares
    return sum_of_rows(terms, view.layout).mean()
