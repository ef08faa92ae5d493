"""A system that is loaded with texts and timed pass by pass, in this process or in that of ONNX Runtime or OpenVINO.

A pass starts with token ids on the host and ends with the classes on the host, so packing, padding and transfers to and
from a device are timed. On a device the clock starts and stops when all its queued work is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch

from eat.bench.inputs import Case
from eat.bench.processes import Worker
from eat.bench.systems import System, build_onnx, build_packed, build_stock
from eat.engines.compiled import CompiledModel
from eat.engines.engine import LoadedModel
from eat.engines.graphs import GraphedModel
from eat.engines.stock import StockModel, dense_flops
from eat.model.exit_policy import ExitPolicy
from eat.model.shape import Shape
from eat.model.tokenizer import Encoded

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Answers:
    """The answers of a system to a case's texts in the order of arrival, and the work it executed.

    logits: float (N, C). depth: mean layers per text. gflop: 10^9 operations of all texts, without padding.
    """

    logits: npt.NDArray[np.floating]
    depth: float
    gflop: float


class Runner(Protocol):
    """Something to time. Call `load` first; `key` names a case in an order."""

    def load(self, key: str, batches: list[list[Encoded]]) -> None:
        """Keep the batches of a case."""

    def answer(self, key: str) -> Answers:
        """Run them once, untimed."""

    def time(self, key: str, calls: int, warm: bool) -> list[float]:
        """Milliseconds of each of `calls` passes over them; with `warm`, after an untimed pass."""


class LocalRunner:
    """A model of an engine in this process, at an operating point. device: where it computes."""

    def __init__(self, model: LoadedModel, policy: ExitPolicy, device: torch.device) -> None:
        self.model = model
        self._run = model.runner(policy)
        self._device = device
        self._batches: dict[str, list[list[Encoded]]] = {}

    def load(self, key: str, batches: list[list[Encoded]]) -> None:
        """As `Runner`."""
        self._batches[key] = batches

    def answer(self, key: str) -> Answers:
        """As `Runner`."""
        with torch.inference_mode():
            found = [self._run(batch) for batch in self._batches[key]]
        return Answers(
            torch.cat([run.logits() for run in found]).numpy(),
            float(np.mean([depth for run in found for depth in run.depth()])),
            sum(run.flops() for run in found) / 1e9,
        )

    def time(self, key: str, calls: int, warm: bool) -> list[float]:
        """As `Runner`."""
        batches = self._batches[key]

        def once() -> None:
            for batch in batches:
                self._run(batch)

        with torch.inference_mode():
            if warm:
                once()
            return [timed(once, self._device) for _ in range(calls)]


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of this work on a device, from when the device is idle until the work is done."""
    _wait_for(device)
    began = time.perf_counter_ns()
    work()
    _wait_for(device)
    return (time.perf_counter_ns() - began) / 1e6


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


class ExportRunner:
    """A system in the process of ONNX Runtime or OpenVINO."""

    def __init__(self, worker: Worker, system: System, shape: Shape, path: Path, threads: int) -> None:
        self._worker = worker
        self._name = system.name
        self._shape = shape
        self._gflop: dict[str, float] = {}
        worker.ask("make", system=asdict(system), shape=asdict(shape), path=str(path))
        worker.ask("open", system=asdict(system), path=str(path), threads=threads)

    def load(self, key: str, batches: list[list[Encoded]]) -> None:
        """As `Runner`."""
        self._gflop[key] = sum(dense_flops(self._shape, [len(text.ids) for text in batch]) for batch in batches) / 1e9
        self._worker.ask("load", key=key, batches=[[text.ids.tolist() for text in batch] for batch in batches])

    def answer(self, key: str) -> Answers:
        """As `Runner`."""
        logits = np.array(self._worker.ask("answer", name=self._name, key=key))
        return Answers(logits, float(self._shape.layers), self._gflop[key])

    def time(self, key: str, calls: int, warm: bool) -> list[float]:
        """As `Runner`; the clock is that of the other process."""
        found: list[float] = self._worker.ask("time", name=self._name, key=key, calls=calls, warm=warm)
        return found


class ProductRunner:
    """A float32 matrix product in this process: the peak rate of a device. gflop: 10^9 operations of one product."""

    def __init__(self, rows: int, inner: int, columns: int, device: torch.device) -> None:
        generator = torch.Generator(device=device).manual_seed(0)
        self._device = device
        self._left = torch.randn(rows, inner, generator=generator, device=device)
        self._right = torch.randn(inner, columns, generator=generator, device=device)
        self._out = torch.empty(rows, columns, device=device)
        self.gflop = 2 * rows * inner * columns / 1e9

    def time(self, calls: int) -> list[float]:
        """Milliseconds of each of `calls` products, after an untimed one."""

        def once() -> None:
            torch.mm(self._left, self._right, out=self._out)

        with torch.inference_mode():
            once()
            return [timed(once, self._device) for _ in range(calls)]


CPU = torch.device("cpu")


def build_runner(system: System, shape: Shape, device: torch.device = CPU) -> LocalRunner:
    """The runner of a system of this process, on a device."""
    if system.engine == "onnx":
        return LocalRunner(*build_onnx(system, shape), device)
    if system.engine in ("packed", "graphs"):
        model, policy = build_packed(system, shape, device)
        return LocalRunner(GraphedModel(model) if system.engine == "graphs" else model, policy, device)
    stock = build_stock(system, shape, device)
    return LocalRunner(
        (CompiledModel if system.engine == "compiled" else StockModel)(stock, device), ExitPolicy(), device
    )


def key_of(case: Case, order: str) -> str:
    """The name under which a runner keeps a case in an order."""
    return f"{case.name} x {case.batch_size}, {order}"
