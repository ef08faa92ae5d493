"""Early exits: the heads that read a layer's output, and the rules by which a text leaves.

A head after layer l computes P_l(y | x) from [CLS] (the paper, section 3.3) or from the mean of the live tokens; the
mean costs as little and makes heads after the first layers useful where [CLS] carries nothing yet. Rules work on
calibrated probabilities and are the same function in the engine and in the replay of a trace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor, nn

from eat.layout import Layout


class ExitHead(nn.Module):
    """A classifier on one vector a text.

    `kind` says what stands between the vector and the logits: nothing (`linear`), the pooler of BERT (linear, tanh), or
    DistilBERT's (linear, ReLU). `read` says which vector it is: `cls`, or `mean` of the live tokens.
    """

    def __init__(
        self, hidden: int, classes: int, kind: str = "linear", read: str = "cls", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.kind = kind
        self.read = read
        self.projection = nn.Linear(hidden, hidden) if kind in ("bert", "distilbert") else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Hidden states (n, d) of the packed rows to logits (B, C)."""
        vector = layout.first(hidden) if self.read == "cls" else layout.mean(hidden)
        if self.projection is not None:
            vector = self.projection(vector)
            vector = torch.tanh(vector) if self.kind == "bert" else torch.relu(vector)
        if self.training:
            vector = self.dropout(vector)
        logits: Tensor = self.classifier(vector)
        return logits


@dataclass(frozen=True)
class ExitPolicy:
    """An operating point: which rule, at which threshold, on probabilities of which temperature.

    rule: names out of `confidence`, `entropy`, `agreement`; all must hold. tau: the threshold in (0, 1], or `None` for
    rules without one. temperatures: layer -> T of its head; 1 where none is given.
    """

    rule: tuple[str, ...] = ()
    tau: float | None = None
    temperatures: Mapping[int, float] = field(default_factory=dict)

    @property
    def may_leave(self) -> bool:
        """Whether any text can leave early; if not, the heads before the last need not be evaluated."""
        return bool(self.rule) and (self.tau is None or self.tau < 1.0)

    def probabilities(self, depth: int, logits: Tensor) -> Tensor:
        """Calibrated probabilities (B, C) of the head after layer `depth`; in float32, as a trace holds logits."""
        temperature = self.temperatures.get(depth, 1.0)
        logits = logits.float()
        return torch.softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)

    def leaves(self, probabilities: Mapping[int, Tensor]) -> Tensor:
        """Which rows leave at the last layer of `probabilities` (layer -> (B, C), ascending); bool (B,)."""
        return certain_enough(self.rule, self.tau, probabilities)


def certain_enough(rule: Sequence[str], tau: float | None, probabilities: Mapping[int, Tensor]) -> Tensor:
    """Whether each row may leave at the last of the exits seen so far.

    confidence: max_c P(c) >= tau (the paper). entropy: 1 - H(P) / ln C >= tau, which is FastBERT's uncertainty at a
    speed of 1 - tau. agreement: the argmax equals that of the exit before (the paper's patience); never at the first.
    A threshold of 1 never fires, even where a probability rounds to 1. NaN compares false, so it never exits.

    probabilities: layer -> (B, C), in ascending order. Returns bool (B,).
    """
    *before, current = probabilities.values()
    if not rule or (tau is not None and tau >= 1.0):
        return torch.zeros(len(current), dtype=torch.bool, device=current.device)
    threshold = 1.0 if tau is None else tau
    conditions: list[Tensor] = []
    if "confidence" in rule:
        conditions.append(current.amax(dim=-1) >= threshold)
    if "entropy" in rule:
        entropy = torch.special.entr(current).sum(dim=-1)
        conditions.append(1.0 - entropy / math.log(current.shape[-1]) >= threshold)
    if "agreement" in rule:
        finite = current.isfinite().all(dim=-1)  # the argmax of NaN is a class like any other
        same = current.argmax(dim=-1) == before[-1].argmax(dim=-1) if before else torch.zeros_like(finite)
        conditions.append(same & finite)
    return reduce(torch.logical_and, conditions)
