"""The interface of an engine, which runs models for tracing, timing and the bench.

An `Engine` loads the weights of a system for a precision and a device. The loaded model runs texts in two ways: at
an operating point, as in use, and at full depth, which records the output of every exit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from eat.model.exit_policy import ExitPolicy
from eat.model.options import Parts
from eat.model.tokenizer import Encoded


class Run(ABC):
    """The result of a call. The classes are on the host; the rest is computed on request, outside the timing.

    classes: the class of each text, in the given order.
    """

    def __init__(self, classes: list[int]) -> None:
        self.classes = classes

    @abstractmethod
    def logits(self) -> Tensor:
        """The logits of each text's answer; float32 (B, C), on the host."""

    @abstractmethod
    def probabilities(self) -> Tensor:
        """Their calibrated probabilities; float32 (B, C), on the host."""

    @abstractmethod
    def depth(self) -> list[int]:
        """The executed depth of each text, in layers."""

    @abstractmethod
    def tokens(self) -> list[int]:
        """The tokens of each text that entered a feed-forward part, summed over the layers."""

    @abstractmethod
    def flops(self) -> float:
        """Floating-point operations of all texts together, without padding."""


Runner = Callable[[Sequence[Encoded]], Run]
"""Classifies texts at one operating point; it returns when the classes are on the host."""


@dataclass(frozen=True)
class FullDepth:
    """The outputs of a model for B texts at full depth, in the given order.

    logits: layer of the exit -> float32 (B, C). attended, fed, alive: tokens that enter attention and the feed-forward
    part, and those passed on; int32 (B, L). cut_margin: relative gap at the removal that first affects a layer, inf if
    there is none; float64 (B, L).
    """

    logits: dict[int, npt.NDArray[np.float32]]
    attended: npt.NDArray[np.int32]
    fed: npt.NDArray[np.int32]
    alive: npt.NDArray[np.int32]
    cut_margin: npt.NDArray[np.float64]


class LoadedModel(ABC):
    """A model that an engine has prepared for inference.

    labels: the names of the classes, in order. layers: of the whole model. exits: the layers with a head, ascending.
    """

    labels: list[str]
    layers: int
    exits: list[int]

    @abstractmethod
    def runner(self, policy: ExitPolicy) -> Runner:
        """The runner of an operating point."""

    @abstractmethod
    def full_depth(self, texts: Sequence[Encoded]) -> FullDepth:
        """Run texts through all layers and evaluate every head."""

    @abstractmethod
    def shape(self) -> dict[str, Any]:
        """The dimensions and parts of the model, as a trace records them."""

    @abstractmethod
    def pairs(self, tokens: int) -> tuple[int, int]:
        """Attention pairs of a text of `tokens` tokens in a layer: those computed, and those of the pattern."""


class Engine(ABC):
    """A way to run models. name: its name in a configuration and on a command line."""

    name: ClassVar[str]

    @abstractmethod
    def refusal(self, precision: str, device: torch.device) -> str | None:
        """Why it cannot run in a precision on a device, in one line; `None` if it can."""

    @abstractmethod
    def load(self, folders: Sequence[Path], parts: Parts, device: torch.device) -> LoadedModel:
        """Load a trained model, or a cascade of several, with these parts, in their precision.

        Raises `EatError` if the folders contain no model that this engine can run.
        """
