"""The systems of `eat bench` in one table, and how each is built.

All have the shape of MiniLM (d 384, 12 heads, 1,536) and, where the architecture is the same, the same random weights:
a parameter's numbers depend on its name alone, so that the layers of a 6-layer model are the first of a 12-layer one,
and an exit head changes nothing else.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from eat.encoder import Shape
from eat.errors import EatError, listed
from eat.exits import ExitPolicy
from eat.precision import prepare, prepare_stock
from eat.weights import to_stock

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from eat.model import EatForSequenceClassification

MINILM = Shape(hidden=384, heads=12, intermediate=1536)
"""The shape of all-MiniLM-L6-v2; the number of layers is the system's."""

REFERENCE = "hf-sdpa-6"
"""Whom all others are compared with: stock `transformers` with its fastest attention."""

AGAIN = "hf-sdpa-6-again"
"""The same system built a second time (A/A): what differs from 1 is noise."""

PRUNED: dict[str, Any] = {"kind": "norm", "after": [2, 4], "ratio": 0.3, "protect": ["cls"]}
WINDOW: dict[str, Any] = {"kind": "window", "left": 16, "right": 16}
EXIT_AFTER = 4
"""The paper's parts: norm pruning, window attention with a global [CLS], one early exit."""

SAME = 1e-4
"""How far the logits of systems that compute the same function may lie apart."""


@dataclass(frozen=True)
class System:
    """One row of the bench.

    engine: stock `transformers`, our packed encoder, or ONNX Runtime. attention: `sdpa` or `eager` (stock), `dense`,
    `window`, or the window computed in one way only, `band` or `blocks` (packed). exits: whether there is an early
    exit, and who leaves there. equals: the system whose logits it must give. stock: the stock system of its own depth
    and precision. folder: a trained model, in place of random weights.
    """

    name: str
    engine: Literal["stock", "packed", "onnx"]
    layers: int = 6
    precision: str = "float32"
    attention: Literal["sdpa", "eager", "dense", "window", "band", "blocks"] = "sdpa"
    pruned: bool = False
    exits: Literal["none", "nobody leaves", "all leave"] = "none"
    equals: str | None = None
    stock: str = REFERENCE
    folder: str | None = None


def _table(*rows: System) -> dict[str, System]:
    return {row.name: row for row in rows}


SYSTEMS: dict[str, System] = _table(
    System(REFERENCE, "stock"),
    System(AGAIN, "stock", equals=REFERENCE),
    System("hf-eager-6", "stock", attention="eager", equals=REFERENCE),
    System("hf-sdpa-12", "stock", layers=12, stock="hf-sdpa-12"),
    System("hf-bfloat16-6", "stock", precision="bfloat16", stock="hf-bfloat16-6"),
    System("hf-int8-6", "stock", precision="int8", stock="hf-int8-6"),
    System("ort-6", "onnx", equals=REFERENCE),
    System("ort-int8-6", "onnx", precision="int8", stock="hf-int8-6"),
    System("packed-6", "packed", attention="dense", equals=REFERENCE),
    System("packed-12", "packed", layers=12, attention="dense", equals="hf-sdpa-12", stock="hf-sdpa-12"),
    System("packed-bfloat16-6", "packed", precision="bfloat16", attention="dense", stock="hf-bfloat16-6"),
    System("packed-int8-6", "packed", precision="int8", attention="dense", stock="hf-int8-6"),
    System("eat-6", "packed", attention="window", pruned=True, exits="nobody leaves"),
    System("eat-6-all-leave", "packed", attention="window", pruned=True, exits="all leave"),
)
"""The rows of `eat bench engine`. `eat-6` evaluates its exit and nobody leaves, `eat-6-all-leave` is the other end."""

GROWTH_SYSTEMS: dict[str, System] = _table(
    System(REFERENCE, "stock"),
    System("dense", "packed", attention="dense", equals=REFERENCE),
    System("window", "packed", attention="window"),
    System("window-band", "packed", attention="band", equals="window"),
    System("window-blocks", "packed", attention="blocks", equals="window"),
    System("eat", "packed", attention="window", pruned=True, exits="nobody leaves"),
    System("eat-all-leave", "packed", attention="window", pruned=True, exits="all leave"),
)
"""The rows of `eat bench growth`."""


