"""An export: a folder with `model.onnx`, `tokenizer.json`, `manifest.json` and a card, written whole or not at all.

The model answers a text before the folder gets its name. `eat.runtime` runs it; `docs/export.md` describes the files.
The format `transformers` is in `eat.export.hub_folder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from eat.errors import EatError
from eat.export.card import CARD, model_card
from eat.export.evidence import evidence_of
from eat.export.facts import facts_of, takes_pairs
from eat.export.hub_folder import check_new_folder, write_hub_folder
from eat.export.source import ExportOptions, Source, find_source, require_distinct_labels
from eat.files import MEGABYTE, replacing_folder, require_place, sha256_of, write_json, write_text
from eat.model.encoder_onnx import operating_graph, products_of
from eat.model.products_onnx import Products
from eat.model.tokenizer import load_tokenizer, require_embeddings
from eat.progress import Progress
from eat.runtime.classifier import AdaptiveClassifier
from eat.runtime.manifest import MANIFEST, MODEL, PROFILE, TOKENIZER, read_manifest

TRIED = "A text that the exported model must answer."


def export(options: ExportOptions) -> str:
    """Export a model, and return a line that says what was written.

    Raises `EatError` if the target holds something else, as `find_source` does, or if a part has no ONNX form.
    """
    for_transformers = options.format == "transformers"
    (check_new_folder if for_transformers else check_target)(options.to)
    source = find_source(options)
    shape = source.model.encoder.shape
    tokenizer = load_tokenizer(options.model)
    require_embeddings(tokenizer, options.model, shape, source.max_length, pairs=False)
    require_distinct_labels(source.model, options.model)
    with Progress(f"exporting {options.model}"):
        if for_transformers:
            size = write_hub_folder(source, options.model, options.to)
        else:
            content = model_bytes(source, products_of(source.model.encoder, options.precision))
            write_export(source, content, options.model, options.to, options.precision)
            size = len(content)
    point = source.policy
    early = f"{'+'.join(point.rule)}, tau {point.tau}" if source.policy.may_exit else "no early exits"
    return f"Written to {options.to}: {size / MEGABYTE:.1f} MiB, {options.precision}, {early}."


def write_export(
    source: Source,
    content: bytes,
    tokenizer_folder: Path,
    to: Path,
    precision: str,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write an export, whole or not at all. Its model answers a text before the folder gets its name.

    content: of model.onnx. tokenizer_folder: with the tokenizer. about: keys of the manifest that replace those that
    the source gives. Raises `EatError` if the model cannot be run.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    with replacing_folder(to) as folder:
        (folder / MODEL).write_bytes(content)
        write_text(folder / TOKENIZER, tokenizer.to_str())
        manifest = facts_of(source, "onnx", precision, takes_pairs(tokenizer, tokenizer_folder, source))
        manifest |= about or {}
        write_text(folder / CARD, model_card(manifest, len(content), evidence_of(source, precision)))
        manifest["files"] = {
            name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
            for name in (MODEL, TOKENIZER, CARD)
        }
        write_json(folder / MANIFEST, manifest)
        AdaptiveClassifier.load(folder, threads=1)([TRIED])


def check_target(to: Path) -> None:
    """Refuse a folder whose content an export would replace, unless it is an export.

    Raises `EatError` if `to` is a file, below a file, or a folder with other content.
    """
    if not to.exists():
        require_place(to)
        return
    if not to.is_dir():
        raise EatError(f"{to}: is a file; give a folder with --to")
    known = {MODEL, TOKENIZER, CARD, MANIFEST, PROFILE}
    found = {path.name for path in to.iterdir()}
    if not found:
        return
    try:
        read_manifest(to)
    except EatError:
        found |= {""}
    if found - known:
        raise EatError(f"{to}: contains other files than an export; give another folder with --to")


def model_bytes(source: Source, products: Products) -> bytes:
    """The model as a file, equal for equal models. Raises `EatError` if a part has no ONNX form."""
    model: onnx.ModelProto = operating_graph(source.model.encoder, source.policy, products)
    return bytes(model.SerializeToString(deterministic=True))
