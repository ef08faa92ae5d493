"""The initial model of a stage: its weights, and which of them are trained."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from eat.errors import EatError, listed
from eat.model.configuration import EatConfig
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.reducers.policy import PolicyReducer
from eat.model.tokenizer import encode, load_tokenizer, require_embeddings
from eat.model.weights import load_encoder, read_checkpoint
from eat.study.depths import chosen_layers
from eat.study.recipes import Stage
from eat.study.specs.finetune import TrainingSpec


def build_model(
    spec: TrainingSpec, parent: Path, labels: list[str], pairs: bool = False
) -> EatForSequenceClassification:
    """The model of a stage, with the weights of `parent` wherever they fit and a seeded random start elsewhere.

    pairs: whether it must support pairs of texts. Raises `EatError` if the parent does not support such texts, or does
    not have the layers that the stage uses.
    """
    checkpoint = read_checkpoint(parent)
    layers = chosen_layers(spec.layers, checkpoint.shape.layers)
    tokenizer = load_tokenizer(parent)
    require_embeddings(tokenizer, parent, checkpoint.shape, spec.max_length, pairs)
    separator = int(encode(tokenizer, [""], None, spec.max_length)[0].ids[-1])
    given = spec.training.attention_dropout
    shape = replace(
        checkpoint.shape,
        layers=len(layers),
        classes=len(labels),
        separator=separator,
        attention_dropout=checkpoint.shape.attention_dropout if given is None else given,
    )
    model = EatForSequenceClassification(
        EatConfig(
            shape=asdict(shape),
            reducer=spec.reducer.plain(),
            attention=spec.attention.plain(),
            exits=spec.exits.after,
            read=spec.exits.read,
            head=spec.exits.head,
            last_head=spec.last_head,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
        )
    )
    fresh = load_encoder(model.encoder, checkpoint, layers)
    missing = [parameter for parameter in fresh if not parameter.startswith(("exit_heads.", "reducer."))]
    if missing:
        raise EatError(f"{parent}: lacks {listed(missing[:3])}; the encoder would start from random weights")
    return model


def set_trainable(model: EatForSequenceClassification, stage: Stage) -> None:
    """Freeze everything except the stage's heads or its policy, if it trains these alone; set what reaches the layers.

    A reducer is trained only in a stage with `removal: soft`.
    """
    if stage.train_heads is not None:
        model.requires_grad_(False)
        for depth in stage.train_heads:
            model.encoder.head(depth).requires_grad_(True)
    model.encoder.gradients = stage.gradients
    model.encoder.layer_drop = stage.layer_drop
    soft = stage.removal == "soft"
    if stage.policy is not None:
        assert isinstance(model.encoder.reducer, PolicyReducer)
        model.encoder.reducer.imitates = stage.policy.keep if stage.policy.by == "imitation" else None
        if stage.trains_policy_alone:
            model.requires_grad_(False)
    model.encoder.reducer.soften(soft)
    model.encoder.reducer.requires_grad_(soft)
