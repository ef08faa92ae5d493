"""The runners of a bench, which load each case, compute its answers, and are timed in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from eat.bench.answers import check_answers
from eat.bench.engine_options import EngineOptions
from eat.bench.engine_table import entry, table_rows
from eat.bench.inputs import Case
from eat.bench.measure import Turn, run_rounds
from eat.bench.memory import Memory, Meter
from eat.bench.processes import Worker
from eat.bench.runners import Answers, ExportRunner, ProductRunner, Runner, build_runner, key_of
from eat.bench.systems import System
from eat.engines.graphs import GraphedModel
from eat.machine import quiet
from eat.model.shape import Shape
from eat.progress import counted

PRODUCTS = ((512, 384, 1536), (1024, 1024, 1024), (2048, 2048, 2048))
"""Rows, inner size and columns of the matrix products; the fastest is used."""

DEVICE_PRODUCTS = ((2048, 2048, 2048), (8192, 8192, 8192))
"""The same on a GPU, which needs larger products."""


class Fleet:
    """All runners of a bench and their processes, which `stack` ends.

    products: name -> matrix product, timed in every round. systems: those that can be measured. left_out: the others,
    with the reason: models whose CUDA graphs do not agree with the eager pass.
    """

    def __init__(
        self, systems: Sequence[System], options: EngineOptions, device: torch.device, stack: ExitStack
    ) -> None:
        sizes = options.products or (PRODUCTS if device.type == "cpu" else DEVICE_PRODUCTS)
        self.products = {f"product {m}x{k}x{n}": ProductRunner(m, k, n, device) for m, k, n in sizes}
        self.runners: dict[str, Runner] = {}
        self.left_out: dict[str, str] = {}
        longest = options.shape.positions if options.mixed_lengths or options.texts else max(options.lengths)
        self._options = options
        self._files: dict[str, Path] = {}
        self._stack = stack
        workers: dict[str, Worker] = {}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eat-bench-")))
        for system in counted("built", list(systems), "systems"):
            if not system.exported:
                self.runners[system.name] = runner = build_runner(system, options.shape, device)
                if isinstance(runner.model, GraphedModel):
                    fault = runner.model.prepare(longest).fault
                    if fault is not None:  # it would run eagerly, which other rows measure
                        self.left_out[system.name] = f"graphs are not used: {fault}"
            else:
                if system.engine not in workers:
                    workers[system.engine] = Worker("eat.bench.onnx_worker")
                    stack.callback(workers[system.engine].close)
                path = self._files[system.name] = folder / f"{system.name}.onnx"
                shape = _with_layers(options.shape, system.layers)
                self.runners[system.name] = ExportRunner(workers[system.engine], system, shape, path, options.threads)
        self.systems = [system for system in systems if system.name not in self.left_out]

    def measure(self, case: Case, seconds: float, place: str) -> tuple[list[dict[str, Any]], pd.DataFrame]:
        """Check the answers of all systems on a case, then time them; returns the rows of the table and every timed
        pass.

        seconds: the time after which no further round starts. place: the case's number, for the progress line. Raises
        `EatError` as `check_answers` does.
        """
        answers = self._load(case)
        differences = check_answers(self.systems, answers, case)
        label = f"{case.name} x {case.batch_size} {place}"
        with quiet():
            timed = run_rounds(self._turns(case), self._options.rounds, seconds, label=label)
        rows = table_rows(case, self.systems, timed, answers, differences)
        return rows, timed.assign(case=case.name, batch_size=case.batch_size)

    def _load(self, case: Case) -> dict[str, Answers]:
        """Load a case into all runners; returns their answers in the order of arrival."""
        answers = {}
        for system in counted(f"{case.name} x {case.batch_size}: answers of", self.systems, "systems"):
            for order in case.orders:
                self.runners[system.name].load(key_of(case, order), case.batches(order))
            answers[system.name] = self.runners[system.name].answer(key_of(case, "arrival"))
        return answers

    def _turns(self, case: Case) -> list[Turn]:
        """The turns of a case: every system in every order, and the matrix products."""
        turns = [
            Turn(entry(system.name, order), partial(self.runners[system.name].time, key_of(case, order)))
            for system in self.systems
            for order in case.orders
        ]
        return turns + [Turn(name, _product_turn(product)) for name, product in self.products.items()]

    def memory(self, cases: Sequence[Case]) -> dict[tuple[str, str, int, str], Memory]:
        """The memory of every system, case and order."""
        meter = Meter(self._options.shape, self._options.threads, self._files)
        self._stack.callback(meter.close)
        wanted = [(case, order) for case in cases for order in case.orders]
        lengths = [[[len(text.ids) for text in batch] for batch in case.batches(order)] for case, order in wanted]
        found = {}
        for system in counted("memory of", self.systems, "systems"):
            for (case, order), memory in zip(wanted, meter.measure(system, lengths), strict=True):
                found[system.name, case.name, case.batch_size, order] = memory
        return found


def _product_turn(product: ProductRunner) -> Callable[[int, bool], list[float]]:
    return lambda calls, warm: product.time(calls)


def _with_layers(shape: Shape, layers: int) -> Shape:
    return Shape(**{**shape.__dict__, "layers": layers})
