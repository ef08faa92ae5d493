"""The systems of `eat bench` in one table, and how each is built.

All have the shape of MiniLM or that of BERT-base and, if the architecture is the same, the same random weights: a
parameter's values depend only on its name, so that the layers of a 6-layer model are the first of a 12-layer one, and
an exit head changes nothing else.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from eat.engines.packed import PackedModel
from eat.engines.precision import prepare_stock
from eat.errors import EatError, listed
from eat.model.exit_policy import ExitPolicy
from eat.model.shape import Shape
from eat.model.weights import to_stock

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from eat.engines.onnx import OnnxModel
    from eat.model.hugging_face import EatForSequenceClassification

MINILM = Shape(hidden=384, layers=6, heads=12, intermediate=1536)
"""The shape of all-MiniLM-L6-v2."""

SHAPES: dict[str, Shape] = {"minilm-6": MINILM, "bert-base": Shape()}
"""The shapes of `eat bench engine`."""

REFERENCE = "hf-sdpa-6"
"""What all other systems of MiniLM's depth are compared with: stock `transformers` with its fastest attention."""

AGAIN = f"{REFERENCE}-again"
"""The same system built a second time (A/A): its difference from 1 is noise."""

PRUNED: dict[str, Any] = {"kind": "norm", "after": [2, 4], "ratio": 0.3, "protect": ["cls"]}
WINDOW: dict[str, Any] = {"kind": "window", "left": 16, "right": 16}
EXIT_AFTER = 4
"""The paper's parts: norm pruning, window attention with a global [CLS], one early exit."""

SAME = 1e-4
"""The tolerance between the logits of systems that compute the same function."""


@dataclass(frozen=True)
class System:
    """One row of the bench.

    engine: stock `transformers`, or compiled by PyTorch (`compiled`); our packed encoder, or as CUDA graphs (`graphs`);
    our ONNX graphs; or the export of a stock model in ONNX Runtime on a CPU (`export`) or a GPU (`export-cuda`), or in
    OpenVINO. attention: `sdpa` or `eager` (stock), `dense`,
    `window`, or the window computed in one way only, `band` or `blocks` (packed). exits: whether there is an early
    exit, and whether texts exit there. equals: the system whose logits it must equal. stock: the stock system of the
    same depth and precision. folder: a trained model instead of random weights.
    """

    name: str
    engine: Literal["stock", "compiled", "packed", "graphs", "onnx", "export", "export-cuda", "openvino"]
    layers: int = 6
    precision: str = "float32"
    attention: Literal["sdpa", "eager", "dense", "window", "band", "blocks"] = "sdpa"
    pruned: bool = False
    exits: Literal["none", "no early exit", "all exit early"] = "none"
    equals: str | None = None
    stock: str = REFERENCE
    folder: str | None = None

    @property
    def exported(self) -> bool:
        """Whether it is a file that a process of its own runs."""
        return self.engine in ("export", "export-cuda", "openvino")

    @property
    def needs_cuda(self) -> bool:
        """Whether it is measured on a GPU with CUDA only."""
        return self.engine in ("compiled", "graphs", "export-cuda")


def _table(*rows: System) -> dict[str, System]:
    return {row.name: row for row in rows}


