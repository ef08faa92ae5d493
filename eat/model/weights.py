"""Reading and writing weights of Hugging Face checkpoints.

`read_checkpoint` reads a folder with `config.json` and safetensors files of a BERT, MiniLM, DistilBERT, RoBERTa, XLM-R
or ELECTRA model, or of this project, and renames its tensors; `to_stock` converts a trained dense model to the stock
class, whose logits must be equal. Only safetensors files are opened; a pickled checkpoint is never read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eat.errors import DamagedFile, EatError, listed
from eat.model.checkpoints import (
    PREFIXES,
    read_config,
    sizes_of,
    unused_positions,
    weight_files,
    weights_remedy,
)
from eat.model.encoder import ACTIVATIONS
from eat.model.shape import Shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from eat.model.encoder import PackedEncoder

_LAYER = {
    "bert": {
        "prefix": "encoder.layer",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "output_norm": "output.LayerNorm",
    },
    "distilbert": {
        "prefix": "transformer.layer",
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
        "output_norm": "output_layer_norm",
    },
}
_EMBEDDINGS = {
    "token": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "segment": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
}
_HEAD = {
    "bert": ("pooler.dense", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "xlm-roberta": ("classifier.dense", "classifier.out_proj"),
    "electra": ("classifier.dense", "classifier.out_proj"),
}
_HEAD_KIND = {"roberta": "bert", "xlm-roberta": "bert"}
"""Architecture -> the kind of its head, if that is another architecture's: linear, tanh, linear."""

WITH_STOCK_CLASS = ("bert", "distilbert")
"""The kinds of last heads that `to_stock` converts."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with this project's names: its shape, its tensors, and their origin.

    The tensors are named as in `PackedEncoder`. The head of a stock checkpoint, if it has one, becomes the
    head after its last layer, and `stock_head` is its kind.
    """

    folder: Path
    shape: Shape
    tensors: Mapping[str, Tensor]
    stock_head: str | None = None


def read_checkpoint(folder: Path | str) -> Checkpoint:
    """Read a Hugging Face checkpoint, or a model that this project saved.

    Raises `EatError` for an architecture that is not supported, `DamagedFile` for a missing or broken file.
    """
    folder = Path(folder)
    config = read_config(folder)
    kind = config["model_type"]
    raw = {name: tensor for file in weight_files(folder) for name, tensor in read_tensors(file).items()}
    if kind == "eat":
        tensors = {name.removeprefix("encoder."): tensor for name, tensor in raw.items()}
        return Checkpoint(folder, Shape(**config["shape"]), tensors)
    raw = {_modern_name(name): tensor for name, tensor in raw.items()}
    shape = _shape(config)
    tensors = {}
    try:
        for ours, theirs in _EMBEDDINGS.items():
            if ours != "segment" or shape.token_types:
                tensors |= _module(raw, theirs, f"embeddings.{ours}")
        unused = unused_positions(config)
        tensors["embeddings.position.weight"] = tensors["embeddings.position.weight"][unused:].contiguous()
        if shape.embedding:
            tensors |= _module(raw, "embeddings_project", "embeddings.project")
        for index in range(shape.layers):
            tensors |= _layer(raw, kind, index)
    except KeyError as error:
        raise DamagedFile(f"{folder / 'model.safetensors'}: lacks the tensor {error}; fetch the model again") from None
    for ours, theirs in zip(("projection", "classifier"), _HEAD[kind], strict=True):
        if f"{theirs}.weight" in raw:
            tensors |= _module(raw, theirs, f"exit_heads.{shape.layers}.{ours}")
    return Checkpoint(folder, shape, tensors, stock_head=_HEAD_KIND.get(kind, kind))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises `DamagedFile` if it is missing, truncated or holds NaN."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise DamagedFile(f"{path}: no such file; {weights_remedy(path.parent)}")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedFile(f"{path}: not a whole safetensors file ({error}); delete it and make it again") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DamagedFile(f"{path}: {name} holds NaN or infinity; delete it and train again")
    return tensors


