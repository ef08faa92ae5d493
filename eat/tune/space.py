"""What is searched: a candidate is a row of a study, drawn by Optuna from a finite space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

READERS = ("cls", "mean", "max", "cls_mean_max")
"""What heads read; not `attention`, whose vectors cannot be kept, since its reader is trained."""

HEADS = ("linear", "mlp", "bert")

REDUCERS = ("none", "norm", "received", "merging")
"""Reducers without parameters, which need no training of the layers."""

RATIOS = (0.1, 0.2, 0.3, 0.4)

VARIANTS: Mapping[str, tuple[str, str]] = {
    "torch": ("torch", "float32"),
    "bf16": ("torch", "bfloat16"),
    "onnx": ("onnx", "float32"),
    "int8": ("onnx", "int8"),
}
"""Name -> engine and precision."""

HAND_MADE = ("mean", "mlp")
"""Reader and head of `adapt-6`, which exits after every layer and removes nothing."""


class Suggesting(Protocol):
    """What draws values: a trial of Optuna."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class Candidate:
    """A row: frozen layers with heads, the exits that are used, what is removed, and what runs it.

    exits: the layers after which a text may exit; none: full depth for every text. after: the layers after which a
    `reducer` removes the share `ratio` of the tokens. variant: a name of `VARIANTS`.
    """

    read: str
    head: str
    exits: tuple[int, ...]
    variant: str
    reducer: str = "none"
    after: tuple[int, ...] = ()
    ratio: float = 0.0

    @property
    def parent(self) -> str:
        """The name of the row that trains the heads, which candidates with other exits and engines share."""
        return f"heads-{self._weights}"

    @property
    def row(self) -> str:
        """The name of the row itself."""
        return f"{self._weights}-x{_joined(self.exits) or '0'}-{self.variant}"

    @property
    def _weights(self) -> str:
        removal = "" if self.reducer == "none" else f"-{self.reducer}{_joined(self.after)}r{round(100 * self.ratio)}"
        return f"{self.read}-{self.head}{removal}"

    def reducer_row(self) -> dict[str, Any]:
        """The reducer as a row names it."""
        if self.reducer == "none":
            return {"kind": "none"}
        return {"kind": self.reducer, "after": list(self.after), "ratio": self.ratio}


@dataclass(frozen=True)
class Space:
    """The space of a model of `layers` layers on a machine that runs these `variants`."""

    layers: int
    variants: tuple[str, ...]

    @property
    def places(self) -> tuple[int, ...]:
        """The layers after which a text may exit."""
        return tuple(range(1, self.layers))

    @property
    def schedules(self) -> tuple[str, ...]:
        """The layers after which tokens are removed: one, or two with one between."""
        inner = range(1, self.layers)
        pairs = [(first, first + 2) for first in inner if first + 2 in inner]
        return tuple(map(_joined, [*((layer,) for layer in inner), *pairs]))

    def suggest(self, trial: Suggesting) -> Candidate:
        """Draw a candidate."""
        read = trial.suggest_categorical("read", READERS)
        head = trial.suggest_categorical("head", HEADS)
        variant = trial.suggest_categorical("variant", self.variants)
        exits = tuple(layer for layer in self.places if trial.suggest_categorical(f"exit_{layer}", [True, False]))
        reducer = trial.suggest_categorical("reducer", REDUCERS)
        if reducer == "none":
            return Candidate(read, head, exits, variant)
        after = trial.suggest_categorical("after", self.schedules)
        ratio = trial.suggest_categorical("ratio", RATIOS)
        return Candidate(read, head, exits, variant, reducer, _layers(after), ratio)

    def of(self, parameters: Mapping[str, Any]) -> Candidate:
        """The candidate of a trial's parameters."""
        return self.suggest(_Given(parameters))

    def hand_made(self) -> list[dict[str, Any]]:
        """The parameters of `adapt-6` in each variant, from which the search starts."""
        exits = {f"exit_{layer}": True for layer in self.places}
        read, head = HAND_MADE
        return [
            {"read": read, "head": head, "variant": variant, **exits, "reducer": "none"} for variant in self.variants
        ]


class _Given:
    """The values of an earlier trial."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The value that it had."""
        return self._parameters[name]


def _joined(layers: Sequence[int]) -> str:
    return ".".join(map(str, layers))


def _layers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
