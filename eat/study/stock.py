"""The dense rivals of a study: the reference's weights in `transformers` and in other engines."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from eat.model.options import Precision, check_precision
from eat.validation import Strict

STOCK = "hf-dense"
"""Stock `transformers`, the baseline of every speed-up."""

AGAIN = "-again"
"""The suffix of a row that is timed a second time (A/A): the noise floor of the clock."""

STOCK_AGAIN = f"{STOCK}{AGAIN}"

STOCK_SORTED = f"{STOCK}-sorted"
"""The baseline with batches of similar lengths."""

SAME_MODEL = (STOCK, STOCK_AGAIN, STOCK_SORTED)
"""The rows that time the stock export of the reference: they share its accuracy and its FLOPs."""

STOCK_PREFIX = STOCK
"""The prefix of all rivals, including other engines and precisions (hf-dense-onnx-int8) and depths (hf-dense-12)."""

STRONGEST = f"{STOCK}-onnx-int8"
"""The fastest dense rival, against which adaptive systems are also compared if it is timed."""


class Rival(Strict):
    """A dense model that is timed with the systems: the reference's weights in an engine and a precision."""

    engine: Literal["stock", "onnx"] = Field(
        description="onnx: ONNX Runtime, a row with its own accuracy. stock: transformers in another precision, timed "
        "only, and left out on a machine that refuses the precision."
    )
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _precision_of_the_engine(self) -> Self:
        check_precision(self.engine, self.precision)
        if (self.engine, self.precision) == ("stock", "float32"):
            raise ValueError("stock in float32 is always timed; leave it out")
        return self

    @property
    def name(self) -> str:
        """Its row: hf-dense-bfloat16, hf-dense-onnx, hf-dense-onnx-int8."""
        engine = [] if self.engine == "stock" else [self.engine]
        return "-".join([STOCK, *engine, *([] if self.precision == "float32" else [self.precision])])

    def system(self, reference: str) -> dict[str, Any]:
        """Its row as an entry of `systems`."""
        return {"weights_of": reference, "engine": self.engine, "precision": self.precision}


def stock_deep(layers: int) -> str:
    """The row of a stock model of another number of layers."""
    return f"{STOCK}-{layers}"


def is_repeat(system: str) -> bool:
    """Whether a row is only timed a second time, for the noise floor."""
    return system.startswith(STOCK_PREFIX) and system.endswith(AGAIN)