def load_encoder(encoder: PackedEncoder, checkpoint: Checkpoint, layers: Sequence[int]) -> list[str]:
    """Copy a checkpoint's weights into `encoder`, whose layer i becomes the checkpoint's layer `layers[i - 1]`.

    Heads are copied if all layers are, and from a stock checkpoint only for a last head of the same kind, since a
    pooler is useless for another classifier. A reducer's parameters are copied if they have the same shape.
    Returns the names of the parameters that are not in the checkpoint
    and keep their random initial values. Raises `EatError` if the shapes of the encoder differ.
    """
    fresh: list[str] = []
    whole = list(layers) == list(range(1, checkpoint.shape.layers + 1))
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            tensor = checkpoint.tensors.get(_source_name(name, layers))
            if name.startswith("exit_heads."):
                kind = encoder.exit_heads[name.split(".")[1]].kind
                fits = tensor is not None and tensor.shape == parameter.shape
                tensor = tensor if whole and fits and checkpoint.stock_head in (None, kind) else None
            if name.startswith("reducer.") and tensor is not None:
                tensor = tensor if whole and tensor.shape == parameter.shape else None
            if tensor is None:
                fresh.append(name)
            elif tensor.shape != parameter.shape:
                raise EatError(
                    f"{checkpoint.folder}: {name} has the shape {tuple(tensor.shape)}, "
                    f"but the model has {tuple(parameter.shape)}"
                )
            else:
                parameter.copy_(tensor)
    return fresh


def _source_name(name: str, layers: Sequence[int]) -> str:
    """The name in a checkpoint of a parameter of an encoder with these of its layers."""
    found = re.match(r"layers\.(\d+)\.(.*)", name)
    return f"layers.{layers[int(found[1])] - 1}.{found[2]}" if found else name


STOCK_ATTENTION = "sdpa"
"""The attention of the stock models: the fastest one of `transformers` on a CPU."""


def to_stock(encoder: PackedEncoder, labels: Sequence[str], attention: str = STOCK_ATTENTION) -> PreTrainedModel:
    """A dense model as the stock class of its last head: `BertFor...` or `DistilBertForSequenceClassification`.

    attention: `sdpa` or `eager`. The stock model is in evaluation mode, in float32. Raises `EatError` if the model
    is not dense, its last head has no stock class, or the class does not support the epsilon of its layer norms.
    """
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        DistilBertConfig,
        DistilBertForSequenceClassification,
    )

    shape = encoder.shape
    head = encoder.exit_heads[str(encoder.exits[-1])]
    kind = str(head.kind)
    if (
        encoder.pattern.window
        or encoder.reducer.after
        or kind not in WITH_STOCK_CLASS
        or shape.embedding
        or head.read != "cls"
    ):
        raise EatError(
            f"only a dense model with the last head bert or distilbert has a stock class; this one has the head {kind} "
            f"reading {head.read}, removals after layers [{listed(sorted(encoder.reducer.after))}], "
            f"{'window' if encoder.pattern.window else 'dense'} attention"
        )
    if kind == "distilbert" and shape.norm_epsilon != 1e-12:
        raise EatError(f"DistilBERT's class has the layer norm epsilon 1e-12; this model has {shape.norm_epsilon:g}")
    if shape.attention_width != shape.hidden:
        raise EatError(
            f"a stock class has attention heads that are together as wide as its layers; this model has {shape.heads} "
            f"of {shape.size_of_head} in layers of {shape.hidden}; use the full width"
        )
    names = dict(enumerate(labels))
    if kind == "bert":
        model = BertForSequenceClassification(
            BertConfig(
                vocab_size=shape.vocabulary, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads, intermediate_size=shape.intermediate, hidden_act=shape.activation,
                max_position_embeddings=shape.positions, type_vocab_size=max(shape.token_types, 1),
                layer_norm_eps=shape.norm_epsilon, id2label=names,
            )
        )  # fmt: skip
    else:
        model = DistilBertForSequenceClassification(
            DistilBertConfig(
                vocab_size=shape.vocabulary, dim=shape.hidden, n_layers=shape.layers, n_heads=shape.heads,
                hidden_dim=shape.intermediate, activation=shape.activation, id2label=names,
                max_position_embeddings=shape.positions,
            )
        )  # fmt: skip
    model.load_state_dict(_stock_tensors(encoder, kind, dict(model.state_dict())))
    model.set_attn_implementation(attention)
    return model.eval()


