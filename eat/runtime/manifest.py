"""The description of an exported model, and its files, read with a check.

`eat.export` writes `manifest.json`. The runner reads only what it needs; `docs/export.md` describes all keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eat.errors import DamagedFile, EatError

FORMAT = 1
"""The version of the files of an export. It rises when an older runner would misread them."""

MANIFEST, MODEL, TOKENIZER = "manifest.json", "model.onnx", "tokenizer.json"

PROFILE = "profile.json"
"""The reference profile of `eat monitor`; an export may have one."""


@dataclass(frozen=True)
class Manifest:
    """What the runner needs to know of an exported model.

    labels: the names of the classes, in their order. exits: the layers with a head, ascending; the last is the number
    of layers. rule: the names of the exit rules, which must all hold; empty if no text exits early. has_thresholds:
    whether the model has the input `thresholds`. max_length: the tokens after which a text is truncated. positions:
    the most tokens the model can take. pairs: whether it takes pairs of texts. texts: those of an example in training,
    1 or 2; `None` if it is not known. digests: name of a file -> its sha256.
    """

    folder: Path
    labels: tuple[str, ...]
    exits: tuple[int, ...]
    rule: tuple[str, ...]
    has_thresholds: bool
    max_length: int
    positions: int
    pairs: bool
    texts: int | None
    digests: Mapping[str, str]

    def content(self, name: str) -> bytes:
        """The bytes of a file of the export. Raises `DamagedFile` if it is missing or its sha256 is another."""
        path = self.folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DamagedFile(f"{path}: cannot be read ({error.strerror}); export the model again") from None
        found = hashlib.sha256(content).hexdigest()
        if found != self.digests[name]:
            raise DamagedFile(
                f"{path}: has {len(content)} bytes with the sha256 {found[:12]}..., but {MANIFEST} states "
                f"{self.digests[name][:12]}...; copy all files of one export again"
            )
        return content


def read_manifest(folder: Path | str) -> Manifest:
    """Read `manifest.json` of an export.

    Raises `EatError` if the folder holds no export or one of a newer format, `DamagedFile` if the file is not whole.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        if (folder / "config.json").is_file():
            raise EatError(
                f"{folder}: a model that is not exported (config.json, but no {MANIFEST}); export it: "
                f"eat export {folder} --to FOLDER"
            ) from None
        raise EatError(f"{folder}: no {MANIFEST}; give a folder that `eat export` wrote") from None
    except ValueError as error:
        raise DamagedFile(f"{path}: not a whole JSON file ({error}); export the model again") from None
    version = content.get("format") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DamagedFile(f"{path}: the format is {version!r}, not a number from 1 on; export the model again")
    if version > FORMAT:
        raise EatError(
            f"{folder}: the format of this export is {version}, and this version reads formats up to {FORMAT}; "
            "update it: pip install --upgrade eat-study"
        )
    try:
        return _manifest(folder, content)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise DamagedFile(f"{path}: {reason}; export the model again") from None


def _manifest(folder: Path, content: Mapping[str, Any]) -> Manifest:
    """The parsed content. Raises `KeyError`, `TypeError` or `ValueError` for one that `eat.export` never writes."""
    point = content["operating_point"]
    found = Manifest(
        folder=folder,
        labels=tuple(str(label) for label in content["labels"]),
        exits=tuple(int(depth) for depth in content["exits"]),
        rule=tuple(str(name) for name in point["rule"]),
        has_thresholds=bool(content["has_thresholds"]),
        max_length=int(content["max_length"]),
        positions=int(content["positions"]),
        pairs=bool(content["pairs"]),
        texts=None if content.get("texts") is None else int(content["texts"]),
        digests={name: str(content["files"][name]["sha256"]) for name in (MODEL, TOKENIZER)},
    )
    if len(found.labels) < 2 or not found.exits or not 0 < found.max_length <= found.positions:
        raise ValueError(
            f"{len(found.labels)} labels, {len(found.exits)} exits, max_length {found.max_length} of "
            f"{found.positions} positions"
        )
    return found
