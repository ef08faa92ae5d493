"""The options of a model's parts, as a configuration gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from eat.errors import listed
from eat.model.head_parts import KINDS, READERS
from eat.model.reducers.registry import AnyReducer, FixedRatio
from eat.validation import Distinct, Grown, Layer, Strict

Precision = Literal["float32", "float16", "bfloat16", "int8"]
EngineName = Literal["torch", "onnx"]
"""The engines of `eat.engines` that a system can name."""
Width = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
"""A share of the attention heads and intermediate neurons of each layer."""

if TYPE_CHECKING:
    ReaderName = str
    EarlyHead = str
    LastHead = str
else:
    ReaderName = Literal[*READERS]
    EarlyHead = Literal[*(name for name, kind in KINDS.items() if kind.early)]
    # in the order in which the schema has always listed them
    LastHead = Literal[*sorted(name for name, kind in KINDS.items() if kind.last)]

PRECISIONS_OF = {
    "torch": ("float32", "float16", "bfloat16"),
    "stock": ("float32", "float16", "bfloat16"),
    "onnx": ("float32", "int8"),
}
"""Engine -> its precisions."""


def check_precision(engine: str, precision: str) -> None:
    """Raise `ValueError` that names the key to change if an engine lacks a precision."""
    if precision in PRECISIONS_OF[engine]:
        return
    others = [name for name, known in PRECISIONS_OF.items() if precision in known and name != "stock"]
    raise ValueError(
        f"precision {precision} in the engine {engine}, which has {listed(PRECISIONS_OF[engine])}; "
        f"add `engine: {others[0]}`, or change the precision"
    )


class Layers(Grown):
    """The layers that are taken from the parent model; default: all."""

    added: ClassVar[frozenset[str]] = frozenset({"stacked"})

    first: int | None = Field(None, ge=1, description="The first k layers.")
    every: int | None = Field(None, ge=1, description="Every n-th layer: n, 2n, ... (DistilBERT: 2).")
    numbers: list[Layer] | None = Field(None, min_length=1, description="These layers, in this order.")
    stacked: int | None = Field(
        None, ge=2, description="All layers, n times one after the other: a deeper model (Gong et al. 2019: 2)."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("first", "every", "numbers", "stacked") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"layers has {listed(given)}; give only one of them")
        return self


class Attention(Strict):
    """Which pairs of tokens attend to each other."""

    kind: Literal["dense", "window"] = "dense"
    left: int = Field(16, ge=0, description="Window: number of live tokens to the left.")
    right: int = Field(16, ge=0, description="Window: number of live tokens to the right.")


class Heads(Strict):
    """The layers that have a head, and the kind of the heads."""

    after: Distinct[Layer] = Field(default=[], description="Layers with a head; the last layer always has one.")
    read: ReaderName = Field(
        "cls",
        description="The input of a head: [CLS], the mean or the maximum of live tokens, all three of them, or a small "
        "self-attention of its own (FastBERT).",
    )
    head: EarlyHead = Field(
        "linear",
        description="The kind of all heads except the last: linear, with a hidden layer of 256 units, or with a pooler "
        "(linear, tanh) before (DeeBERT).",
    )


class Parts(Grown):
    """How the weights of a system are run: reducer, attention, the layers with an exit, precision, engine and width.

    The default of `attention` is that of the training. member_widths: of a cascade; none if all are 1.
    """

    added: ClassVar[frozenset[str]] = frozenset({"width", "member_widths"})

    reducer: AnyReducer = FixedRatio()
    attention: Attention | None = None
    exits: list[Layer] = []
    precision: Precision = "float32"
    engine: EngineName = "torch"
    width: Width = 1.0
    member_widths: list[Width] = []
