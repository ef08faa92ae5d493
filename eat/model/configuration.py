"""The configuration of an adaptive encoder as Transformers saves and loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from transformers.configuration_utils import PretrainedConfig
from transformers.models.auto.configuration_auto import AutoConfig

from eat.model.shape import Shape


class EatConfig(PretrainedConfig):  # type: ignore[misc]
    """The architecture and the parts of an adaptive encoder.

    shape: the fields of `eat.model.shape.Shape`; the number of classes is that of `num_labels` or `id2label`, if
    one is given. reducer, attention: entries of the configuration. exits: the layers with a head. read: the input of
    the heads.
    head, last_head: the kind of the heads, and of the last. operating_point: rule, tau, temperatures and patience.
    trained: the device and precision in which the weights were trained, if they were.
    """

    model_type = "eat"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["depth"]
    """The outputs that a `Trainer` drops from its predictions, which are then only the logits."""

    def __init__(
        self,
        shape: Mapping[str, Any] | None = None,
        reducer: Mapping[str, Any] | None = None,
        attention: Mapping[str, Any] | None = None,
        exits: Sequence[int] = (),
        read: str = "cls",
        last_head: str = "linear",
        head: str = "linear",
        operating_point: Mapping[str, Any] | None = None,
        trained: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.shape = asdict(Shape(**(shape or {})))
        self.reducer = dict(reducer or {"kind": "none"})
        self.attention = dict(attention or {"kind": "dense"})
        self.exits = sorted({*exits, self.shape["layers"]})
        self.read = read
        self.last_head = last_head
        self.head = head
        self.operating_point = operating_point or {}
        self.trained = dict(trained or {})
        if kwargs.get("id2label") is None:
            kwargs.setdefault("num_labels", self.shape["classes"])
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """d, under the name that other libraries use."""
        return int(self.shape["hidden"])

    @property
    def num_hidden_layers(self) -> int:
        """L, under the name that other libraries use."""
        return int(self.shape["layers"])

    @property
    def vocab_size(self) -> int:
        """The rows of the token embedding, under the name that other libraries use."""
        return int(self.shape["vocabulary"])

    @vocab_size.setter
    def vocab_size(self, rows: int) -> None:
        self.shape["vocabulary"] = rows


AutoConfig.register("eat", EatConfig, exist_ok=True)
