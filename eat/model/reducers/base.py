"""The input and the result of a reducer, and the base class of all reducers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from eat.model.layout import Layout
from eat.model.operations import NO_OPERATIONS, Operations

Place = Literal["layer_input", "after_attention", "layer_output"]


@dataclass(frozen=True)
class Dimensions:
    """The dimensions of a model that a reducer with parameters needs: d, L, and the number of attention heads."""

    hidden: int = 1
    layers: int = 1
    heads: int = 1


UNKNOWN = Dimensions()
"""For a reducer without parameters."""


@dataclass(frozen=True)
class TokenView:
    """The input of a reducer: the live tokens at its place in a layer.

    hidden: (n, d). received: attention received in this layer (n,), and keys: this layer's (n, d), if the reducer
    needs them. origin: the index of each live token in the packed batch (n,); `None` while all are live. batch_ids,
    batch_layout, batch_saliency: token ids, layout and, if the reducer learns from it, saliency of that batch.
    separator: the id of [SEP]. wants_margin: whether the margin of the reduction is used; it costs time. key_bias:
    added to a token's attention logits as a key (n,), if any.
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
    keys: Tensor | None = None
    key_bias: Tensor | None = None
    batch_saliency: Tensor | None = None

    @property
    def ids(self) -> Tensor:
        """The token ids of the live tokens; int64 (n,)."""
        return self._select_live(self.batch_ids)

    @property
    def positions(self) -> Tensor:
        """The position in its text that each live token had at the input; int64 (n,)."""
        return self._select_live(self.batch_layout.positions)

    @property
    def saliency(self) -> Tensor:
        """The saliency of each live token; (n,). Raises `TypeError` if the batch has none."""
        if self.batch_saliency is None:
            raise TypeError("this reducer learns from the saliency of tokens, and the batch holds none")
        return self._select_live(self.batch_saliency)

    def _select_live(self, values: Tensor) -> Tensor:
        return values if self.origin is None else values.index_select(0, self.origin)


@dataclass(frozen=True)
class Reduction:
    """The result of a reducer.

    layout: of the kept tokens. kept: ascending indices (m,) of the kept tokens; `None` if all are kept. hidden: their
    new hidden states (m, d): weighted by a gate, or merged. key_bias: added to their attention logits as keys (m,) from
    now on. margin: the distance of each row's choice from another one, relative to the score at the cut (B,), if
    `wants_margin`; rounding can change the choice only if it is tiny. loss: a term of the training loss.
    """

    layout: Layout
    kept: Tensor | None = None
    hidden: Tensor | None = None
    key_bias: Tensor | None = None
    margin: Tensor | None = None
    loss: Tensor | None = None


class Reducer(nn.Module):
    """Keeps every token; the base class of all reducers.

    after: the layers in which, or after which, it removes tokens, depending on its place. ratio: the share it removes,
    if that is fixed. scale: a factor in [0, 1] on the ratio, which annealing changes during training. A reducer that
    `learns` has parameters. They are trained while `soft`: then it weakens tokens instead of removing them.
    """

    place: Place = "layer_output"
    needs_received = False
    counts_own_query = True
    """Whether a token's attention to itself is part of the attention it receives."""
    needs_keys = False
    needs_saliency = False
    learns = False
    ratio = 0.0

    def __init__(
        self,
        after: Sequence[int] = (),
        protect: Sequence[str] = ("cls",),
        dimensions: Dimensions = UNKNOWN,
    ) -> None:
        super().__init__()
        self.after = frozenset(after)
        self.protect = tuple(protect)
        self.dimensions = dimensions
        self.scale = 1.0
        self.soft = False

    def acts(self, place: Place, depth: int) -> bool:
        """Whether it acts at this place of this layer."""
        return place == self.place and depth in self.after

    def reduce(self, view: TokenView) -> Reduction | None:
        """The tokens to keep, or `None` to change nothing."""
        return None

    def importance(self, view: TokenView) -> Tensor:
        """The score by which it chooses tokens, higher for kept ones; (n,). Raises `TypeError` without a score."""
        raise TypeError(f"{type(self).__name__} has no importance score")

    def soften(self, soft: bool) -> None:
        """Weaken tokens and learn (True), or remove tokens with the learned parameters (False)."""
        self.soft = soft

    def begin_step(self, epoch: float) -> None:
        """Update values that depend on the epoch while soft; called before every step."""

    def end_step(self) -> None:
        """Bring learned parameters back into their range; called after every step."""

    def operations(self) -> Operations:
        """The operations of scoring the tokens of a text in each of its layers."""
        return NO_OPERATIONS

    def index_of(self, depth: int) -> int:
        """The index of a layer's parameters among those of all its layers."""
        return sorted(self.after).index(depth)

    def protected(self, view: TokenView) -> Tensor:
        """Which live tokens are never removed; bool (n,)."""
        flags = torch.zeros(view.layout.tokens, dtype=torch.bool, device=view.hidden.device)
        if "cls" in self.protect:
            flags.index_fill_(0, view.layout.starts, True)
        if "sep" in self.protect and view.separator is not None:
            flags |= view.ids.eq(view.separator)
        return flags
