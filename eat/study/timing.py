"""The sections `trace` and `timing` of a study."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from eat.errors import listed
from eat.study.devices import Device
from eat.study.stock import Rival
from eat.validation import Distinct, Strict


class Tracing(Strict):
    """The device on which systems are traced."""

    device: Device | None = Field(None, description="Default: `timing.device`, on which the traced answers are timed.")


class Timing(Strict):
    """How time is measured (see docs/measuring.md)."""

    texts: int = Field(200, ge=8, description="Dev texts timed, stratified by length.")
    batch_sizes: Distinct[Annotated[int, Field(ge=1)]] = Field(default=[1, 32], min_length=1)
    block_texts: int = Field(
        16, ge=1, description="Batch 1: number of texts in a block, within which every system runs in turn."
    )
    repeats: int = Field(2, ge=1, description="Batch 1: number of repeats, each in another order.")
    passes: int = Field(10, ge=2, description="Larger batches: passes over the texts, each system in turn.")
    pass_texts: int | None = Field(
        None, ge=8, description="Larger batches: number of texts in a pass, drawn anew for each; default: all."
    )
    warmup: int = Field(50, ge=1, description="Untimed calls of each system before the first timed one.")
    threads: int = Field(2, ge=1)
    device: Device = Field("cpu", description="Where systems are timed; auto as for training.")
    stock: Distinct[Rival] = Field(
        default=[], description="Other dense rivals: the reference's weights in these engines and precisions."
    )
    deep_layers: int | None = Field(
        12,
        ge=1,
        description="Also time a stock dense model of this number of layers with random weights (latency only).",
    )

    @field_validator("stock", mode="before")
    @classmethod
    def _names_engines(cls, rivals: Any) -> Any:
        plain = [rival for rival in rivals if isinstance(rival, str)] if isinstance(rivals, list) else []
        if plain:
            engine = "onnx" if "int8" in plain else "stock"
            raise ValueError(
                f"found {listed(plain)}; each entry names an engine, too: "
                f"{{engine: {engine}, precision: {'int8' if engine == 'onnx' else plain[0]}}}"
            )
        return rivals

    @field_validator("batch_sizes")
    @classmethod
    def _holds_one(cls, batch_sizes: list[int]) -> list[int]:
        if 1 not in batch_sizes:
            raise ValueError(
                f"{batch_sizes} lacks 1, at which tables and figures compare systems; give {[1, *batch_sizes]}"
            )
        return batch_sizes
