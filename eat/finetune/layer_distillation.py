"""Distillation of layers (TinyBERT, arXiv:1909.10351): hidden states and attention scores of mapped layers.

With H_0 the embeddings, H_m the hidden states after layer m of the student, S_m,i the attention scores of its head i,
Q K^T / sqrt(d / h) before the softmax, and the same of layer g(m) of the teacher,

    hidden:     sum over m = 0 and the mapped layers of MSE(H_m W, H_g(m))
    attention:  sum over the mapped layers of 1/h sum_i MSE(S_m,i, S_g(m),i)

W is learned if the widths differ, one for all layers, and the identity if they are equal. The mean is over the tokens
of the batch and d, or over its pairs of tokens: there is no padding.

The encoder has one forward pass, whose fused attention gives no scores. Student and teacher are therefore read by hooks
while they run: the queries and keys of a layer give its scores a second time, in training only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eat.errors import EatError
from eat.files import sha256_of
from eat.model.attention import attention_scores
from eat.model.batch import PackedBatch
from eat.model.encoder import EncoderLayer, PackedEncoder
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.layout import Layout
from eat.study.depths import mapped_layers
from eat.study.recipes import LayerDistillation

PROJECTION = "projection"
"""The name of W in the model while it is trained, so that a checkpoint holds it; it is removed at the end."""


class Readout:
    """What the chosen layers of an encoder computed in its last forward pass.

    hidden: layer, or 0 for the embeddings -> hidden states (n, d). qkv: layer -> queries, keys and values (n, 3d).
    """

    def __init__(self, encoder: PackedEncoder, layers: Sequence[int]) -> None:
        self.hidden: dict[int, Tensor] = {}
        self.qkv: dict[int, Tensor] = {}
        encoder.keeps_last_states = True
        self._hook(encoder.embeddings, self.hidden, 0)
        for depth in layers:
            layer = encoder.layers[depth - 1]
            assert isinstance(layer, EncoderLayer)
            self._hook(layer.output_norm, self.hidden, depth)
            self._hook(layer.qkv, self.qkv, depth)

    def _hook(self, module: nn.Module, into: dict[int, Tensor], depth: int) -> None:
        def remember(module: nn.Module, arguments: Any, output: Tensor) -> None:
            into[depth] = output

        module.register_forward_hook(remember)


class LayerLoss:
    """The loss above, between a student that is trained and a teacher that is not.

    student: gets W as a module, if its width differs. Raises `EatError` if the two cannot be compared.
    """

    def __init__(
        self, student: EatForSequenceClassification, teacher: EatForSequenceClassification, options: LayerDistillation
    ) -> None:
        own, other = student.encoder.shape, teacher.encoder.shape
        self.options = options
        self.mapping = mapped_layers(options.mapping, own.layers, other.layers)
        if options.attention and own.heads != other.heads:
            raise EatError(
                f"distill.layers: the student has {own.heads} attention heads, the teacher {other.heads}; set "
                "attention to 0"
            )
        self.heads = own.heads
        self.teacher = teacher.encoder
        self.read = Readout(student.encoder, [*self.mapping])
        self.target = Readout(teacher.encoder, [*self.mapping.values()])
        self.taught: PackedBatch | None = None  # the batch that the teacher has just run
        self.project: nn.Module = nn.Identity()
        if options.hidden and own.hidden != other.hidden:
            self.project = nn.Linear(own.hidden, other.hidden)
            student.add_module(PROJECTION, self.project)

    def __call__(self, batch: PackedBatch) -> dict[str, Tensor]:
        """The weighted parts `hidden` and `attention`, for the batch that the student has just run."""
        if batch is not self.taught:  # a student is run at several widths for one answer of its teacher
            with torch.no_grad():
                self.teacher(batch, ExitPolicy())
            self.taught = batch
        device = self.read.hidden[0].device.type
        with torch.autocast(device, enabled=False):
            parts = {"hidden": self._hidden(), "attention": self._attention(batch.layout)}
        weights = {"hidden": self.options.hidden, "attention": self.options.attention}
        return {name: weights[name] * part for name, part in parts.items() if part is not None}

    def _hidden(self) -> Tensor | None:
        if not self.options.hidden:
            return None
        pairs = {0: 0, **self.mapping}.items()
        errors = [
            nn.functional.mse_loss(self.project(self.read.hidden[own].float()), self.target.hidden[other].float())
            for own, other in pairs
        ]
        return torch.stack(errors).sum()

    def _attention(self, layout: Layout) -> Tensor | None:
        if not self.options.attention:
            return None
        errors = [
            score_error(self.read.qkv[own].float(), self.target.qkv[other].float(), layout, self.heads)
            for own, other in self.mapping.items()
        ]
        return torch.stack(errors).sum()


def score_error(own: Tensor, other: Tensor, layout: Layout, heads: int) -> Tensor:
    """The mean squared difference of attention scores over all heads and the pairs of tokens of a row; ().

    own, other: queries, keys and values (n, 3d) and (n, 3d') of the two.
    """
    groups = layout.groups
    sizes = [group.tokens for group in groups]
    total = own.new_zeros(())
    for ours, theirs, group in zip(torch.split(own, sizes), torch.split(other, sizes), groups, strict=True):
        squares = (attention_scores(ours, group, heads) - attention_scores(theirs, group, heads)).square()
        if not group.is_uniform:
            live = group.live[:, None, :, None] & group.live[:, None, None, :]
            squares = squares.masked_fill(~live, 0.0)
        total = total + squares.sum()
    return total / (heads * sum(length**2 for length in layout.lengths))


def layer_loss(
    student: EatForSequenceClassification, parent: Path, teacher: Path | None, options: LayerDistillation, device: str
) -> LayerLoss:
    """The loss of a stage that learns from the layers of a trained model.

    parent, teacher: the folders of the model that the student starts from, and of its teacher. Raises `EatError` if
    there is no teacher, or if it splits texts into other tokens.
    """
    if teacher is None:
        raise EatError("this stage learns from its teacher's layers, but no model was given; pass --teacher-model")
    if sha256_of(parent / "tokenizer.json") != sha256_of(teacher / "tokenizer.json"):
        raise EatError(
            f"{teacher}: its tokenizer is not that of {parent}, so their layers have other tokens; use a teacher of "
            "the same backbone"
        )
    return LayerLoss(student, load_model(teacher).requires_grad_(False).to(device), options)
