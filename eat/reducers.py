"""Token reducers: which tokens a layer passes on.

A reducer declares its *place* in the layer and what it *needs*, and answers with the tokens to keep. The encoder
removes the others physically: they are indexed away, not masked. EAT removes after the layer (`layer_output`), by the
L2 norm of the hidden state (the paper's algorithm 1); `received` is the paper's alternative score, `random` a control.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eat.layout import Layout

Place = Literal["layer_input", "after_attention", "layer_output"]


@dataclass(frozen=True)
class TokenView:
    """What a reducer may look at: the live tokens at its place in the layer after which it stands.

    hidden: (n, d). received: attention received in this layer (n,), where the reducer asked for it. origin: the index
    of each live token in the packed batch (n,), whose token ids are `batch_ids` and whose rows lie as in
    `batch_layout`; `None` while all are live. separator: the id of [SEP]. wants_margin: whether anyone will read the
    margin of the reduction, which costs time.
    """

    depth: int
    hidden: Tensor
    layout: Layout
    origin: Tensor | None
    batch_ids: Tensor
    batch_layout: Layout
    received: Tensor | None = None
    separator: int | None = None
    wants_margin: bool = True

    @property
    def ids(self) -> Tensor:
        """The token ids of the live tokens; int64 (n,)."""
        return self.batch_ids if self.origin is None else self.batch_ids.index_select(0, self.origin)

    @property
    def positions(self) -> Tensor:
        """The position in its text that each live token had at the input; int64 (n,)."""
        positions = self.batch_layout.positions
        return positions if self.origin is None else positions.index_select(0, self.origin)


@dataclass(frozen=True)
class Reduction:
    """A reducer's answer.

    kept: ascending indices (m,) of the tokens that stay. layout: theirs. margin: for each row the gap between the least
    important token kept and the most important one removed, as a part of the former (B,), where the view wants it;
    only a tie-like gap lets rounding change the choice. gate: factors (m,) for the kept hidden states, in training.
    loss: a term for the training loss.
    """

    kept: Tensor
    layout: Layout
    margin: Tensor | None = None
    gate: Tensor | None = None
    loss: Tensor | None = None


class Reducer(nn.Module):
    """Keeps every token; the base of those that do not.

    `after` names its layers. `scale` in [0, 1] multiplies the ratio: annealing moves it while training.
    """

    place: Place = "layer_output"
    needs_received = False

    def __init__(self, after: Sequence[int] = (), ratio: float = 0.0, protect: Sequence[str] = ("cls",)) -> None:
        super().__init__()
        self.after = frozenset(after)
        self.ratio = ratio
        self.protect = tuple(protect)
        self.scale = 1.0

    def acts(self, place: Place, depth: int) -> bool:
        """Whether it removes tokens at this place of this layer."""
        return place == self.place and depth in self.after

    def reduce(self, view: TokenView) -> Reduction | None:
        """The tokens to keep, or `None` to keep all."""
        return None


class TopKReducer(Reducer):
    """Keeps the protected tokens and the ceil((1 - p)(t - protected)) most important others (algorithm 1)."""

    def importance(self, view: TokenView) -> Tensor:
        """The score of each token, in a tensor that may be written to; (n,), at least 0."""
        raise TypeError(f"{type(self).__name__} has no importance score")

    def reduce(self, view: TokenView) -> Reduction | None:
        """The most important tokens of each row, in their order."""
        ratio = self.ratio * self.scale
        if ratio == 0.0:
            return None
        scores = self.importance(view)
        counts = self._protect(scores, view)
        kept = [
            count + math.ceil((1.0 - ratio) * (length - count) - 1e-9)
            for length, count in zip(view.layout.lengths, counts, strict=True)
        ]
        return keep_most_important(scores, view.layout, kept, view.wants_margin)

    def _protect(self, scores: Tensor, view: TokenView) -> list[int]:
        """Set the scores of the protected tokens to infinity; how many each row has."""
        layout = view.layout
        if "cls" in self.protect:
            scores.index_fill_(0, layout.starts, torch.inf)
        if "sep" in self.protect and view.separator is not None:
            scores.masked_fill_(view.ids.eq(view.separator), torch.inf)
            return [int(count) for count in layout.pad(scores.isposinf()).logical_and(layout.live).sum(dim=1).tolist()]
        return [int("cls" in self.protect)] * layout.rows  # known on the host: no need to wait for the device


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


class RandomReducer(TopKReducer):
    """A control: importance is a fixed pseudo-random number of the token, its position and the layer.

    It depends on nothing else, so that a text loses the same tokens in every batch and on every device.
    """

    def importance(self, view: TokenView) -> Tensor:
        """Numbers in [0, 1), exact in float64; (n,)."""
        mixed = view.ids * 7_919 + view.positions * 104_729 + view.depth * 1_299_709
        mixed = (mixed * 48_271 + 11) % 2_147_483_647
        mixed = (mixed * 48_271 + 11) % 2_147_483_647
        return mixed.to(torch.float64) / 2_147_483_647


REDUCERS: Mapping[str, type[Reducer]] = {
    "none": Reducer,
    "norm": NormReducer,
    "received": ReceivedReducer,
    "random": RandomReducer,
}
"""The reducers by their name in the configuration."""


def build_reducer(options: Mapping[str, Any]) -> Reducer:
    """A reducer from its row in the configuration (`kind` and its options)."""
    rest = {key: value for key, value in options.items() if key != "kind"}
    return REDUCERS[options["kind"]](**rest)


def keep_most_important(scores: Tensor, layout: Layout, counts: Sequence[int], wants_margin: bool = True) -> Reduction:
    """Keep the `counts[b]` tokens of row b with the highest scores, in their order; ties go to the earlier token.

    scores: (n,), at least 0, inf where a token must stay. The numbers kept are known on the host, so that no result has
    to come back from the device.
    """
    new_layout = Layout(counts, layout.device)
    if layout.rows == 1:
        ordered, order = scores.sort(descending=True, stable=True)
        kept = order[: counts[0]].sort().values
        ordered = ordered[None]
    else:
        table = scores.new_full((layout.rows, layout.longest), -torch.inf)
        table.view(-1)[layout.cells] = scores
        ordered, order = table.sort(dim=1, descending=True, stable=True)
        flags = torch.zeros_like(table, dtype=torch.bool).scatter_(1, order, new_layout.live_of(layout.longest))
        kept = torch.nonzero_static(flags.view(-1)[layout.cells], size=new_layout.tokens)[:, 0]
    return Reduction(kept, new_layout, margin=_cut_margin(ordered, new_layout) if wants_margin else None)


def _cut_margin(ordered: Tensor, kept: Layout) -> Tensor:
    """The relative gap at the cut in each row of descending scores (B, T), inf where nothing goes; (B,)."""
    last = kept.lengths_tensor[:, None]
    least = ordered.gather(1, last - 1)[:, 0]
    nothing = torch.full_like(ordered[:, :1], -torch.inf)
    best_removed = torch.cat([ordered, nothing], dim=1).gather(1, last)[:, 0]
    gap = (least - best_removed) / least.clamp_min(torch.finfo(ordered.dtype).tiny)
    return torch.where(best_removed.isneginf() | least.isposinf(), torch.inf, gap)
