"""The card that a model takes along to the hub: that of its folder, as long as it is the model that it describes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from torch import Tensor

from eat.files import read_json
from eat.model.checkpoints import weight_files
from eat.model.weights import read_tensors
from eat.progress import warn

CARD = "README.md"


def keep_card(loaded_from: Path, saved: Path) -> None:
    """Put the card of the folder that a model was loaded from in the place of the general one of `transformers`.

    saved: the folder that is uploaded, with the model as it is now and a general card, whose tags are kept. If the
    model has other weights, parts, labels or another operating point than when it was loaded, the figures of the card
    are not its own: the general card stays, and a warning says so.
    """
    card = loaded_from / CARD
    if not card.is_file() or saved.resolve() == loaded_from.resolve():
        return
    if not _is_same_model(loaded_from, saved):
        warn(f"{card} is not uploaded: the model is no longer the one that it describes")
        return
    general = ModelCard.load(saved / CARD).data.tags or []
    own = ModelCard.load(card)
    if missing := [tag for tag in general if tag not in (own.data.tags or [])]:
        own.data.tags = [*(own.data.tags or []), *missing]
        own.save(saved / CARD)
    else:
        shutil.copyfile(card, saved / CARD)


def _is_same_model(first: Path, second: Path) -> bool:
    """Whether two folders hold the same configuration and the same weights, in one file or several."""
    if _settings(first) != _settings(second):
        return False
    one, other = (_tensors(folder) for folder in (first, second))
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]) for name, tensor in one.items()
    )


def _tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in weight_files(folder) for name, tensor in read_tensors(file).items()}


def _settings(folder: Path) -> dict[str, Any]:
    """The configuration, without the version that wrote it."""
    found: dict[str, Any] = read_json(folder / "config.json")
    found.pop("transformers_version", None)
    return found