def _rows_of_depth(layers: int) -> list[System]:
    """The rows of models with this number of layers; the others are compared with the first."""
    reference = f"hf-sdpa-{layers}"
    row = partial(System, layers=layers, stock=reference)
    half = [(precision, f"hf-{precision}-{layers}") for precision in ("float16", "bfloat16")]
    int8 = f"ort-int8-{layers}"
    small = partial(row, engine="onnx", precision="int8", attention="dense", stock=int8)
    return [
        row(reference, "stock"),
        row(f"{reference}-again", "stock", equals=reference),
        row(f"hf-eager-{layers}", "stock", attention="eager", equals=reference),
        *(row(stock, "stock", precision=precision, stock=stock) for precision, stock in half),
        row(f"ort-{layers}", "export", equals=reference),
        row(int8, "export", precision="int8", stock=int8),
        row(f"openvino-{layers}", "openvino", equals=reference),
        row(f"openvino-bfloat16-{layers}", "openvino", precision="bfloat16", stock=f"hf-bfloat16-{layers}"),
        row(f"openvino-int8-{layers}", "openvino", precision="int8", stock=int8),
        row(f"onnx-{layers}", "onnx", attention="dense", equals=reference),
        small(f"onnx-int8-{layers}"),
        small(f"onnx-int8-eat-{layers}", pruned=True, exits="no early exit"),
        small(f"onnx-int8-eat-{layers}-all-leave", pruned=True, exits="all exit early"),
        row(f"packed-{layers}", "packed", attention="dense", equals=reference),
        *(
            row(f"packed-{precision}-{layers}", "packed", precision=precision, attention="dense", stock=stock)
            for precision, stock in half
        ),
        row(f"eat-{layers}", "packed", attention="window", pruned=True, exits="no early exit"),
        row(f"eat-{layers}-all-leave", "packed", attention="window", pruned=True, exits="all exit early"),
        *(cuda_row for precision, stock in half for cuda_row in _cuda_rows(layers, precision, stock)),
        row(f"ort-cuda-{layers}", "export-cuda"),
        row(f"ort-cuda-float16-{layers}", "export-cuda", precision="float16", stock=f"hf-float16-{layers}"),
    ]


def _cuda_rows(layers: int, precision: str, stock: str) -> list[System]:
    """The rows of a precision that run on a GPU with CUDA only."""
    row = partial(System, layers=layers, precision=precision, stock=stock)
    adaptive = partial(row, attention="window", pruned=True)
    suffix = f"{precision}-{layers}"
    return [
        row(f"compiled-{suffix}", "compiled"),
        row(f"graphs-{suffix}", "graphs", attention="dense"),
        adaptive(f"graphs-eat-{suffix}", "graphs", exits="no early exit"),
        adaptive(f"graphs-eat-{suffix}-all-leave", "graphs", exits="all exit early"),
    ]


SYSTEMS: dict[str, System] = _table(
    *_rows_of_depth(6),
    System("hf-sdpa-12", "stock", layers=12, stock="hf-sdpa-12"),
    System("packed-12", "packed", layers=12, attention="dense", equals="hf-sdpa-12", stock="hf-sdpa-12"),
)
"""The rows of `eat bench engine` at MiniLM's depth, and dense models twice as deep. In `eat-6` the exit is evaluated
and no text exits there, in `eat-6-all-leave` every text does."""

DEEP_SYSTEMS: dict[str, System] = _table(*_rows_of_depth(12))
"""The rows of `eat bench engine` at the depth of BERT-base."""

TABLES: dict[int, dict[str, System]] = {6: SYSTEMS, 12: DEEP_SYSTEMS}
"""The rows of `eat bench engine` by the number of layers of the measured shape."""

GROWTH_SYSTEMS: dict[str, System] = _table(
    System(REFERENCE, "stock"),
    System("dense", "packed", attention="dense", equals=REFERENCE),
    System("window", "packed", attention="window"),
    System("window-band", "packed", attention="band", equals="window"),
    System("window-blocks", "packed", attention="blocks", equals="window"),
    System("eat", "packed", attention="window", pruned=True, exits="no early exit"),
    System("eat-all-leave", "packed", attention="window", pruned=True, exits="all exit early"),
)
"""The rows of `eat bench growth`."""


def chosen(names: Sequence[str] | None, table: Mapping[str, System]) -> list[System]:
    """The systems of these names (`None`: all), with those that they are compared with, in the table's order.

    All others are compared with the first. Raises `EatError` for an unknown name.
    """
    unknown = [name for name in names or () if name not in table]
    if unknown:
        raise EatError(f"unknown system {listed(unknown)}; known: {listed(table)}")
    reference = next(iter(table))
    wanted = {*(table if names is None else names), reference}
    wanted |= {f"{reference}-again"} & set(table)
    for name in list(wanted):
        wanted |= {other for other in (table[name].equals, table[name].stock) if other is not None}
    return [row for name, row in table.items() if name in wanted]


