"""What reaches the layers in the backward pass of an encoder with several exits; the forward pass does not change.

With k exits, the last included, and the i-th of them, counted from 1, behind the current layer:

    all:          a layer learns from every exit behind it, with the full gradient of each
    next_exit:    nothing passes an exit: a layer learns from the next one alone (SWEET)
    equilibrium:  the exit's gradient is multiplied by 1 / (k - i + 1), that of all later exits by (k - i) / (k - i + 1)

The last is gradient equilibrium (Li et al. 2019, arXiv:1908.06294), with which ElasticBERT is trained. A layer with m
exits behind it then learns from each of them with 1 / m of its gradient, whatever comes in between. The parameters of
the heads learn from their own exit with the full gradient in each case.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Gradients = Literal["all", "next_exit", "equilibrium"]


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, factor: float) -> Tensor:
        """The same values."""
        context.factor = factor
        return hidden.view_as(hidden)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The factor times the gradient."""
        return gradients[0] * context.factor, None


def at_exit(hidden: Tensor, gradients: Gradients, exits_left: int) -> tuple[Tensor, Tensor]:
    """The hidden states (n, d) for the head of an exit, and those for the next layer; equal values.

    exits_left: k - i + 1, the exits from this one on.
    """
    if gradients == "next_exit":
        return hidden, hidden.detach()
    if gradients == "equilibrium":
        own, rest = 1.0 / exits_left, (exits_left - 1.0) / exits_left
        return _scaled(hidden, own), _scaled(hidden, rest)
    return hidden, hidden


def _scaled(hidden: Tensor, factor: float) -> Tensor:
    scaled: Tensor = _Scaled.apply(hidden, factor)  # type: ignore[no-untyped-call]
    return scaled
