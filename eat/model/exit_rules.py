"""The rules by which a text exits early. A rule is a class in this file, an entry of `RULES`, and found by its name.

A rule looks at each text by itself, so the forward pass, which asks for the texts that are still there, and the replay
of a trace, which asks for all, decide alike. PyTorch is imported if a tensor has to be made or computed: the names
of the rules are read wherever a configuration is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


class ExitRule(ABC):
    """Whether a text may exit at a layer, by what the heads up to it say.

    name: in a configuration and in an operating point. parameters: the fields of an operating point that it reads
    besides the probabilities: `tau`, a threshold in (0, 1], or `patience`.
    """

    name: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]] = ()

    @property
    def needs_tau(self) -> bool:
        """Whether it compares with a threshold."""
        return "tau" in self.parameters

    def exits_needed(self, patience: int) -> int:
        """The heads before the last layer that a model must have for any text to exit early."""
        return 1

    @abstractmethod
    def fires(self, probabilities: Mapping[int, Tensor], tau: float, patience: int) -> Tensor:
        """Whether each text may exit at the last of the heads seen so far; bool (B,). NaN never does.

        probabilities: layer -> calibrated probabilities (B, C), ascending.
        """

    @abstractmethod
    def margin(self, probabilities: Tensor, tau: float) -> Tensor:
        """How far the probabilities (B, C) of a head are from another decision; float (B,), inf if nothing is compared.

        Within a rounding error of 0 two ways of computing the same may decide differently. That the two best classes
        are close is counted elsewhere, whatever the rule.
        """


class Confidence(ExitRule):
    """max_c P(c) >= tau (the paper)."""

    name = "confidence"
    parameters = ("tau",)

    def fires(self, probabilities: Mapping[int, Tensor], tau: float, patience: int) -> Tensor:
        """As `ExitRule`."""
        *_, current = probabilities.values()
        return current.amax(dim=-1) >= tau

    def margin(self, probabilities: Tensor, tau: float) -> Tensor:
        """As `ExitRule`."""
        return (probabilities.amax(dim=-1) - tau).abs()


class Entropy(ExitRule):
    """1 - H(P) / ln C >= tau.

    This is FastBERT's uncertainty at a speed of 1 - tau; DeeBERT exits below S nats, which is tau = 1 - S / ln C.
    """

    name = "entropy"
    parameters = ("tau",)

    def fires(self, probabilities: Mapping[int, Tensor], tau: float, patience: int) -> Tensor:
        """As `ExitRule`."""
        *_, current = probabilities.values()
        return self._certainty(current) >= tau

    def margin(self, probabilities: Tensor, tau: float) -> Tensor:
        """As `ExitRule`."""
        return (self._certainty(probabilities) - tau).abs()

    def _certainty(self, probabilities: Tensor) -> Tensor:
        from torch.special import entr

        certainty: Tensor = 1.0 - entr(probabilities).sum(dim=-1) / math.log(probabilities.shape[-1])
        return certainty


class Agreement(ExitRule):
    """The argmax is that of each of the `patience` heads before, and never if fewer have passed.

    With a patience of 1 it is the paper's patience, else PABEE's counter, which rises if a head agrees with the one
    before, falls to 0 if it does not, and must reach the patience.
    """

    name = "agreement"
    parameters = ("patience",)

    def exits_needed(self, patience: int) -> int:
        """As `ExitRule`: the first `patience` heads have too few before them."""
        return patience + 1

    def fires(self, probabilities: Mapping[int, Tensor], tau: float, patience: int) -> Tensor:
        """As `ExitRule`."""
        *before, current = probabilities.values()
        agree = current.isfinite().all(dim=-1)  # the argmax of NaN is a class like any other
        agree &= len(before) >= patience
        for earlier in before[-patience:]:
            agree &= current.argmax(dim=-1) == earlier.argmax(dim=-1)
        return agree

    def margin(self, probabilities: Tensor, tau: float) -> Tensor:
        """As `ExitRule`: what the best class is decides alone."""
        return probabilities.new_full(probabilities.shape[:-1], math.inf)


RULES: Mapping[str, ExitRule] = {rule.name: rule for rule in (Confidence(), Entropy(), Agreement())}
"""The rules by their names."""