def chosen(names: Sequence[str] | None, table: dict[str, System]) -> list[System]:
    """The systems of these names (all, for `None`), with those they are compared with, in the table's order.

    Raises `EatError` for an unknown name.
    """
    unknown = [name for name in names or () if name not in table]
    if unknown:
        raise EatError(f"unknown system {listed(unknown)}; known: {listed(table)}")
    wanted = {*(table if names is None else names), *(name for name in (REFERENCE, AGAIN) if name in table)}
    for name in list(wanted):
        wanted |= {other for other in (table[name].equals, table[name].stock) if other is not None}
    return [row for name, row in table.items() if name in wanted]


def of_folder(folder: Path, taken: Sequence[str]) -> list[System]:
    """A trained model at its saved operating point, and in bfloat16; before them its stock export, if it has one.

    taken: names that are in use. Raises `EatError` where the folder holds no model of ours.
    """
    model = _load(str(folder))
    name = folder.resolve().name
    while name in taken:
        name += "-trained"
    encoder = model.encoder
    layers = encoder.shape.layers
    try:
        to_stock(encoder, ["0"] * encoder.shape.classes)
    except EatError:  # adaptive, or with a head of its own
        half = System(f"{name}-bfloat16", "packed", layers, "bfloat16", folder=str(folder))
        return [System(name, "packed", layers, folder=str(folder)), half]
    stock = f"{name}-stock"
    return [
        System(stock, "stock", layers, stock=stock, folder=str(folder)),
        System(name, "packed", layers, equals=stock, stock=stock, folder=str(folder)),
        System(f"{name}-bfloat16", "packed", layers, "bfloat16", stock=stock, folder=str(folder)),
    ]


# --- building -----------------------------------------------------------------------------------------------------


def build_model(system: System, shape: Shape) -> EatForSequenceClassification:
    """The model behind a system, in float32 and in evaluation mode: trained, or with random weights."""
    from eat.model import EatConfig, EatForSequenceClassification

    if system.folder is not None:
        return _load(system.folder)
    windowed = system.engine == "packed" and system.attention != "dense"
    config = EatConfig(
        asdict(replace(shape, layers=system.layers)),
        PRUNED if system.pruned else None,
        WINDOW if windowed else None,
        exits=[] if system.exits == "none" else [EXIT_AFTER],
        last_head="bert",
    )
    model = EatForSequenceClassification(config)
    randomise(model.encoder)
    if system.attention in ("band", "blocks"):
        ways = {"band": sys.maxsize, "blocks": 0}
        model.encoder.pattern = replace(model.encoder.pattern, blocked_from=ways[system.attention])
    if system.exits != "none":
        # just below 1 no probability of random weights reaches the threshold; just above 0 every one does
        model.set_operating_point(["confidence"], 1 - 1e-9 if system.exits == "nobody leaves" else 1e-9)
    model.eval()
    return model


def _load(folder: str) -> EatForSequenceClassification:
    from eat.model import load_model

    return load_model(folder)


def build_packed(system: System, shape: Shape) -> tuple[EatForSequenceClassification, ExitPolicy]:
    """A packed system ready for inference at its precision, and its operating point."""
    model = build_model(system, shape)
    prepare(model.encoder, system.precision)
    return model, model.policy


def build_stock(system: System, shape: Shape) -> PreTrainedModel:
    """A stock system ready for inference at its precision."""
    model = build_model(system, shape)
    stock = to_stock(
        model.encoder,
        [str(number) for number in range(model.encoder.shape.classes)],
        "eager" if system.attention == "eager" else "sdpa",
    )
    prepare_stock(stock, system.precision)
    return stock


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Matrices from N(0, 1 / columns), so that hidden states keep their size; biases from N(0, 0.02^2); scales 1."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            if parameter.dim() > 1:
                parameter.normal_(0.0, 1.0 / math.sqrt(parameter.shape[1]), generator=generator)
            else:
                parameter.normal_(0.0, 0.02, generator=generator)
                if "norm" in name and name.endswith("weight"):
                    parameter.add_(1.0)
