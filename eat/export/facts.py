"""What is known of an exported model: the content of `manifest.json`, from which the card is made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eat.errors import EatError
from eat.export.source import Source
from eat.export.study_row import StudyRow
from eat.files import sha256_of
from eat.machine import versions
from eat.model.checkpoints import weight_files
from eat.model.exit_rules_onnx import needs_thresholds
from eat.model.graph_onnx import OPSET
from eat.model.tokenizer import require_embeddings
from eat.runtime.manifest import FORMAT

PACKAGES = ("eat-study", "onnx", "onnxruntime", "tokenizers", "torch", "transformers")


def takes_pairs(tokenizer: Any, folder: Path, source: Source) -> bool:
    """Whether the model takes pairs of texts."""
    try:
        require_embeddings(tokenizer, folder, source.model.encoder.shape, source.max_length, pairs=True)
    except EatError:
        return False
    return True


def measured_row(source: Source, precision: str) -> StudyRow | None:
    """The study's row if what it measured is what is exported in this precision; else `None`.

    In float32, engines differ by rounding; in another precision, answers differ.
    """
    row = source.row
    if row is None:
        return None
    same_engine = row.parts.engine == "onnx" or precision == "float32"
    return row if row.parts.precision == precision and same_engine else None


def facts_of(source: Source, engine: str, precision: str, pairs: bool) -> dict[str, Any]:
    """The content of `manifest.json` but `files`. engine: what runs the folder, `onnx` or `transformers`."""
    encoder, policy, row = source.model.encoder, source.policy, source.row
    measured = measured_row(source, precision)
    exits = list(source.model.config.exits)
    temperatures = {str(depth): policy.temperatures.get(depth, 1.0) for depth in exits}
    study = None
    if row is not None:
        parts = row.parts
        study = {
            "name": row.study.study,
            "task": row.place.task,
            "system": row.system,
            "seed": row.place.seed,
            "engine": parts.engine,
            "precision": parts.precision,
        }
    is_timed = measured is not None and engine == measured.parts.engine == "onnx"
    return {
        "format": FORMAT,
        "name": source.name,
        "labels": source.labels,
        "max_length": source.max_length,
        "positions": encoder.shape.positions,
        "pairs": pairs,
        "texts": None if row is None else row.texts,
        "layers": encoder.shape.layers,
        "exits": exits,
        "has_thresholds": policy.may_exit and needs_thresholds(policy.rule),
        "operating_point": {
            "rule": list(policy.rule) if policy.may_exit else [],
            "tau": policy.as_point()["tau"],
            "patience": policy.patience,
            "temperatures": temperatures,
            "origin": source.origin,
        },
        "promised": measured.promised(policy) if measured else None,
        "accuracy": measured.accuracy(policy) if measured else None,
        "speed": measured.speed(policy) if measured and is_timed else None,
        "engine": {"name": engine, "precision": precision} | ({"opset": OPSET} if engine == "onnx" else {}),
        "study": study,
        "adapted": None,
        "weights": [sha256_of(file) for folder in source.folders for file in weight_files(folder)],
        "versions": versions(PACKAGES),
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }
