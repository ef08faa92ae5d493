"""Early exits: the heads that read a layer's output, and the rules by which a text leaves.

A head after layer l computes P_l(y | x) from [CLS] (the paper, section 3.3), from the mean of the live tokens, or from
what a small self-attention of its own makes of them (FastBERT); the mean costs as little as [CLS] and makes heads after
the first layers useful where [CLS] carries nothing yet. Rules work on calibrated probabilities and are the same
function in the engine and in the replay of a trace.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from eat.errors import EatError, listed
from eat.model.attention import DENSE
from eat.model.exit_rules import RULES, WITH_THRESHOLD
from eat.model.layout import Layout
from eat.model.operations import Operations

READER_HIDDEN, READER_HEADS = 128, 2

HEADS = ("linear", "bert", "distilbert")
READS = ("cls", "mean", "attention")


class AttendingReader(nn.Module):
    """FastBERT's reader: linear d -> 128, tanh, self-attention with two heads over the live tokens; then [CLS].

    The attention ends in a product with weights of its own, as everywhere; it is computed for [CLS] alone.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(hidden, READER_HIDDEN)
        self.qkv = nn.Linear(READER_HIDDEN, 3 * READER_HIDDEN)
        self.output = nn.Linear(READER_HIDDEN, READER_HIDDEN)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Hidden states (n, d) of the packed rows to a vector a row (B, 128)."""
        qkv = self.qkv(torch.tanh(self.narrow(hidden)))
        vector: Tensor = self.output(layout.first(DENSE(qkv, layout, READER_HEADS)))
        return vector

    def operations(self) -> Operations:
        """The products of every token, scores and context of every pair, and the product of a text's [CLS]."""
        hidden = self.narrow.in_features
        return Operations(
            fixed=2.0 * READER_HIDDEN**2,
            per_token=2.0 * READER_HIDDEN * (hidden + 3 * READER_HIDDEN),
            per_pair=4.0 * READER_HIDDEN,
        )


