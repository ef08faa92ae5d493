"""An operating point: the rule, the threshold and the temperatures by which a text exits early.

The same policy decides in the forward pass and in the replay of a trace.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from numbers import Integral, Real
from typing import Any, TypeVar

import torch
from torch import Tensor

from eat.errors import EatError, listed
from eat.model.exit_rules import RULES

_Value = TypeVar("_Value")

LayerThreshold = float | tuple[float, ...]
"""The threshold of an exit: one, or one for each class of the answer."""


@dataclass(frozen=True)
class ExitPolicy:
    """An operating point: rule, threshold and temperatures.

    rule: names of `RULES`, which must all hold. tau: the threshold in (0, 1], one for all exits or a mapping of layer
    to threshold (1 for an exit that is absent), or `None` for rules without one; a threshold of a layer is one number,
    or one for each class of the answer. temperatures: layer -> T of its head; 1 if none is given. patience: the number
    of heads before with which the rules `agreement` and `margin` compare.
    """

    rule: tuple[str, ...] = ()
    tau: float | Mapping[int, LayerThreshold] | None = None
    temperatures: Mapping[int, float] = field(default_factory=dict)
    patience: int = 1

    @classmethod
    def of(cls, point: Any, exits: Sequence[int], classes: int | None = None) -> ExitPolicy:
        """The operating point of a model's configuration: a mapping of these fields, all with a default.

        exits: the layers of the model with a head, ascending. classes: those of the model, for thresholds by class.
        Raises `EatError` that names the field if a value is not allowed, or the model cannot apply it.
        """
        fields = ("rule", "tau", "temperatures", "patience")
        if not isinstance(point, Mapping) or [key for key in point if key not in fields]:
            raise EatError(f"operating point: found {point!r}; give a mapping with {listed(fields)}")
        patience = point.get("patience", 1)
        if not isinstance(patience, Integral) or isinstance(patience, bool) or patience < 1:
            raise EatError(f"patience: found {patience!r}; give a whole number from 1 on")
        rule = _checked_rule(point.get("rule", ()), int(patience), exits)
        tau = point.get("tau")
        if any(RULES[name].needs_tau for name in rule):
            tau = _checked_threshold(f"tau of the rule {listed(rule)}", tau, exits, classes)
        elif tau is not None:
            with_tau = [name for name, known in RULES.items() if known.needs_tau]
            raise EatError(f"tau: found {tau!r}; it belongs to the rules {listed(with_tau)}; leave it out")
        return cls(rule, tau, _checked_temperatures(point.get("temperatures"), exits), int(patience))

    def as_point(self) -> dict[str, Any]:
        """The operating point as `of` reads it, with JSON values."""
        return {
            "rule": list(self.rule),
            "tau": _by_layer(self.tau) if isinstance(self.tau, Mapping) else self.tau,
            "temperatures": _by_layer(self.temperatures),
            "patience": self.patience,
        }

    @property
    def may_exit(self) -> bool:
        """Whether any text can exit early. If not, only the last head needs to be evaluated."""
        thresholds = self.tau.values() if isinstance(self.tau, Mapping) else [self.tau]
        lowest = (min(tau) if isinstance(tau, tuple) else tau for tau in thresholds)
        return bool(self.rule) and any(tau is None or tau < 1.0 for tau in lowest)

    def threshold(self, depth: int) -> LayerThreshold:
        """The threshold after layer `depth`, or those by class; 1 for rules without one."""
        if isinstance(self.tau, Mapping):
            return self.tau.get(depth, 1.0)
        return 1.0 if self.tau is None else self.tau

    def probabilities(self, depth: int, logits: Tensor) -> Tensor:
        """Calibrated probabilities (B, C) of the head after layer `depth`; in float32, as a trace holds logits."""
        temperature = self.temperatures.get(depth, 1.0)
        logits = logits.float()
        return torch.softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)

    def fires(self, probabilities: Mapping[int, Tensor]) -> Tensor:
        """Which rows exit at the last layer of `probabilities` (layer -> (B, C), ascending); bool (B,).

        All rules must hold. A threshold of 1 never fires, even if a probability rounds to 1.
        """
        *_, (depth, current) = probabilities.items()
        tau = _by_answer(self.threshold(depth), current)
        closed = self.tau is not None and not isinstance(tau, Tensor) and tau >= 1.0
        if not self.rule or closed:
            return torch.zeros(len(current), dtype=torch.bool, device=current.device)
        fired = [RULES[name].fires(probabilities, tau, self.patience) for name in self.rule]
        if isinstance(tau, Tensor):
            fired.append(tau < 1.0)
        return reduce(torch.logical_and, fired)

    def margin(self, depth: int, probabilities: Tensor) -> Tensor:
        """How far the probabilities (B, C) of the head after layer `depth` are from another decision of the rule; (B,).

        depth: that of a head before the last.
        """
        tau = _by_answer(self.threshold(depth), probabilities)
        margins = (RULES[name].margin(probabilities, tau) for name in self.rule)
        return reduce(torch.minimum, margins, probabilities.new_full(probabilities.shape[:-1], math.inf))


def _by_answer(threshold: LayerThreshold, probabilities: Tensor) -> float | Tensor:
    """The threshold of each text, by the most probable class, (B,); one number if all classes have the same."""
    if not isinstance(threshold, tuple):
        return threshold
    return probabilities.new_tensor(threshold).index_select(0, probabilities.argmax(dim=-1))


def _by_layer(values: Mapping[int, LayerThreshold]) -> dict[str, float | list[float]]:
    """Values by layer, as JSON has them."""
    return {str(depth): list(value) if isinstance(value, tuple) else value for depth, value in values.items()}


def _positive(name: str, value: Any, most: float = sys.float_info.max) -> float:
    """A number in (0, most] of any numeric type except bool."""
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not 0.0 < number <= most:
        raise EatError(f"{name}: found {value!r}; give a number above 0{', at most 1' if most == 1.0 else ''}")
    return number


def _checked_rule(rule: Any, patience: int, exits: Sequence[int]) -> tuple[str, ...]:
    """The names of a rule, checked for a model with these exits."""
    names = list(rule) if isinstance(rule, Sequence) and not isinstance(rule, str) else None
    if names is None or [name for name in names if name not in RULES] or len(set(names)) < len(names):
        raise EatError(f"rule: found {rule!r}; give a list with each at most once of: {listed(RULES)}")
    needed = max((RULES[name].exits_needed(patience) for name in names), default=0)
    if names and len(exits) - 1 < needed:
        raise EatError(
            f"rule: found {listed(names)}, which needs {needed} exits before the last layer to exit early; "
            f"the model has heads after {listed(exits)}"
        )
    return tuple(names)


def _checked_threshold(
    name: str, given: Any, exits: Sequence[int], classes: int | None
) -> float | dict[int, LayerThreshold]:
    """One threshold, or layer -> threshold, or thresholds by class, of the exits before the last layer."""
    if not isinstance(given, Mapping):
        return _positive(name, given, most=1.0)

    def checked(name: str, value: Any) -> LayerThreshold:
        if not isinstance(value, list | tuple):
            return _positive(name, value, most=1.0)
        if len(value) < 2 or (classes is not None and len(value) != classes):
            raise EatError(f"{name}: found {len(value)} thresholds; give one, or one for each class of the answer")
        return tuple(_positive(name, one, most=1.0) for one in value)

    return _checked_layers("tau", given, exits[:-1], checked)


def _checked_temperatures(given: Any, exits: Sequence[int]) -> dict[int, float]:
    if not isinstance(given, Mapping | None):
        raise EatError(f"temperatures: found {given!r}; give a mapping of layer to temperature")
    return _checked_layers("temperatures", given or {}, exits, _positive)


def _checked_layers(
    name: str, given: Mapping[Any, Any], exits: Sequence[int], checked: Callable[[str, Any], _Value]
) -> dict[int, _Value]:
    """Layer -> checked value; the layers may be digits, as JSON writes them."""
    found: dict[int, _Value] = {}
    for key, value in given.items():
        depth = int(key) if isinstance(key, str) and key.isdecimal() else key
        if isinstance(depth, bool) or depth not in exits or depth in found:
            raise EatError(f"{name}: found layer {key!r}; give each layer with a head once: {listed(exits)}")
        found[int(depth)] = checked(f"{name}.{depth}", value)
    return found