def of_folder(folder: Path, systems: Sequence[System]) -> list[System]:
    """A trained model at its saved operating point, and in bfloat16; before them its stock export, if it has one.

    systems: the other systems to measure, the reference first. Raises `EatError` if the folder contains no model of
    this project.
    """
    model = _load(str(folder))
    name = folder.resolve().name
    while name in {system.name for system in systems}:
        name += "-trained"
    encoder = model.encoder
    layers = encoder.shape.layers
    try:
        to_stock(encoder, ["0"] * encoder.shape.classes)
    except EatError:  # adaptive, or with a head that has no stock class
        row = partial(System, engine="packed", layers=layers, stock=systems[0].name, folder=str(folder))
        return [row(name), row(f"{name}-bfloat16", precision="bfloat16")]
    stock = f"{name}-stock"
    return [
        System(stock, "stock", layers, stock=stock, folder=str(folder)),
        System(name, "packed", layers, equals=stock, stock=stock, folder=str(folder)),
        System(f"{name}-bfloat16", "packed", layers, "bfloat16", stock=stock, folder=str(folder)),
    ]


# --- building -----------------------------------------------------------------------------------------------------


def build_model(system: System, shape: Shape) -> EatForSequenceClassification:
    """The model behind a system, in float32 and in evaluation mode: trained, or with random weights."""
    from eat.model.configuration import EatConfig
    from eat.model.hugging_face import EatForSequenceClassification

    if system.folder is not None:
        return _load(system.folder)
    windowed = system.engine in ("packed", "graphs") and system.attention != "dense"
    config = EatConfig(
        asdict(replace(shape, layers=system.layers)),
        PRUNED if system.pruned else None,
        WINDOW if windowed else None,
        exits=[] if system.exits == "none" else [EXIT_AFTER],
        last_head="bert",
    )
    with torch.device("meta"):  # the default initialisation would take longer than ours
        model = EatForSequenceClassification(config)
    model.to_empty(device="cpu")
    randomise(model.encoder)
    if system.attention in ("band", "blocks"):
        ways = {"band": sys.maxsize, "blocks": 0}
        model.encoder.pattern = replace(model.encoder.pattern, blocked_from=ways[system.attention])
    if system.exits != "none":
        # just below 1 no probability of random weights reaches the threshold; just above 0 every one does
        model.set_operating_point(["confidence"], 1 - 1e-9 if system.exits == "no early exit" else 1e-9)
    model.eval()
    return model


def _load(folder: str) -> EatForSequenceClassification:
    from eat.model.hugging_face import load_model

    return load_model(folder)


def build_packed(system: System, shape: Shape, device: torch.device | str = "cpu") -> tuple[PackedModel, ExitPolicy]:
    """A packed system on a device, ready for inference at its precision, and its operating point."""
    model = build_model(system, shape)
    return PackedModel(model).prepare(system.precision, torch.device(device)), model.policy


def build_onnx(system: System, shape: Shape) -> tuple[OnnxModel, ExitPolicy]:
    """A system in ONNX Runtime, and its operating point."""
    from eat.engines.onnx import OnnxModel

    model = build_model(system, shape)
    return OnnxModel(PackedModel(model), system.precision), model.policy


def build_stock(system: System, shape: Shape, device: torch.device | str = "cpu") -> PreTrainedModel:
    """A stock system on a device, ready for inference at its precision."""
    model = build_model(system, shape)
    stock = to_stock(
        model.encoder,
        [str(number) for number in range(model.encoder.shape.classes)],
        "eager" if system.attention == "eager" else "sdpa",
    )
    prepare_stock(stock, system.precision, device)
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
