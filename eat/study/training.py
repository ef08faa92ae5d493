"""The section `training` of a study."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from eat.study.devices import Device
from eat.validation import Grown, Positive


class Optimization(Grown):
    """The options of all stages that determine their weights (AdamW, linear warm-up and decay)."""

    added: ClassVar[frozenset[str]] = frozenset({"gpus"})

    batch_size: int = Field(32, ge=1)
    learning_rate: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.01
    warmup: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        0.1, description="The share of the steps during which the learning rate rises."
    )
    max_grad_norm: Positive = 1.0
    attention_dropout: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] | None = Field(
        None,
        description="Dropout of attention weights. Default: the backbone's. Above 0 no fused attention kernel can be "
        "used in training, which makes a batch of 256 tokens several times slower on a CPU.",
    )
    precision: Literal["float32", "float16", "bfloat16"] = Field(
        "float32",
        description="Mixed precision if not float32. On a machine on which it takes more than twice as long as "
        "float32, models are trained in float32; each model records its precision.",
    )
    device: Device = Field(
        "auto",
        description="Where models are trained, and teachers traced for them. auto: CUDA if torch finds a GPU, else "
        "MPS, else the CPU.",
    )
    gpus: int = Field(
        1,
        ge=1,
        description="GPUs that train a stage together, each with its share of every batch; needs device: cuda. With "
        "device: cpu, the processes.",
    )

    @model_validator(mode="after")
    def _names_the_device_of_its_gpus(self) -> Self:
        if self.gpus > 1 and self.device not in ("cuda", "cpu"):
            raise ValueError(
                f"gpus: {self.gpus} with device: {self.device}; several processes train on cuda, or on the cpu: set "
                "device to one of them"
            )
        if self.gpus > self.batch_size:
            raise ValueError(
                f"gpus: {self.gpus} with batch_size: {self.batch_size}; each GPU trains on a share of the batch: set "
                "gpus to at most the batch size"
            )
        return self


class Training(Optimization):
    """How stages are trained. A change of the number of threads does not retrain models."""

    threads: int = Field(
        1,
        ge=1,
        description="Threads per training job, with several `gpus` of each process; with fewer threads, more jobs run "
        "in parallel.",
    )
