"""The model that is adapted: a fine-tuned classifier at full depth, and the same with fresh heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from eat.errors import EatError
from eat.export.given import require_folder_or_name
from eat.export.stock import load_stock
from eat.model.checkpoints import STOCK, read_config
from eat.model.heads import ExitHead
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.prepare.hub_files import hub_model

READ, HEAD = "mean", "mlp"
"""Of the heads. [CLS], mean and maximum together were no better, and three times as wide."""


def model_folder(model: str, revision: str | None) -> Path:
    """The folder of a model: a local one, or one of the hub's cache, into which it is fetched.

    Raises `EatError` if there is neither.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise EatError(f"--revision: {model} is a local folder; leave it out")
        return folder
    require_folder_or_name(model)
    return hub_model(model, revision)


def load_given(folder: Path) -> EatForSequenceClassification:
    """The given model at full depth: one head, no early exit. Raises `EatError` if it is no classifier."""
    config = read_config(folder)
    if config["model_type"] in STOCK:
        return load_stock(folder)
    model = load_model(folder)
    last = model.config.num_hidden_layers
    head = model.encoder.head(last)
    model.encoder.exit_heads = torch.nn.ModuleDict({str(last): head})
    model.config.exits, model.config.operating_point = [last], {}
    return model


def with_fresh_heads(model: EatForSequenceClassification, depths: Sequence[int], seed: int) -> dict[int, ExitHead]:
    """Add heads of random weights after these layers, in place, and return them."""
    encoder = model.encoder
    torch.manual_seed(seed)
    heads = {depth: ExitHead(encoder.shape.hidden, encoder.shape.classes, HEAD, READ).eval() for depth in depths}
    keep_heads(model, heads)
    return heads


def keep_heads(model: EatForSequenceClassification, heads: dict[int, ExitHead]) -> None:
    """Replace the heads before the last by these, in place."""
    last = model.config.num_hidden_layers
    by_layer = {**heads, last: model.encoder.head(last)}
    model.encoder.exit_heads = torch.nn.ModuleDict({str(depth): by_layer[depth] for depth in sorted(by_layer)})
    model.config.exits = sorted(by_layer)
    model.config.read, model.config.head = READ, HEAD