def _stock_tensors(encoder: PackedEncoder, kind: str, stock: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors under the stock names; segment 0, which the encoder may lack, is handled."""
    ours = encoder.state_dict()
    names = _LAYER[kind]
    result: dict[str, Tensor] = {}
    for part in ("token", "position", "segment", "norm"):
        for tensor_name in ("weight", "bias"):
            if f"embeddings.{part}.{tensor_name}" in ours:
                result[f"{kind}.{_EMBEDDINGS[part]}.{tensor_name}"] = ours[f"embeddings.{part}.{tensor_name}"]
    segment = f"{kind}.{_EMBEDDINGS['segment']}.weight"
    if kind == "distilbert" and segment in result:
        # a DistilBERT has no segments: the vector of segment 0 is added to the positions
        result[f"{kind}.{_EMBEDDINGS['position']}.weight"] = (
            result[f"{kind}.{_EMBEDDINGS['position']}.weight"] + result.pop(segment)[0]
        )
    elif kind == "bert" and segment not in result:
        result[segment] = torch.zeros_like(stock[segment])
    for index in range(encoder.shape.layers):
        prefix = f"{kind}.{names['prefix']}.{index}"
        for tensor_name in ("weight", "bias"):
            parts = ours[f"layers.{index}.qkv.{tensor_name}"].chunk(3)
            for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                result[f"{prefix}.{names[part]}.{tensor_name}"] = tensor
            for part in ("attention_output", "attention_norm", "up", "down", "output_norm"):
                result[f"{prefix}.{names[part]}.{tensor_name}"] = ours[f"layers.{index}.{part}.{tensor_name}"]
    projection = "bert.pooler.dense" if kind == "bert" else "pre_classifier"
    head = f"exit_heads.{encoder.exits[-1]}"
    for tensor_name in ("weight", "bias"):
        result[f"{projection}.{tensor_name}"] = ours[f"{head}.projection.{tensor_name}"]
        result[f"classifier.{tensor_name}"] = ours[f"{head}.classifier.{tensor_name}"]
    return result


def _shape(config: Mapping[str, Any]) -> Shape:
    sizes = sizes_of(config)
    activation = config.get("hidden_act") or config.get("activation") or "gelu"
    if activation not in ACTIVATIONS:
        raise EatError(f"a checkpoint with the activation {activation!r}; supported: {listed(ACTIVATIONS)}")
    dropout = config.get("hidden_dropout_prob", config.get("dropout", 0.1))
    return Shape(
        vocabulary=sizes.vocabulary,
        hidden=config.get("hidden_size", config.get("dim", 768)),
        layers=sizes.layers,
        heads=config.get("num_attention_heads", config.get("n_heads", 12)),
        intermediate=config.get("intermediate_size", config.get("hidden_dim", 3072)),
        positions=sizes.positions,
        token_types=sizes.token_types,
        classes=len(config["id2label"]) if "id2label" in config else 2,
        activation=activation,
        norm_epsilon=config.get("layer_norm_eps", 1e-12),
        dropout=dropout,
        attention_dropout=config.get("attention_probs_dropout_prob", config.get("attention_dropout", 0.1)),
        embedding=_narrow_embedding(config),
        head_dropout=config.get("seq_classif_dropout", config.get("classifier_dropout") or dropout),
    )


def _narrow_embedding(config: Mapping[str, Any]) -> int:
    """The width of the embeddings if it is not that of the layers (ELECTRA-small), else 0."""
    width = config.get("embedding_size", 0) if config["model_type"] == "electra" else 0
    return 0 if width == config.get("hidden_size") else int(width)


def _modern_name(name: str) -> str:
    """A tensor's name without the model's prefix, and with the current names of layer norms."""
    name = re.sub(rf"^({'|'.join(set(PREFIXES.values()))})\.", "", name)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _module(raw: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """The weight of a module, and its bias if it has one, under our name."""
    found = {f"{ours}.weight": raw[f"{theirs}.weight"]}
    if f"{theirs}.bias" in raw:
        found[f"{ours}.bias"] = raw[f"{theirs}.bias"]
    return found


def _layer(raw: Mapping[str, Tensor], kind: str, index: int) -> dict[str, Tensor]:
    """One layer's tensors under our names, with query, key and value fused."""
    names = _LAYER.get(kind, _LAYER["bert"])
    prefix = f"{names['prefix']}.{index}"
    found: dict[str, Tensor] = {}
    for tensor_name in ("weight", "bias"):
        parts = [raw[f"{prefix}.{names[part]}.{tensor_name}"] for part in ("query", "key", "value")]
        found[f"layers.{index}.qkv.{tensor_name}"] = torch.cat(parts)
    for part in ("attention_output", "attention_norm", "up", "down", "output_norm"):
        found |= _module(raw, f"{prefix}.{names[part]}", f"layers.{index}.{part}")
    return found
