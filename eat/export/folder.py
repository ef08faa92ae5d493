"""An export: a folder with `model.onnx`, `tokenizer.json`, `manifest.json` and a card, written whole or not at all.

The model answers a text before the folder gets its name. `eat.runtime` runs it; `docs/export.md` describes the files.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

from eat.errors import EatError
from eat.export.card import model_card
from eat.export.source import ExportOptions, Source, find_source
from eat.files import MEGABYTE, replacing_folder, sha256_of, write_json, write_text
from eat.machine import versions
from eat.model.encoder_onnx import operating_graph, products_of
from eat.model.exit_rules_onnx import needs_thresholds
from eat.model.graph_onnx import OPSET
from eat.model.tokenizer import load_tokenizer, require_embeddings
from eat.progress import Progress
from eat.runtime.classifier import AdaptiveClassifier
from eat.runtime.manifest import FORMAT, MANIFEST, MODEL, TOKENIZER, read_manifest

CARD = "README.md"
PACKAGES = ("eat-study", "onnx", "onnxruntime", "tokenizers", "torch", "transformers")
TRIED = "A text that the exported model must answer."


def export(options: ExportOptions) -> str:
    """Export a model, and return a line that says what was written.

    Raises `EatError` if the target holds something else, as `find_source` does, or if a part has no ONNX form.
    """
    check_target(options.to)
    source = find_source(options)
    tokenizer = load_tokenizer(options.model)
    shape = source.model.encoder.shape
    require_embeddings(tokenizer, options.model, shape, source.max_length, pairs=False)
    labels = source.labels
    if len(set(labels)) < len(labels):
        raise EatError(f"{options.model}: two classes have the same name ({labels}); change id2label in config.json")
    with Progress(f"exporting {options.model}"):
        content = _model_bytes(source, options.precision)
        with replacing_folder(options.to) as folder:
            (folder / MODEL).write_bytes(content)
            write_text(folder / TOKENIZER, tokenizer.to_str())
            manifest = _manifest(source, options, _takes_pairs(tokenizer, options.model, source))
            write_text(folder / CARD, model_card(manifest, len(content)))
            manifest["files"] = {
                name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
                for name in (MODEL, TOKENIZER, CARD)
            }
            write_json(folder / MANIFEST, manifest)
            AdaptiveClassifier.load(folder, threads=1)([TRIED])
    point = manifest["operating_point"]
    early = f"{'+'.join(point['rule'])}, tau {point['tau']}" if source.policy.may_exit else "no early exits"
    return f"Written to {options.to}: {len(content) / MEGABYTE:.1f} MiB, {options.precision}, {early}."


def check_target(to: Path) -> None:
    """Refuse a folder whose content an export would replace, unless it is an export.

    Raises `EatError` if `to` is a file, below a file, or a folder with other content.
    """
    if not to.exists():
        above = next(parent for parent in to.absolute().parents if parent.exists())
        if not above.is_dir():
            raise EatError(f"{to}: {above} is a file; give another folder with --to")
        return
    if not to.is_dir():
        raise EatError(f"{to}: is a file; give a folder with --to")
    known = {MODEL, TOKENIZER, CARD, MANIFEST}
    found = {path.name for path in to.iterdir()}
    if not found:
        return
    try:
        read_manifest(to)
    except EatError:
        found |= {""}
    if found - known:
        raise EatError(f"{to}: contains other files than an export; give another folder with --to")


def _model_bytes(source: Source, precision: str) -> bytes:
    """The model as a file, equal for equal models. Raises `EatError` if a part has no ONNX form."""
    encoder = source.model.encoder
    model: onnx.ModelProto = operating_graph(encoder, source.policy, products_of(encoder, precision))
    return bytes(model.SerializeToString(deterministic=True))


def _takes_pairs(tokenizer: Any, folder: Path, source: Source) -> bool:
    """Whether the model takes pairs of texts."""
    try:
        require_embeddings(tokenizer, folder, source.model.encoder.shape, source.max_length, pairs=True)
    except EatError:
        return False
    return True


def _manifest(source: Source, options: ExportOptions, pairs: bool) -> dict[str, Any]:
    """The content of `manifest.json` but `files`."""
    encoder, policy, row = source.model.encoder, source.policy, source.row
    exits = list(source.model.config.exits)
    temperatures = {str(depth): policy.temperatures.get(depth, 1.0) for depth in exits}
    study = measured = None
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
        # in float32, engines differ by rounding; in another precision, answers differ
        same_engine = parts.engine == "onnx" or options.precision == "float32"
        same_answers = parts.precision == options.precision and same_engine
        measured = row if same_answers else None
    is_timed = measured is not None and measured.parts.engine == "onnx"
    return {
        "format": FORMAT,
        "name": source.name,
        "labels": source.labels,
        "max_length": source.max_length,
        "positions": encoder.shape.positions,
        "pairs": pairs,
        "layers": encoder.shape.layers,
        "exits": exits,
        "has_thresholds": policy.may_exit and needs_thresholds(policy.rule),
        "operating_point": {
            "rule": list(policy.rule) if policy.may_exit else [],
            "tau": policy.tau,
            "patience": policy.patience,
            "temperatures": temperatures,
            "origin": source.origin,
        },
        "promised": measured.promised(policy) if measured else None,
        "accuracy": measured.accuracy(policy) if measured else None,
        "speed": measured.speed(policy) if measured and is_timed else None,
        "engine": {"name": "onnx", "precision": options.precision, "opset": OPSET},
        "study": study,
        "weights": [sha256_of(folder / "model.safetensors") for folder in source.folders],
        "versions": versions(PACKAGES),
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }
