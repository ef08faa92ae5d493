"""`eat bench engine`: systems x lengths x batch sizes, in turn, on the same input.

What is measured, for each case (a length, or mixed lengths, and a batch size) and system:

* `ms_*`: one pass, ids on the host to classes on the host; percentiles and mean of all timed passes.
* `speedup`: against `hf-sdpa-6` (at BERT-base's shape `hf-sdpa-12`) in the order of arrival, the median over rounds of
  paired ratios, with an interval that draws rounds again; `speedup_mean` is the ratio of mean times.
  `stock_speedup`: the same against the stock system of its own depth, precision and order. `hf-sdpa-6-again` is the
  same system built twice: how far it is from 1 is noise.
* `gflops`: operations of the work executed, without padding, by the median time. `efficiency`: that rate over the
  largest median rate of a float32 matrix product in the same rounds; empty for other precisions, whose products are of
  another kind.
* `weights_mb`, `call_mb`: see `eat.bench.memory`; of systems on a CPU alone.
* `max_difference`: of the logits from the system it must equal (`SAME` is enforced), else from the stock system in
  float32 of its depth, where the function is the same but for its precision.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from eat import rounding
from eat.bench.inputs import SHORTEST, Case, equal_case, mixed_case, read_texts
from eat.bench.measure import Turn, percentiles, round_medians, run_rounds, speedup
from eat.bench.memory import Memory, Meter
from eat.bench.onnx_model import INSTALL, missing_packages
from eat.bench.plots import plot_engine
from eat.bench.processes import Worker
from eat.bench.results import Findings, Quantity, Watch, markdown
from eat.bench.runners import Answers, OnnxRunner, ProductRunner, Runner, build_runner, key_of
from eat.bench.systems import MINILM, SAME, TABLES, System, chosen, of_folder
from eat.engines.devices import resolve_device
from eat.engines.precision import refusal
from eat.errors import EatError, listed
from eat.machine import machine_facts, quiet
from eat.model.shape import Shape
from eat.progress import counted
from eat.statistics import Estimate

PRODUCTS = ((512, 384, 1536), (1024, 1024, 1024), (2048, 2048, 2048))
"""Rows, inner size and columns of the matrix products of which the best counts."""

DEVICE_PRODUCTS = ((2048, 2048, 2048), (8192, 8192, 8192))
"""The same on a GPU, which small products leave idle."""

MACHINE = ("cpu", "cores", "gpu")
"""What each row says of the machine."""


@dataclass(frozen=True)
class EngineOptions:
    """systems: names, `None` for all that can run here. seconds: after which a case begins no further round.

    texts: a file whose lengths the mixed batches have, a text a line; it asks for such batches by itself. shape: of the
    models with random weights; its depth says which systems there are. products: `None` for those of the device.
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


def bench_engine(options: EngineOptions) -> Findings:
    """Build all systems, check their answers, time them case by case, and measure their memory.

    Raises `EatError` for what `check_options` refuses, and where a system gives other answers than it must.
    """
    device = resolve_device(options.device, "--device")
    systems, skipped = systems_of(options, device)
    torch.set_num_threads(options.threads)
    raw: list[pd.DataFrame] = []
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack, Watch() as watch:
        cases = cases_of(options, systems)
        fleet = Fleet(systems, options, device, stack)
        for number, case in enumerate(cases, start=1):
            found, timed = fleet.measure(case, options.seconds, f"({number} of {len(cases)})")
            rows += found
            raw.append(timed)
        memory = fleet.memory(cases) if options.memory and device.type == "cpu" else {}
    table = pd.DataFrame(rows)
    for column in ("weights_mb", "call_mb"):
        table[column] = [
            getattr(memory.get((row["system"], row["case"], row["batch_size"], row["order"])), column, None)
            for row in rows
        ]
    best = best_product(pd.concat(raw), fleet.products)
    table["efficiency"] = np.where(table["precision"] == "float32", table["gflops"] / best, np.nan)
    machine = machine_facts(device)
    table = table.assign(threads=options.threads, device=device.type, **{key: machine[key] for key in MACHINE})
    facts = {
        **watch.facts,
        "threads": options.threads,
        "device": device.type,
        "rounds": options.rounds,
        "best_product_gflops": best,
        "skipped": skipped,
        "models": [str(folder) for folder in options.models],
    }
    return Findings(
        "engine",
        {"engine": table},
        pd.concat(raw, ignore_index=True),
        _markdown(table, best, options.threads) + watch.warning,
        lambda: plot_engine(table),
        facts,
    )


def systems_of(options: EngineOptions, device: torch.device) -> tuple[list[System], dict[str, str]]:
    """The rows to measure, and those that cannot run on the device here, with the reason, which is printed.

    Raises `EatError` for bad options, before anything is built, and if a system that was asked for cannot run.
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
        f"a length of {longest} tokens, but the models have {positions} positions; `eat bench growth` has longer ones",
    )
    skipped = {system.name: why for system in systems if (why := obstacle(system, device)) is not None}
    for name, why in skipped.items():
        _require(name not in (options.systems or ()), f"{name}: {why}")
        print(f"{name} is left out: {why}", file=sys.stderr)
    return [system for system in systems if system.name not in skipped], skipped


def obstacle(system: System, device: torch.device) -> str | None:
    """Why a system cannot run on a device here, or is of no use there, and what to do; `None` if it can and is."""
    if system.engine == "onnx":
        if device.type != "cpu":
            return "it is measured on the CPU alone; take --device cpu"
        missing = missing_packages()
        return f"it needs {listed(missing)}, which is not installed; {INSTALL}" if missing else None
    if system.precision == "int8" and device.type != "cpu":
        return "it computes in int8, which is for the CPU; take float16 or bfloat16 on a GPU"
    if system.precision == "float16" and device.type == "cpu":
        return "it computes in float16, which is for a GPU; take bfloat16, or --device cuda"
    return refusal(system.precision, device, stock=system.engine == "stock")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise EatError(otherwise)


def cases_of(options: EngineOptions, systems: Sequence[System]) -> list[Case]:
    """Every length with every batch size, then mixed lengths with every batch size.

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


