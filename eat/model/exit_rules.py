"""The rules by which a text exits early. A rule is a class in this file and an entry of `RULES`, found by its name.

A rule decides for each text separately, so the forward pass, which evaluates only live texts, and the replay of a
trace, which evaluates all, agree. PyTorch is imported only within functions, since the names of the rules are also
needed to read a configuration.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    Threshold = float | Tensor


class ExitRule(ABC):
    """Whether a text may exit at a layer, given the probabilities of the heads up to it.

    name: its name in a configuration and in an operating point. parameters: the fields of an operating point that it
    uses: `tau`, a threshold in (0, 1], or `patience`.
    """

    name: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]] = ()

    @property
    def needs_tau(self) -> bool:
        """Whether it has a threshold."""
        return "tau" in self.parameters

    def exits_needed(self, patience: int) -> int:
        """The heads before the last layer that a model must have for any text to exit early."""
        return 1

    @abstractmethod
    def fires(self, probabilities: Mapping[int, Tensor], tau: Threshold, patience: int) -> Tensor:
        """Whether each text may exit at the last of the given heads; bool (B,). A text with NaN never exits.

        probabilities: layer -> calibrated probabilities (B, C), ascending. tau: for all texts, or for each (B,).
        """

    @abstractmethod
    def margin(self, probabilities: Tensor, tau: Threshold) -> Tensor:
        """The distance of the probabilities (B, C) of a head from another decision; float (B,), inf without a
        comparison.

        Below a rounding error, two implementations may decide differently. The distance of the two best classes is
        checked elsewhere, for every rule.
        """


class Confidence(ExitRule):
    """max_c P(c) >= tau (the paper)."""

    name = "confidence"
    parameters = ("tau",)

    def fires(self, probabilities: Mapping[int, Tensor], tau: Threshold, patience: int) -> Tensor:
        """As `ExitRule`."""
        *_, current = probabilities.values()
        return current.amax(dim=-1) >= tau

    def margin(self, probabilities: Tensor, tau: Threshold) -> Tensor:
        """As `ExitRule`."""
        return (probabilities.amax(dim=-1) - tau).abs()


class Entropy(ExitRule):
    """1 - H(P) / ln C >= tau.

    This is FastBERT's uncertainty at a speed of 1 - tau; DeeBERT exits below S nats, which is tau = 1 - S / ln C.
    """

    name = "entropy"
    parameters = ("tau",)

    def fires(self, probabilities: Mapping[int, Tensor], tau: Threshold, patience: int) -> Tensor:
        """As `ExitRule`."""
        *_, current = probabilities.values()
        return self._certainty(current) >= tau

    def margin(self, probabilities: Tensor, tau: Threshold) -> Tensor:
        """As `ExitRule`."""
        return (self._certainty(probabilities) - tau).abs()

    def _certainty(self, probabilities: Tensor) -> Tensor:
        from torch.special import entr

        certainty: Tensor = 1.0 - entr(probabilities).sum(dim=-1) / math.log(probabilities.shape[-1])
        return certainty


class Agreement(ExitRule):
    """The argmax equals that of each of the previous `patience` heads; false if there are fewer.

    With a patience of 1 it is the paper's patience, else PABEE's counter, which rises if a head agrees with the one
    before, falls to 0 if it does not, and must reach the patience.
    """

    name = "agreement"
    parameters = ("patience",)

    def exits_needed(self, patience: int) -> int:
        """As `ExitRule`: the first `patience` heads have too few predecessors."""
        return patience + 1

    def fires(self, probabilities: Mapping[int, Tensor], tau: Threshold, patience: int) -> Tensor:
        """As `ExitRule`."""
        *before, current = probabilities.values()
        agree = current.isfinite().all(dim=-1)  # NaN has an argmax, too
        agree &= len(before) >= patience
        for earlier in before[-patience:]:
            agree &= current.argmax(dim=-1) == earlier.argmax(dim=-1)
        return agree

    def margin(self, probabilities: Tensor, tau: Threshold) -> Tensor:
        """As `ExitRule`: only the best class matters."""
        return probabilities.new_full(probabilities.shape[:-1], math.inf)


class Margin(ExitRule):
    """(1 + P(c) - max_{k != c} P(k)) / 2 >= tau for the class c answered here, at this head and at each of the
    `patience` heads before; false if there are fewer.

    A veto at low margin: one head that is undecided, or for another class, keeps the text. At a single head of two
    classes the left side is P(c).
    """

    name = "margin"
    parameters = ("tau", "patience")

    def exits_needed(self, patience: int) -> int:
        """As `ExitRule`: the first `patience` heads have too few predecessors."""
        return patience + 1

    def fires(self, probabilities: Mapping[int, Tensor], tau: Threshold, patience: int) -> Tensor:
        """As `ExitRule`."""
        *before, current = probabilities.values()
        clear = self._lead(current) >= tau
        clear &= len(before) >= patience
        for earlier in before[-patience:]:
            clear &= (self._lead(earlier) >= tau) & (current.argmax(dim=-1) == earlier.argmax(dim=-1))
        return clear

    def margin(self, probabilities: Tensor, tau: Threshold) -> Tensor:
        """As `ExitRule`."""
        return (self._lead(probabilities) - tau).abs()

    def _lead(self, probabilities: Tensor) -> Tensor:
        best = probabilities.topk(2, dim=-1).values
        return (1.0 + best[..., 0] - best[..., 1]) / 2.0


RULES: Mapping[str, ExitRule] = {rule.name: rule for rule in (Confidence(), Entropy(), Agreement(), Margin())}
"""The rules by their names."""
