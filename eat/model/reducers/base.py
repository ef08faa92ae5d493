"""What a reducer sees, what it answers, and what every reducer has in common."""

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
    """What a reducer with parameters must know of its model: d, L, and the number of attention heads."""

    hidden: int = 1
    layers: int = 1
    heads: int = 1


UNKNOWN = Dimensions()
"""For a reducer that does not ask."""


@dataclass(frozen=True)
class TokenView:
    """What a reducer may look at: the live tokens at its place in the layer after which it stands.

    hidden: (n, d). received: attention received in this layer (n,), and keys: this layer's (n, d), if the reducer
    asked for them. origin: the index of each live token in the packed batch (n,), whose token ids are `batch_ids`,
    whose rows lie as in `batch_layout`, and whose tokens are worth `batch_saliency`, if the reducer learns that;
    `None` while all are live. separator: the id of [SEP]. wants_margin: whether anyone will read the margin of the
    reduction, which costs time. key_bias: what is added to a token's attention logits as a key (n,), if anything.
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
        return self._of_live(self.batch_ids)

    @property
    def positions(self) -> Tensor:
        """The position in its text that each live token had at the input; int64 (n,)."""
        return self._of_live(self.batch_layout.positions)

    @property
    def saliency(self) -> Tensor:
        """What each live token is worth to the answer; (n,). Raises `TypeError` if the batch does not say it."""
        if self.batch_saliency is None:
            raise TypeError("this reducer learns from the saliency of tokens, and the batch holds none")
        return self._of_live(self.batch_saliency)

    def _of_live(self, values: Tensor) -> Tensor:
        return values if self.origin is None else values.index_select(0, self.origin)


@dataclass(frozen=True)
class Reduction:
    """A reducer's answer.

    layout: the tokens' after it. kept: ascending indices (m,) of the tokens that stay; `None` if all do. hidden:
    hidden states (m, d) of those in place of what they were: weighted by a gate, or merged. key_bias: what is added to
    their attention logits as keys (m,) from now on. margin: for each row how near its choice of tokens is to another
    one, as a part of the score at the cut (B,), if the view wants it; only a tie-like gap lets rounding change the
    choice. loss: a term for the training loss.
    """

    layout: Layout
    kept: Tensor | None = None
    hidden: Tensor | None = None
    key_bias: Tensor | None = None
    margin: Tensor | None = None
    loss: Tensor | None = None


class Reducer(nn.Module):
    """Keeps every token; the base of those that do not.

    `after` names its layers: those it removes tokens in, or after, by its place. `ratio` is the part it removes, if
    that is fixed, and `scale` in [0, 1] multiplies it: annealing moves it while training. A reducer that `learns` has
    parameters, which it learns while `soft`: then it weakens tokens instead of removing them.
    """

    place: Place = "layer_output"
    needs_received = False
    counts_own_query = True
    """Whether the attention that a token gives to itself is part of what it receives."""
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
        """Whether it works at this place of this layer."""
        return place == self.place and depth in self.after

    def reduce(self, view: TokenView) -> Reduction | None:
        """The tokens to keep, or `None` to change nothing."""
        return None

    def importance(self, view: TokenView) -> Tensor:
        """The score by which it chooses tokens, higher for those that stay; (n,). Raises `TypeError` without one."""
        raise TypeError(f"{type(self).__name__} has no importance score")

    def soften(self, soft: bool) -> None:
        """Weaken tokens and learn (True), or remove them by what was learned (False)."""
        self.soft = soft

    def begin_step(self, epoch: float) -> None:
        """What changes with the epoch while soft; called before every step."""

    def end_step(self) -> None:
        """Bring learned parameters back into their range; called after every step."""

    def operations(self) -> Operations:
        """What scoring the tokens of a text costs in each of its layers."""
        return NO_OPERATIONS

    def index_of(self, depth: int) -> int:
        """The place of a layer's parameters among those of all its layers."""
        return sorted(self.after).index(depth)

    def protected(self, view: TokenView) -> Tensor:
        """Which live tokens are never removed; bool (n,)."""
        flags = torch.zeros(view.layout.tokens, dtype=torch.bool, device=view.hidden.device)
        if "cls" in self.protect:
            flags.index_fill_(0, view.layout.starts, True)
        if "sep" in self.protect and view.separator is not None:
            flags |= view.ids.eq(view.separator)
        return flags