class ExitHead(nn.Module):
    """A classifier on one vector a text.

    `kind` says what stands between the vector and the logits: nothing (`linear`), the pooler of BERT (linear, tanh), or
    DistilBERT's (linear, ReLU). `read` says which vector it is: `cls`, `mean` of the live tokens, or `attention`.
    """

    def __init__(
        self, hidden: int, classes: int, kind: str = "linear", read: str = "cls", dropout: float = 0.0
    ) -> None:
        super().__init__()
        for found, allowed in ((kind, HEADS), (read, READS)):
            if found not in allowed:
                raise EatError(f"exit head: found {found!r}; allowed: {listed(allowed)}")
        self.kind = kind
        self.read = read
        self.reader = AttendingReader(hidden) if read == "attention" else None
        width = READER_HIDDEN if self.reader is not None else hidden
        self.projection = nn.Linear(width, width) if kind in ("bert", "distilbert") else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Hidden states (n, d) of the packed rows to logits (B, C)."""
        if self.reader is not None:
            vector = self.reader(hidden, layout)
        else:
            vector = layout.first(hidden) if self.read == "cls" else layout.mean(hidden)
        if self.projection is not None:
            vector = self.projection(vector)
            vector = torch.tanh(vector) if self.kind == "bert" else torch.relu(vector)
        if self.training:
            vector = self.dropout(vector)
        logits: Tensor = self.classifier(vector)
        return logits

    def operations(self) -> Operations:
        """What the head costs a text."""
        reader = Operations() if self.reader is None else self.reader.operations()
        width, classes = self.classifier.in_features, self.classifier.out_features
        fixed = 2.0 * width * classes + (0.0 if self.projection is None else 2.0 * width * width)
        return reader._replace(fixed=reader.fixed + fixed)


@dataclass(frozen=True)
class ExitPolicy:
    """An operating point: which rule, at which threshold, on probabilities of which temperature.

    rule: names out of `confidence`, `entropy`, `agreement`; all must hold. tau: the threshold in (0, 1], or `None` for
    rules without one. temperatures: layer -> T of its head; 1 where none is given. patience: how often in a row the
    rule `agreement` must have held.
    """

    rule: tuple[str, ...] = ()
    tau: float | None = None
    temperatures: Mapping[int, float] = field(default_factory=dict)
    patience: int = 1

    @classmethod
    def of(cls, point: Any, exits: Sequence[int]) -> ExitPolicy:
        """An operating point as a model's configuration holds it: a mapping of these fields, all with a default.

        exits: the layers of the model with a head, ascending. Raises `EatError` that names the field where a value is
        not allowed, or the model cannot do what is asked for.
        """
        fields = ("rule", "tau", "temperatures", "patience")
        if not isinstance(point, Mapping) or [key for key in point if key not in fields]:
            raise EatError(f"operating point: found {point!r}; give a mapping with {listed(fields)}")
        patience = point.get("patience", 1)
        if not isinstance(patience, Integral) or isinstance(patience, bool) or patience < 1:
            raise EatError(f"patience: found {patience!r}; give a whole number from 1 on")
        rule = _checked_rule(point.get("rule", ()), int(patience), exits)
        tau = point.get("tau")
        if set(rule) & {*WITH_THRESHOLD}:
            tau = _positive(f"tau of the rule {listed(rule)}", tau, most=1.0)
        elif tau is not None:
            raise EatError(f"tau: found {tau!r}; it belongs to the rules {listed(WITH_THRESHOLD)}; leave it out")
        return cls(rule, tau, _checked_temperatures(point.get("temperatures"), exits), int(patience))

    def as_point(self) -> dict[str, Any]:
        """The operating point as `of` reads it, of values that JSON has."""
        temperatures = {str(depth): value for depth, value in self.temperatures.items()}
        return {"rule": list(self.rule), "tau": self.tau, "temperatures": temperatures, "patience": self.patience}

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
        return certain_enough(self.rule, self.tau, probabilities, self.patience)


def _positive(name: str, value: Any, most: float = sys.float_info.max) -> float:
    """A number in (0, most], of any type of number; a bool is none."""
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not 0.0 < number <= most:
        raise EatError(f"{name}: found {value!r}; give a number above 0{', at most 1' if most == 1.0 else ''}")
    return number


def _checked_rule(rule: Any, patience: int, exits: Sequence[int]) -> tuple[str, ...]:
    """A rule's names, which a model with these exits can apply."""
    names = list(rule) if isinstance(rule, Sequence) and not isinstance(rule, str) else None
    if names is None or [name for name in names if name not in RULES] or len(set(names)) < len(names):
        raise EatError(f"rule: found {rule!r}; give a list with each at most once of: {listed(RULES)}")
    needed = patience + 1 if "agreement" in names else 1
    if names and len(exits) - 1 < needed:
        raise EatError(
            f"rule: found {listed(names)}, which takes {needed} exits before the last layer to leave early; "
            f"the model has heads after {listed(exits)}"
        )
    return tuple(names)


def _checked_temperatures(given: Any, exits: Sequence[int]) -> dict[int, float]:
    """Layer -> temperature; the layers may be digits, as JSON writes them."""
    if not isinstance(given, Mapping | None):
        raise EatError(f"temperatures: found {given!r}; give a mapping of layer to temperature")
    found: dict[int, float] = {}
    for key, value in (given or {}).items():
        depth = int(key) if isinstance(key, str) and key.isdecimal() else key
        if isinstance(depth, bool) or depth not in exits or depth in found:
            raise EatError(f"temperatures: found layer {key!r}; give each layer with a head once: {listed(exits)}")
        found[int(depth)] = _positive(f"temperatures.{depth}", value)
    return found


def certain_enough(
    rule: Sequence[str], tau: float | None, probabilities: Mapping[int, Tensor], patience: int = 1
) -> Tensor:
    """Whether each row may leave at the last of the exits seen so far.

    confidence: max_c P(c) >= tau (the paper). entropy: 1 - H(P) / ln C >= tau, which is FastBERT's uncertainty at a
    speed of 1 - tau; DeeBERT leaves below S nats, which is tau = 1 - S / ln C. agreement: the argmax is that of each of
    the `patience` exits before, and never where fewer have passed: with 1 it is the paper's patience, else PABEE's
    counter, which rises where an exit agrees with the one before, falls to 0 where not, and must reach the patience.
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
        agree = current.isfinite().all(dim=-1)  # the argmax of NaN is a class like any other
        agree &= len(before) >= patience
        for earlier in before[-patience:]:
            agree &= current.argmax(dim=-1) == earlier.argmax(dim=-1)
        conditions.append(agree)
    return reduce(torch.logical_and, conditions)
