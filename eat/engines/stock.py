"""The engine `stock`: `transformers` on padded batches, the baseline without this project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from eat.engines.engine import Engine, FullDepth, LoadedModel, Run, Runner
from eat.engines.precision import prepare_stock, refusal
from eat.errors import EatError
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import load_model
from eat.model.operations import layer_operations
from eat.model.options import Parts
from eat.model.shape import Shape
from eat.model.tokenizer import Encoded
from eat.model.weights import to_stock


class StockRun(Run):
    """The logits of a dense model, which executes every layer on every token."""

    def __init__(self, classes: list[int], logits: Tensor, lengths: list[int], shape: Shape) -> None:
        super().__init__(classes)
        self._logits = logits
        self._lengths = lengths
        self._shape = shape

    def logits(self) -> Tensor:
        """As `Run`."""
        return self._logits.float().cpu()

    def probabilities(self) -> Tensor:
        """As `Run`; not calibrated."""
        return torch.softmax(self.logits(), dim=-1)

    def depth(self) -> list[int]:
        """As `Run`."""
        return [self._shape.layers] * len(self._lengths)

    def tokens(self) -> list[int]:
        """As `Run`."""
        return [self._shape.layers * length for length in self._lengths]

    def flops(self) -> float:
        """As `Run`."""
        return dense_flops(self._shape, self._lengths)


class StockModel(LoadedModel):
    """A model of `transformers` on a device."""

    def __init__(self, model: PreTrainedModel, device: torch.device) -> None:
        self._model = model
        self._device = device
        config = model.config
        is_bert = config.model_type == "bert"
        self._takes_types = is_bert
        self._shape = Shape(
            hidden=config.hidden_size if is_bert else config.dim,
            layers=int(config.num_hidden_layers),
            intermediate=config.intermediate_size if is_bert else config.hidden_dim,
            classes=config.num_labels,
        )
        self.labels = [config.id2label[index] for index in range(config.num_labels)]
        self.layers = self._shape.layers
        self.exits = [self.layers]

    def runner(self, policy: ExitPolicy) -> Runner:
        """As `LoadedModel`. Raises `EatError` for a policy with a rule: the only exit is the last."""
        if policy.may_exit:
            raise EatError("a stock model has no early exits; give it an operating point without a rule")
        return self._run

    def _run(self, texts: Sequence[Encoded]) -> StockRun:
        logits = self.logits(texts)
        return StockRun(logits.argmax(dim=-1).tolist(), logits, [len(text.ids) for text in texts], self._shape)

    def logits(self, texts: Sequence[Encoded]) -> Tensor:
        """The logits of texts on the device; (B, C)."""
        inputs = padded(texts)
        if not self._takes_types:
            del inputs["token_type_ids"]
        logits: Tensor = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()}).logits
        return logits

    def full_depth(self, texts: Sequence[Encoded]) -> FullDepth:
        """As `LoadedModel`."""
        lengths = np.array([len(text.ids) for text in texts], dtype=np.int32)
        everywhere = np.repeat(lengths[:, None], self.layers, axis=1)
        logits = {self.layers: self.logits(texts).float().cpu().numpy()}
        return FullDepth(logits, everywhere, everywhere, everywhere, np.full(everywhere.shape, np.inf))

    def shape(self) -> dict[str, Any]:
        """As `LoadedModel`; heads and reducer are those of the exported model."""
        shape = self._shape
        return {
            "task": "classification",
            "layers": shape.layers,
            "hidden": shape.hidden,
            "intermediate": shape.intermediate,
            "classes": shape.classes,
            "exits": self.exits,
            "labels": self.labels,
            "device": self._device.type,
        }

    def pairs(self, tokens: int) -> tuple[int, int]:
        """As `LoadedModel`."""
        return tokens * tokens, tokens * tokens


class StockEngine(Engine):
    """Stock `transformers` with the weights of a dense model of this project."""

    name = "stock"

    def refusal(self, precision: str, device: torch.device) -> str | None:
        """As `Engine`."""
        return refusal(precision, device, stock=True)

    def load(self, folders: Sequence[Path], parts: Parts, device: torch.device) -> StockModel:
        """As `Engine`. Raises `EatError` for a cascade, and for a model that is not dense."""
        if len(folders) != 1:
            raise EatError("a stock model cannot be a cascade; name one model")
        model = load_model(folders[0], parts)
        labels = [model.config.id2label[index] for index in range(len(model.config.id2label))]
        stock = to_stock(model.encoder, labels)
        prepare_stock(stock, parts.precision, device)
        return StockModel(stock, device)


def padded(texts: Sequence[Encoded]) -> dict[str, Tensor]:
    """The inputs of a stock model, int64 (B, T) each; no mask if all texts have the same length."""
    if len(texts) == 1:
        return {"input_ids": texts[0].ids[None], "token_type_ids": texts[0].types[None]}
    ids = nn.utils.rnn.pad_sequence([text.ids for text in texts], batch_first=True)
    types = nn.utils.rnn.pad_sequence([text.types for text in texts], batch_first=True)
    inputs = {"input_ids": ids, "token_type_ids": types}
    lengths = torch.tensor([len(text.ids) for text in texts])
    if bool((lengths < ids.shape[1]).any()):
        inputs["attention_mask"] = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return inputs


def dense_flops(shape: Shape, lengths: Sequence[int]) -> float:
    """Floating-point operations of a dense model with BERT's head on texts of these lengths, without padding."""
    tokens, pairs = float(sum(lengths)), float(sum(length * length for length in lengths))
    layer = layer_operations(shape.hidden, float(shape.hidden), float(shape.intermediate), tokens, tokens, pairs)
    head = 2.0 * shape.hidden**2 + 2.0 * shape.hidden * shape.classes
    return shape.layers * layer + len(lengths) * head
