"""The options of `eat adapt`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eat.errors import EatError, listed
from eat.model.products_onnx import PRODUCTS
from eat.runtime.classifier import SHORTEST
from eat.statistics import examples_needed
from eat.text_files.columns import require_columns
from eat.text_files.form import ORDINARY, TextForm

FEWEST_TEXTS = 2000
"""The fewest different texts: with fewer, heads learn little and a promise of a few per cent cannot be tested."""

ENGINES = ("onnx",)

SHARES = {"teach": 0.6, "choose": 0.3, "show": 0.1}
"""The parts of the texts: those that teach the heads, those on which the threshold is chosen, and the rest."""


@dataclass(frozen=True)
class AdaptOptions:
    """What is adapted, with which texts, and what is promised.

    model: a folder of a fine-tuned classifier, or its name on the hub. texts: the file. to: the folder to write.
    columns: one text column, or the two of a pair; default: `text`, or the only column. disagreement: the largest share
    of texts that may be answered differently than by the given model. confidence: that this holds. max_length: the
    tokens of the longest text; default: the model's positions. revision: of a model on the hub.
    """

    model: str
    texts: Path
    to: Path
    columns: Sequence[str] = ()
    form: TextForm = ORDINARY
    disagreement: float = 0.02
    confidence: float = 0.95
    engine: str = "onnx"
    precision: str = "int8"
    max_length: int | None = None
    revision: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise EatError(f"--engine: found {self.engine!r}; allowed: {listed(ENGINES)}")
        if self.precision not in PRODUCTS:
            raise EatError(f"--precision: found {self.precision!r}; allowed: {listed(PRODUCTS)}")
        for name in ("disagreement", "confidence"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise EatError(f"--{name}: found {getattr(self, name)}; give a share above 0 and below 1, such as 0.02")
        require_columns(self.columns)
        if self.max_length is not None and self.max_length < SHORTEST:
            raise EatError(f"--max-length: found {self.max_length}; give a whole number from {SHORTEST} on")

    @property
    def delta(self) -> float:
        """The probability that the promise is broken."""
        return 1.0 - self.confidence

    @property
    def texts_needed(self) -> int:
        """The fewest texts with which the promise can be kept: enough of them are in the part that chooses."""
        return max(FEWEST_TEXTS, round(examples_needed(self.disagreement, self.delta) / SHARES["choose"]))
