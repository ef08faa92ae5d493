"""The options of `eat bench engine`, and the systems and cases that follow from them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch

from eat.bench.inputs import SHORTEST, Case, equal_case, mixed_case, read_texts
from eat.bench.systems import MINILM, TABLES, System, chosen, of_folder
from eat.engines.compiled import compiler_fault
from eat.engines.precision import refusal
from eat.engines.probe import where
from eat.errors import EatError, listed
from eat.model.shape import Shape

CUDA_PROVIDER = "CUDAExecutionProvider"
"""ONNX Runtime's name for a GPU with CUDA."""


@dataclass(frozen=True)
class EngineOptions:
    """systems: names, `None` for all that can run here. seconds: the time after which a case starts no further round.

    texts: a file with one text per line, whose lengths the mixed batches have; it implies such batches. shape: that of
    the models with random weights; its depth determines the systems. products: `None` for the defaults of the device.
    """

    systems: tuple[str, ...] | None = None
    lengths: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    batch_sizes: tuple[int, ...] = (1, 32)
    mixed_lengths: bool = False
    texts: Path | None = None
    models: Sequence[Path] = ()
    threads: int = 2
    rounds: int = 20
    seconds: float = 40.0
    memory: bool = True
    device: str = "cpu"
    shape: Shape = field(default=MINILM)
    products: tuple[tuple[int, int, int], ...] | None = None


def systems_of(options: EngineOptions, device: torch.device) -> tuple[list[System], dict[str, str]]:
    """The systems to measure, and those that cannot run on the device here, with the reason, which is also printed.

    Raises `EatError` for invalid options, before anything is built, and if a requested system cannot run.
    """
    has_lengths = bool(options.lengths) or options.mixed_lengths or options.texts is not None
    _require(has_lengths, "no length is given; give --lengths or --mixed-lengths")
    _require(bool(options.batch_sizes), "no batch size is given")
    for length in options.lengths:
        _require(length >= SHORTEST, f"a length of {length}; a text has at least {SHORTEST} tokens, [CLS] and [SEP]")
    for size in options.batch_sizes:
        _require(size >= 1, f"a batch of {size}; give at least 1")
    _require(options.threads >= 1, f"{options.threads} threads; give at least 1")
    _require(options.rounds >= 1, f"{options.rounds} rounds; give at least 1")
    systems = chosen(options.systems, TABLES[options.shape.layers])
    for folder in options.models:
        systems += of_folder(folder, systems)
    longest = max(options.lengths, default=SHORTEST)
    positions = options.shape.positions
    _require(
        longest <= positions,
        f"a length of {longest} tokens, but the models have {positions} positions; for longer texts use `eat bench "
        "growth`",
    )
    skipped = {system.name: why for system in systems if (why := obstacle(system, device)) is not None}
    for name, why in skipped.items():
        _require(name not in (options.systems or ()), f"{name}: {why}")
    for line in left_out(skipped):
        print(line, file=sys.stderr)
    return [system for system in systems if system.name not in skipped], skipped


def left_out(skipped: Mapping[str, str]) -> list[str]:
    """A line for each reason: which systems are left out. skipped: system -> reason."""
    names = {reason: [name for name, why in skipped.items() if why == reason] for reason in skipped.values()}
    return [f"{listed(of)} {'is' if len(of) == 1 else 'are'} left out: {reason}" for reason, of in names.items()]


def obstacle(system: System, device: torch.device) -> str | None:
    """Why a system cannot run on a device here, or is useless there, and what to do; `None` if there is no obstacle."""
    if system.needs_cuda:
        return _cuda_obstacle(system, device)
    if system.exported or system.engine == "onnx":
        if device.type != "cpu":
            return "it is measured only on the CPU; use --device cpu"
        return _openvino_obstacle(system.precision) if system.engine == "openvino" else None
    if system.precision == "float16" and device.type == "cpu":
        return "it computes in float16, which is for a GPU; use bfloat16, or --device cuda"
    return refusal(system.precision, device, stock=system.engine == "stock")


def _cuda_obstacle(system: System, device: torch.device) -> str | None:
    """The obstacle of a system that is measured on a GPU with CUDA only."""
    if device.type != "cuda":
        return "it is measured only on a GPU with CUDA; use --device cuda"
    reason = refusal(system.precision, device, stock=system.engine == "compiled")
    if reason is not None or system.engine == "graphs":
        return reason
    return compiler_fault(device) if system.engine == "compiled" else cuda_provider_fault()


def cuda_provider_fault() -> str | None:
    """Why ONNX Runtime cannot run on a GPU here, in one line; `None` if it can."""
    import onnxruntime

    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        return f"ONNX Runtime {onnxruntime.__version__} has no CUDA provider here; install onnxruntime-gpu in its place"
    return None if find_spec("onnx") is not None else "the package onnx is not installed, which the export needs"


def _openvino_obstacle(precision: str) -> str | None:
    if find_spec("openvino") is None:
        return 'OpenVINO is not installed; pip install "eat-study[bench]"'
    if precision != "bfloat16":
        return None
    from openvino import Core

    # elsewhere it would compute in float32 and not say so
    if "BF16" not in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return f"OpenVINO has no bfloat16 on {where(torch.device('cpu'))}"
    return refusal(precision)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise EatError(otherwise)


def cases_of(options: EngineOptions, systems: Sequence[System]) -> list[Case]:
    """The cases: every length with every batch size, then mixed lengths with every batch size.

    Raises `EatError` for a length beyond the positions of a trained model, and for a text file without texts.
    """
    shape = _common_shape(options, systems)
    longest = max(options.lengths, default=SHORTEST)
    if longest > shape.positions:
        raise EatError(f"a length of {longest} tokens, but a trained model has {shape.positions} positions")
    cases = [equal_case(length, size, shape.vocabulary) for size in options.batch_sizes for length in options.lengths]
    if options.mixed_lengths or options.texts is not None:
        texts = None
        if options.texts is not None:
            tokenizer = options.models[0] if options.models else None
            texts = read_texts(options.texts, shape.positions, shape.vocabulary, tokenizer)
        cases += [mixed_case(size, shape.vocabulary, shape.positions, texts) for size in options.batch_sizes]
    return cases


def _common_shape(options: EngineOptions, systems: Sequence[System]) -> Shape:
    """The shape with the smallest vocabulary and the fewest positions of all models, so that all can read the texts."""
    from eat.model.weights import read_checkpoint

    shapes = [read_checkpoint(system.folder).shape for system in systems if system.folder is not None]
    return Shape(
        vocabulary=min([options.shape.vocabulary, *(shape.vocabulary for shape in shapes)]),
        positions=min([options.shape.positions, *(shape.positions for shape in shapes)]),
    )
