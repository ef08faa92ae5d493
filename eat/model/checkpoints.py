"""Facts about a model from the folder of its checkpoint, without reading weights and without PyTorch.

So an unsuitable checkpoint is refused when a study is checked or its files are fetched, before training begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eat.errors import DamagedFile, EatError, listed

STOCK = ("bert", "distilbert", "roberta", "xlm-roberta", "electra")
"""The stock architectures. MiniLM checkpoints have the type `bert`, those of several languages `xlm-roberta`."""

PADDING_FIRST = ("roberta", "xlm-roberta")
"""Architectures whose table of positions begins with rows for padding: a text's first token has the position
padding + 1."""

PREFIXES = {kind: kind.removeprefix("xlm-") for kind in STOCK}
"""Architecture -> the first part of its tensors' names."""

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"

SUPPORTED = (*STOCK, "eat")
"""Values of `model_type` whose weights can be read."""


class Sizes(NamedTuple):
    """The layers of a stock model, and the rows of its embedding tables; `token_types` is 0 if it has no segments.

    The names are those of `eat.model.shape.Shape`.
    """

    layers: int
    vocabulary: int
    positions: int
    token_types: int


def read_config(folder: Path, supported: Sequence[str] = SUPPORTED) -> dict[str, Any]:
    """Read `config.json` of a checkpoint.

    Raises `EatError` if there is none or its architecture is not supported, `DamagedFile` if it is
    not a complete JSON file.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EatError(f"{folder}: no config.json; give a folder that `save_pretrained` wrote") from None
    except ValueError as error:
        raise DamagedFile(f"{path}: not a whole JSON file ({error}); fetch the model again") from None
    if not isinstance(config, dict):
        raise DamagedFile(f"{path}: holds {type(config).__name__}, not a mapping of keys; fetch the model again")
    found = config.get("model_type")
    if found is None:
        raise EatError(f"{path}: no model_type; {_missing_type(config, supported)}")
    if found not in supported:
        raise EatError(f"{folder}: model_type is {found!r}; allowed: {listed(supported)}; take another checkpoint")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise EatError(f"{folder}: {config['position_embedding_type']} positions; only absolute ones are supported")
    if found in STOCK:
        for name, size in sizes_of(config)._asdict().items():
            if not isinstance(size, int):
                raise DamagedFile(f"{path}: the number of {name} is {size!r}; fetch the model again")
    return config


def _missing_type(config: Mapping[str, Any], supported: Sequence[str]) -> str:
    """The remedy for a configuration without `model_type`; many contain the name of their class."""
    classes = config.get("architectures") or []
    for name in classes:
        for kind in supported:
            if re.match(f"{kind.replace('-', '')}(for|model)", str(name).lower()):
                return f'its class is {name}: add "model_type": "{kind}" to the file'
    if classes:
        return f"its class is {listed(classes)}; allowed: {listed(supported)}; take another checkpoint"
    return f'if it is one of {listed(supported)}, add that, such as "model_type": "{supported[0]}"; MiniLM is a bert'


def sizes_of(config: Mapping[str, Any]) -> Sizes:
    """The sizes in a stock model's configuration, with the defaults of its class."""
    distilled = config["model_type"] == "distilbert"
    positions = config.get("max_position_embeddings", 512)
    if isinstance(positions, int):
        positions -= unused_positions(config)
    return Sizes(
        layers=config.get("num_hidden_layers", config.get("n_layers", 6 if distilled else 12)),
        vocabulary=config.get("vocab_size", 30522),
        positions=positions,
        token_types=0 if distilled else config.get("type_vocab_size", 2),
    )


def unused_positions(config: Mapping[str, Any]) -> int:
    """The first rows of the table of positions that no token of a text uses."""
    padding = config.get("pad_token_id")
    return (1 if padding is None else int(padding)) + 1 if config["model_type"] in PADDING_FIRST else 0


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: one, or those that an index names.

    Raises `DamagedFile` if there is neither, the index is broken, or a file is missing.
    """
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file() or not index.is_file():
        if not whole.is_file():
            raise DamagedFile(f"{whole}: no such file; {weights_remedy(folder)}")
        return [whole]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedFile(f"{index}: not a whole index of weights ({error}); fetch the model again") from None
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        raise DamagedFile(f"{index}: names {listed(missing) or 'no file'}, which is missing; fetch the model again")
    return [folder / name for name in names]


def require_tables(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a safetensors file whose embedding tables do not match the configuration.

    Only the file's header is read. Raises `DamagedFile` if it is not complete, `EatError` if a table is missing or
    has a different number of rows.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:  # checks that the file is as long as its header says
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118, not a mapping
    except SafetensorError as error:
        raise DamagedFile(f"{path}: not a whole safetensors file ({error}); copy it again") from None
    sizes = sizes_of(config)
    stated = (
        ("word", "vocab_size", sizes.vocabulary),
        ("position", "max_position_embeddings", sizes.positions + unused_positions(config)),
        ("token_type", "type_vocab_size", sizes.token_types),
    )
    for table, key, rows in stated:
        name = f"embeddings.{table}_embeddings.weight"
        shape = shapes.get(name, shapes.get(f"{PREFIXES[config['model_type']]}.{name}"))
        found = "no such table" if shape is None else f"{shape[0]} rows"
        if rows and found != f"{rows} rows":
            raise EatError(
                f"{path}: {name}: {found}, but {key} in config.json is {rows}; take both files of one checkpoint"
            )


def weights_remedy(folder: Path) -> str:
    """The remedy for a folder without `model.safetensors`."""
    if (folder / INDEX).is_file():
        return "the weights are in several files: save the model with save_pretrained(folder, max_shard_size='100GB')"
    if (folder / "pytorch_model.bin").is_file():
        return "pytorch_model.bin is not opened because it can run code: convert it to safetensors"
    return "only safetensors files are read; convert other weights first"
