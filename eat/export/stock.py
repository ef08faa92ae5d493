"""A fine-tuned classifier of `transformers` as a dense model of this project."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from eat.errors import EatError, listed
from eat.model.checkpoints import read_config
from eat.model.configuration import EatConfig
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.weights import load_encoder, read_checkpoint


def load_stock(folder: Path) -> EatForSequenceClassification:
    """Read a stock model for sequence classification that `save_pretrained` wrote; in evaluation mode.

    It has dense attention, all tokens, and one head, that of the checkpoint. Raises `EatError` if it is no classifier
    of single labels, `DamagedFile` if a file is missing or broken.
    """
    config = read_config(folder)
    classes = config.get("architectures") or []
    if classes and not any(str(name).endswith("ForSequenceClassification") for name in classes):
        raise EatError(
            f"{folder}: its class is {listed(classes)}, which has no head for classes; fine-tune it as a "
            "...ForSequenceClassification, or by a study"
        )
    checkpoint = read_checkpoint(folder)
    labels = _labels(folder, config)
    shape = replace(checkpoint.shape, classes=len(labels))
    model = EatForSequenceClassification(
        EatConfig(
            shape=asdict(shape),
            last_head=str(checkpoint.stock_head),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type=config.get("problem_type"),
        )
    )
    fresh = load_encoder(model.encoder, checkpoint, range(1, shape.layers + 1))
    if fresh:
        raise EatError(
            f"{folder}: lacks {listed(fresh[:3])}; its head does not fit {len(labels)} classes, or it was never trained"
        )
    model.eval()
    return model


def _labels(folder: Path, config: dict[str, Any]) -> list[str]:
    """The names of the classes, by number. Raises `EatError` if a number is missing."""
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    try:
        return [str(names[str(number)]) for number in range(len(names))]
    except (KeyError, TypeError):
        raise EatError(f"{folder}: id2label in config.json is {names!r}; give a name for each class from 0") from None
