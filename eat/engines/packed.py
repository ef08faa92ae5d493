"""The engine `torch`: the packed forward pass, which computes nothing for removed tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eat.engines.engine import Engine, FullDepth, LoadedModel, Run, Runner
from eat.engines.precision import prepare, refusal
from eat.engines.varlen import fastest_pattern
from eat.model.batch import PackedBatch
from eat.model.cascade import Cascade, CascadeEncoder, load_system
from eat.model.encoder import EncoderOutput, PackedEncoder
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.operations import layer_operations
from eat.model.options import Parts
from eat.model.shape import Shape
from eat.model.tokenizer import Encoded

Encoder = PackedEncoder | CascadeEncoder


class PackedRun(Run):
    """The output of a forward pass at an operating point."""

    def __init__(self, classes: list[int], output: EncoderOutput, encoder: Encoder, policy: ExitPolicy) -> None:
        super().__init__(classes)
        self._output = output
        self._encoder = encoder
        self._policy = policy

    def logits(self) -> Tensor:
        """As `Run`."""
        return self._output.logits.float().cpu()

    def probabilities(self) -> Tensor:
        """As `Run`."""
        logits = self.logits()
        found = torch.empty_like(logits)
        for depth in {*self._output.depth}:
            rows = [row for row, executed in enumerate(self._output.depth) if executed == depth]
            found[rows] = self._policy.probabilities(depth, logits[rows])
        return found

    def depth(self) -> list[int]:
        """As `Run`."""
        return self._output.depth

    def tokens(self) -> list[int]:
        """As `Run`."""
        tokens = [0] * len(self.classes)
        for work in self._output.work:
            for row, fed in zip(work.rows, work.fed, strict=True):
                tokens[row] += fed
        return tokens

    def flops(self) -> float:
        """As `Run`; only the last head is counted."""
        work = ((work.attended, work.fed) for work in self._output.work)
        return executed_flops(self._encoder, len(self.classes), work, self._encoder.pattern.computed_pairs)


def layer_shapes(encoder: Encoder) -> list[Shape]:
    """The shape of each layer; the systems of a cascade may differ in theirs."""
    members = encoder.members if isinstance(encoder, CascadeEncoder) else [encoder]
    shapes = [member.shape for member in members if isinstance(member, PackedEncoder)]
    return [shape for shape in shapes for _ in range(shape.layers)]


def executed_flops(
    encoder: Encoder,
    texts: int,
    work: Iterable[tuple[Sequence[int], Sequence[int]]],
    pairs: Callable[[int], int],
) -> float:
    """Floating-point operations of executed layers, and of the last head for each text.

    work: for each layer, the tokens of each text that entered attention, and the feed-forward part. pairs: tokens ->
    the attention pairs that are computed for them.
    """
    total = float(encoder.head(encoder.shape.layers).operations().fixed) * texts
    for shape, (attended, fed) in zip(layer_shapes(encoder), work, strict=False):
        total += layer_operations(
            shape.hidden,
            float(shape.attention_width),
            float(shape.intermediate),
            float(sum(attended)),
            float(sum(fed)),
            float(sum(map(pairs, attended))),
        )
    return total


class PackedModel(LoadedModel):
    """A model of this project, or a cascade; on the host and in float32 until `prepare` is called."""

    def __init__(self, model: EatForSequenceClassification | Cascade) -> None:
        # counted before the layers are replaced by functions
        self.parameters = sum(weights.numel() for member in model.members for weights in member.parameters())
        self._members = model.members
        self.encoder: Encoder = model.encoder
        self.labels = [model.config.id2label[index] for index in range(self.encoder.shape.classes)]
        self.layers = self.encoder.shape.layers
        self.exits = self.encoder.exits
        self._config = model.config
        self._precision = "float32"
        self._device = torch.device("cpu")

    def prepare(self, precision: str, device: torch.device) -> PackedModel:
        """Prepare it in place for inference in a precision on a device; returns itself."""
        for member in self._members:
            prepare(member, precision, device)
            member.pattern = fastest_pattern(member.pattern, precision, device)
        self._precision, self._device = precision, device
        return self

    def runner(self, policy: ExitPolicy) -> Runner:
        """As `LoadedModel`."""
        encoder, device = self.encoder, self._device

        def run(texts: Sequence[Encoded]) -> PackedRun:
            output = encoder(PackedBatch.of(texts, device), policy)
            return PackedRun(output.logits.argmax(dim=-1).tolist(), output, encoder, policy)

        return run

    def full_depth(self, texts: Sequence[Encoded]) -> FullDepth:
        """As `LoadedModel`."""
        output = self.encoder(PackedBatch.of(texts, self._device))
        size = (len(texts), self.layers)
        counts = {key: np.empty(size, dtype=np.int32) for key in ("attended", "fed", "alive")}
        cut_margin = np.full(size, np.inf)
        # a removal after a layer first affects the next one
        delay = int(self.encoder.reducer.place == "layer_output")
        for layer, work in enumerate(output.work):
            for key, column in counts.items():
                column[work.rows, layer] = getattr(work, key)
            if work.margin is not None:
                cut_margin[work.rows, layer + delay] = work.margin.cpu().double().numpy()
        logits = {depth: values.float().cpu().numpy() for depth, values in output.exits.items()}
        return FullDepth(logits, **counts, cut_margin=cut_margin)

    def shape(self) -> dict[str, Any]:
        """As `LoadedModel`."""
        encoder, shape = self.encoder, self.encoder.shape
        config = self._config.to_dict()
        widths = [(layer.attention_width, layer.intermediate) for layer in layer_shapes(encoder)]
        is_alike = {*widths} == {(shape.hidden, shape.intermediate)}
        return {
            "task": "classification",
            "layers": shape.layers,
            "hidden": shape.hidden,
            "intermediate": shape.intermediate,
            "heads": shape.heads,
            "classes": shape.classes,
            "exits": encoder.exits,
            "read": config["read"],
            "last_head": config["last_head"],
            "reducer": config["reducer"],
            "attention": config["attention"],
            "scoring": {str(depth): list(encoder.reducer.operations()) for depth in sorted(encoder.reducer.after)},
            "scoring_place": encoder.reducer.place,
            "head_operations": {str(depth): list(encoder.head(depth).operations()) for depth in encoder.exits},
            "parameters": self.parameters,
            "labels": self.labels,
            "precision": self._precision,
            "device": self._device.type,
            **({} if is_alike else {"layer_widths": widths}),
        }

    def pairs(self, tokens: int) -> tuple[int, int]:
        """As `LoadedModel`."""
        pattern = self.encoder.pattern
        return pattern.computed_pairs(tokens), pattern.pattern_pairs(tokens)


class PackedEngine(Engine):
    """The packed forward pass in PyTorch."""

    name = "torch"

    def refusal(self, precision: str, device: torch.device) -> str | None:
        """As `Engine`."""
        return refusal(precision, device)

    def load(self, folders: Sequence[Path], parts: Parts, device: torch.device) -> PackedModel:
        """As `Engine`."""
        return PackedModel(load_system(folders, parts)).prepare(parts.precision, device)
