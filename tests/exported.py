"""Tiny exported models for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny

from eat.export.folder import export
from eat.export.source import ExportOptions

LABELS = ["negative", "positive"]


def saved_model(
    folder: Path, labels: list[str] | None = None, point: dict[str, Any] | None = None, **parts: Any
) -> Any:
    """Save a random model with its tokenizer into `folder`; point: of `set_operating_point`. Returns the model."""
    names = labels or LABELS
    model = tiny.model(classes=len(names), **parts)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    if point is not None:
        model.set_operating_point(**point)
    model.save_pretrained(folder)
    tiny.save_tokenizer(folder)
    return model


def exported(folder: Path, precision: str = "float32", tau: float | None = None, **model: Any) -> Any:
    """Save a random model into `folder/model` and export it to `folder/out`; returns the model."""
    built = saved_model(folder / "model", **model)
    export(ExportOptions(folder / "model", folder / "out", precision, tau))
    return built
