"""A tagger: the packed encoder with a linear head per exit layer on the first word piece of each word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForTokenClassification, PreTrainedModel

from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json, write_json
from eat.model.attention import DENSE
from eat.model.encoder import EncoderLayer, PackedEncoder
from eat.model.layout import Layout
from eat.model.reducers.base import Reducer
from eat.model.shape import Shape
from eat.model.tokenizer import load_tokenizer, require_embeddings
from eat.model.weights import STOCK_ATTENTION, load_encoder, read_checkpoint, read_tensors
from eat.tagging.sentences import SentenceBatch

MODEL_TYPE = "eat-tagging"


class Tagger(nn.Module):
    """The packed encoder without heads of its own, and heads on hidden states of first pieces.

    tags: the names of the classes. exits: the layers before the last that have a head.
    """

    def __init__(self, shape: Shape, tags: Sequence[str], exits: Sequence[int]) -> None:
        super().__init__()
        self.shape = shape
        self.tags = list(tags)
        self.encoder = PackedEncoder(shape, DENSE, Reducer(), {})
        depths = sorted({*exits, shape.layers})
        self.heads = nn.ModuleDict({str(depth): nn.Linear(shape.hidden, len(self.tags)) for depth in depths})
        self.dropout = nn.Dropout(shape.head_dropout)

    @property
    def exits(self) -> list[int]:
        """The layers that have a head, ascending; the last is among them."""
        return [int(depth) for depth in self.heads]

    def forward(self, batch: SentenceBatch) -> dict[int, Tensor]:
        """The logits of every head for every word, at full depth: layer -> (w, C), in packed order. For training."""
        hidden = self.encoder.embeddings(batch.packed)
        found = {}
        for depth in range(1, self.shape.layers + 1):
            hidden = self.whole_layer(depth, hidden, batch.packed.layout)
            if str(depth) in self.heads:
                found[depth] = self.logits(depth, hidden.index_select(0, batch.first))
        return found

    def layer(self, depth: int) -> EncoderLayer:
        """A layer, counted from 1."""
        layer = self.encoder.layers[depth - 1]
        assert isinstance(layer, EncoderLayer)
        return layer

    def whole_layer(self, depth: int, hidden: Tensor, layout: Layout) -> Tensor:
        """A layer of the packed encoder, all of whose tokens are computed; (n, d) to (n, d)."""
        layer = self.layer(depth)
        attended, _ = layer.attend(hidden, layout, self.encoder.pattern)
        return layer.feed(attended)

    def logits(self, depth: int, hidden: Tensor) -> Tensor:
        """The logits of words from the hidden states of their first pieces; (w, d) to (w, C)."""
        found: Tensor = self.heads[str(depth)](self.dropout(hidden) if self.training else hidden)
        return found

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors` into a folder."""
        from safetensors.torch import save_file

        config = {"model_type": MODEL_TYPE, "shape": asdict(self.shape), "tags": self.tags, "exits": self.exits[:-1]}
        write_json(folder / "config.json", config)
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "model.safetensors"
        )


def build_tagger(
    backbone: Path, tags: Sequence[str], exits: Sequence[int], max_length: int, attention_dropout: float | None = None
) -> Tagger:
    """A tagger with the weights of a backbone, and seeded random heads.

    attention_dropout: overrides the backbone's. Raises `EatError` if the backbone lacks a layer of `exits`, positions,
    or weights.
    """
    checkpoint = read_checkpoint(backbone)
    if exits and max(exits) >= checkpoint.shape.layers:
        raise EatError(
            f"exits.after: found {max(exits)}; {backbone} has {checkpoint.shape.layers} layers, and the last always "
            "has a head: name earlier ones"
        )
    require_embeddings(load_tokenizer(backbone), backbone, checkpoint.shape, max_length, pairs=False)
    shape = replace(checkpoint.shape, classes=len(tags))
    if attention_dropout is not None:
        shape = replace(shape, attention_dropout=attention_dropout)
    tagger = Tagger(shape, tags, exits)
    absent = load_encoder(tagger.encoder, checkpoint, range(1, shape.layers + 1))
    if absent:
        raise EatError(f"{backbone}: lacks {listed(absent[:3])}; the encoder would start from random weights")
    return tagger


def load_tagger(folder: Path) -> Tagger:
    """A trained tagger in evaluation mode. Raises `DamagedFile` if it is not whole."""
    config: dict[str, Any] = read_json(folder / "config.json")
    if config.get("model_type") != MODEL_TYPE:
        raise EatError(f"{folder}: model_type is {config.get('model_type')!r}, not {MODEL_TYPE}; train a tagger first")
    tagger = Tagger(Shape(**config["shape"]), config["tags"], config["exits"])
    tensors = read_tensors(folder / "model.safetensors")
    expected = {name: tensor.shape for name, tensor in tagger.state_dict().items()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise DamagedFile(f"{folder / 'model.safetensors'}: not the tensors of config.json; train again")
    tagger.load_state_dict(tensors)
    return tagger.eval()


def to_stock(tagger: Tagger) -> PreTrainedModel:
    """The stock `BertForTokenClassification` with a tagger's weights and its last head, in evaluation mode.

    Raises `EatError` for a shape that the class does not have.
    """
    shape = tagger.shape
    if shape.embedding or shape.attention_width != shape.hidden:
        raise EatError("the stock class has embeddings and heads as wide as its layers; take another backbone")
    model = BertForTokenClassification(
        BertConfig(
            vocab_size=shape.vocabulary, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, intermediate_size=shape.intermediate, hidden_act=shape.activation,
            max_position_embeddings=shape.positions, type_vocab_size=max(shape.token_types, 1),
            layer_norm_eps=shape.norm_epsilon, id2label=dict(enumerate(tagger.tags)),
        )
    )  # fmt: skip
    model.load_state_dict(_stock_tensors(tagger))
    model.set_attn_implementation(STOCK_ATTENTION)
    return model.eval()


def _stock_tensors(tagger: Tagger) -> dict[str, Tensor]:
    """The tensors under the names of `BertForTokenClassification`."""
    ours = tagger.encoder.state_dict()
    found: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        found[f"classifier.{kind}"] = tagger.heads[str(tagger.shape.layers)].state_dict()[kind]
        found[f"bert.embeddings.LayerNorm.{kind}"] = ours[f"embeddings.norm.{kind}"]
        for index in range(tagger.shape.layers):
            theirs = f"bert.encoder.layer.{index}"
            parts = ours[f"layers.{index}.qkv.{kind}"].chunk(3)
            for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                found[f"{theirs}.attention.self.{part}.{kind}"] = tensor
            for own, other in (
                ("attention_output", "attention.output.dense"), ("attention_norm", "attention.output.LayerNorm"),
                ("up", "intermediate.dense"), ("down", "output.dense"), ("output_norm", "output.LayerNorm"),
            ):  # fmt: skip
                found[f"{theirs}.{other}.{kind}"] = ours[f"layers.{index}.{own}.{kind}"]
    for own, other in (("token", "word"), ("position", "position"), ("segment", "token_type")):
        if f"embeddings.{own}.weight" in ours:
            found[f"bert.embeddings.{other}_embeddings.weight"] = ours[f"embeddings.{own}.weight"]
    if "bert.embeddings.token_type_embeddings.weight" not in found:
        found["bert.embeddings.token_type_embeddings.weight"] = torch.zeros(1, tagger.shape.hidden)
    return found