class Fleet:
    """All runners of a bench, and the processes behind them; `stack` ends these.

    products: name -> matrix product, timed in every round.
    """

    def __init__(
        self, systems: Sequence[System], options: EngineOptions, device: torch.device, stack: ExitStack
    ) -> None:
        sizes = options.products or (PRODUCTS if device.type == "cpu" else DEVICE_PRODUCTS)
        self.products = {f"product {m}x{k}x{n}": ProductRunner(m, k, n, device) for m, k, n in sizes}
        self.runners: dict[str, Runner] = {}
        self._systems = systems
        self._options = options
        self._files: dict[str, Path] = {}
        self._stack = stack
        worker: Worker | None = None
        for system in counted("built", list(systems), "systems"):
            if system.engine != "onnx":
                self.runners[system.name] = build_runner(system, options.shape, device)
            else:
                if worker is None:
                    worker = Worker("eat.bench.onnx_worker")
                    stack.callback(worker.close)
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eat-bench-")))
                path = self._files[system.name] = folder / f"{system.name}.onnx"
                shape = _with_layers(options.shape, system.layers)
                self.runners[system.name] = OnnxRunner(worker, system, shape, path, options.threads)

    def measure(self, case: Case, seconds: float, place: str) -> tuple[list[dict[str, Any]], pd.DataFrame]:
        """Check the answers of all systems on a case, then time them: the rows of the table, and every timed pass.

        seconds: after which no further round begins. place: of the case among all, for the line of progress. Raises
        `EatError` if a system gives other answers than it must.
        """
        answers = self._load(case)
        differences = check_answers(self._systems, answers, case)
        label = f"{case.name} x {case.batch_size} {place}"
        with quiet():
            timed = run_rounds(self._turns(case), self._options.rounds, seconds, label=label)
        rows = _rows(case, self._systems, timed, answers, differences)
        return rows, timed.assign(case=case.name, batch_size=case.batch_size)

    def _load(self, case: Case) -> dict[str, Answers]:
        """Give a case to all runners; their answers in the order of arrival."""
        answers = {}
        for system in counted(f"{case.name} x {case.batch_size}: answers of", self._systems, "systems"):
            for order in case.orders:
                self.runners[system.name].load(key_of(case, order), case.batches(order))
            answers[system.name] = self.runners[system.name].answer(key_of(case, "arrival"))
        return answers

    def _turns(self, case: Case) -> list[Turn]:
        """Every system in every order of a case, and the matrix products."""
        turns = [
            Turn(entry(system.name, order), partial(self.runners[system.name].time, key_of(case, order)))
            for system in self._systems
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
        for system in counted("memory of", self._systems, "systems"):
            for (case, order), memory in zip(wanted, meter.measure(system, lengths), strict=True):
                found[system.name, case.name, case.batch_size, order] = memory
        return found


def _product_turn(product: ProductRunner) -> Callable[[int, bool], list[float]]:
    return lambda calls, warm: product.time(calls)


def _with_layers(shape: Shape, layers: int) -> Shape:
    return Shape(**{**shape.__dict__, "layers": layers})


def _common_shape(options: EngineOptions, systems: Sequence[System]) -> Shape:
    """The shape with the least vocabulary and the fewest positions of all models, so that all can read the texts."""
    from eat.model.weights import read_checkpoint

    shapes = [read_checkpoint(system.folder).shape for system in systems if system.folder is not None]
    return Shape(
        vocabulary=min([options.shape.vocabulary, *(shape.vocabulary for shape in shapes)]),
        positions=min([options.shape.positions, *(shape.positions for shape in shapes)]),
    )


def entry(system: str, order: str) -> str:
    """How a system in an order is called among the turns."""
    return system if order == "arrival" else f"{system} sorted"


def check_answers(systems: Sequence[System], answers: Mapping[str, Answers], case: Case) -> dict[str, float]:
    """The largest difference of each system's logits from those it must equal, or approximates; the reference first.

    Raises `EatError` where a system that must equal another one does not, to `SAME`, and where none or all must leave
    at the exit but did not.
    """
    found = {}
    for system in systems:
        own = answers[system.name]
        if system.exits != "none" and (own.depth < system.layers) != (system.exits == "all leave"):
            raise EatError(f"{system.name}: a mean depth of {own.depth:g}, where {system.exits}; nothing was written")
        other = system.equals or _approximated(system, systems[0])
        if other is None or other not in answers or other == system.name:
            continue
        difference = float(np.abs(own.logits - answers[other].logits).max())
        if system.equals is not None and not difference <= SAME:
            raise EatError(
                f"{system.name} gives other logits than {other} on {case.name} x {case.batch_size}: they differ by "
                f"{difference:.1e}, and {SAME:.0e} is allowed; nothing was written"
            )
        found[system.name] = difference
    return found


def _approximated(system: System, reference: System) -> str | None:
    """The float32 system that computes the same function but for its precision."""
    plain = system.folder is None and not system.pruned and system.precision != "float32"
    return reference.name if plain and system.layers == reference.layers else None


# --- the table ----------------------------------------------------------------------------------------------------


def _rows(
    case: Case,
    systems: Sequence[System],
    timed: pd.DataFrame,
    answers: Mapping[str, Answers],
    differences: Mapping[str, float],
) -> list[dict[str, Any]]:
    medians = round_medians(timed)
    reference = systems[0].name
    reference_mean = percentiles(timed, reference)["ms_mean"]
    running = {system.name for system in systems}
    unknown = Estimate(np.nan, np.nan, np.nan)
    rows = []
    for system in systems:
        for order in case.orders:
            name = entry(system.name, order)
            times = percentiles(timed, name)
            gain = speedup(medians, reference, name)
            # the stock system of its precision may be left out
            own_stock = speedup(medians, entry(system.stock, order), name) if system.stock in running else unknown
            rows.append(
                {
                    "system": system.name,
                    "precision": system.precision,
                    "case": case.name,
                    "length": case.length,
                    "mean_length": case.tokens / len(case.texts),
                    "batch_size": case.batch_size,
                    "order": order,
                    "texts": len(case.texts),
                    "rounds": int(timed["round"].nunique()),
                    "passes": int((timed["name"] == name).sum()),
                    **times,
                    "texts_per_s": len(case.texts) / times["ms_p50"] * 1e3,
                    "speedup": gain.value,
                    "speedup_low": gain.low,
                    "speedup_high": gain.high,
                    "speedup_mean": reference_mean / times["ms_mean"],
                    "stock": system.stock,
                    "stock_speedup": own_stock.value,
                    "stock_speedup_low": own_stock.low,
                    "stock_speedup_high": own_stock.high,
                    "depth": answers[system.name].depth,
                    "gflop": answers[system.name].gflop,
                    "gflops": answers[system.name].gflop / times["ms_p50"] * 1e3,
                    "max_difference": differences.get(system.name),
                }
            )
    return rows


def best_product(raw: pd.DataFrame, products: Mapping[str, ProductRunner]) -> float:
    """The largest rate of a matrix product, in GFLOP/s: of each size the median of all that were timed."""
    return max(
        product.gflop / float(raw.loc[raw["name"] == name, "ms"].median()) * 1e3 for name, product in products.items()
    )


def _markdown(table: pd.DataFrame, best: float, threads: int) -> str:
    quantities = (
        Quantity("System", "name"),
        Quantity("p50 (ms)", "ms_p50", rounding.milliseconds),
        Quantity("p99 (ms)", "ms_p99", rounding.milliseconds),
        Quantity("Speed-up", "speedup", rounding.speedup, ("speedup_low", "speedup_high")),
        Quantity("vs. own stock", "stock_speedup", rounding.speedup),
        Quantity("Depth", "depth", rounding.depth),
        Quantity("GFLOP/s", "gflops", rounding.throughput),
        Quantity("Efficiency", "efficiency", rounding.ratio),
        Quantity("Memory of a call (MB)", "call_mb", rounding.throughput),
    )
    parts = []
    for (case, size), rows in table.groupby(["case", "batch_size"], sort=False):
        named = rows.assign(name=[entry(*pair) for pair in zip(rows["system"], rows["order"], strict=True)])
        tokens = (
            f"{case} tokens"
            if case != "mixed"
            else f"mixed lengths, mean {rounding.ratio(rows['mean_length'].iloc[0])}"
        )
        heading = f"### {tokens}, batch {size} ({rows['rounds'].iloc[0]} rounds)"
        parts.append(f"{heading}\n\n{markdown(named, quantities, f'engine:{case}:{size}')}")
    reference = table["system"].iloc[0]
    parts.append(
        f"Speed-up against {reference}, median of paired ratios with a 95 % interval; {reference}-again is the noise "
        f"floor. Efficiency: of the best float32 matrix product in this run, {rounding.throughput(best)} GFLOP/s "
        f"({threads} threads).\n"
    )
    return "\n".join(parts)
