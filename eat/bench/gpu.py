"""`eat gpu check`: a three-minute check of the engine on a GPU (docs/gpu.md).

Each part has its own file, which is rewritten after each of its cases, with the GPU and the package versions:

equality.json  logits of the packed forward pass against those of stock `transformers`, in each precision
graphs.json    logits of every length bucket of the CUDA graphs against those of the eager packed pass
engine-{shape}-batch-{size}.json  the rows of `eat bench engine`
compiled.json  the same with a stock model compiled by PyTorch, at two lengths
check.json     which cases of each part are done, which failed, and which are left out; the packages of the bundle
"""

from __future__ import annotations

import copy
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from eat.bench.bundle import BUNDLE, MANIFEST, PACK, WEIGHTS, opened
from eat.bench.engine_options import EngineOptions, obstacle, systems_of
from eat.bench.engine_table import best_product
from eat.bench.fleet import Fleet
from eat.bench.gpu_parts import Part, Parts, Rows, begin, facts_of
from eat.bench.inputs import Case, equal_case, random_texts
from eat.bench.measure import round_medians
from eat.bench.runners import LocalRunner
from eat.bench.systems import SHAPES, TABLES, System, build_model
from eat.engines.devices import resolve_device
from eat.engines.graphs import TOLERANCE, GraphedModel
from eat.engines.packed import PackedModel
from eat.engines.precision import prepare_stock
from eat.engines.stock import StockModel
from eat.errors import EatError
from eat.machine import versions
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.shape import Shape
from eat.model.weights import load_encoder, read_checkpoint, to_stock
from eat.statistics import median_ratio

LACKING = ("pydantic", "pydantic_core", "annotated-types", "typing-inspection", "wrapt")
"""The packages of the bundle's wheels."""

GRAPHED = ("float16", "bfloat16")
"""The precisions of the CUDA graphs that are compared."""

EXIT_RATE = 0.8
"""The share of texts that exit early in the rows named after it; the paper's claim on latency is about such a model."""

COMPILED = (32, 128)
"""The lengths at which compiled models are measured; each takes up to half a minute to compile."""


COMPILING = 35.0
"""The seconds that the other cases leave to them."""


@dataclass(frozen=True)
class CheckOptions:
    """out: the folder of the files. bundle: the folder that `eat.bench.bundle` made. seconds: when the check stops.

    case_seconds: the time after which a case starts no further round; less if time is short. products: the sizes of the
    matrix products, `None` for the defaults of the device. compiled: the lengths at which a compiled model is measured.
    """

    out: Path = Path("results/gpu")
    bundle: Path = BUNDLE
    device: str = "cuda"
    seconds: float = 165.0
    shapes: Mapping[str, Shape] = field(default_factory=lambda: SHAPES)
    lengths: Sequence[int] = (16, 32, 64, 128, 256, 512)
    batch_sizes: Sequence[int] = (1, 32)
    threads: int = 2
    rounds: int = 20
    case_seconds: float = 4.0
    products: tuple[tuple[int, int, int], ...] | None = None
    compiled: Sequence[int] = COMPILED


def dry_run(out: Path, bundle: Path) -> CheckOptions:
    """The same on the CPU with tiny models: a test that the command works. The times are meaningless."""
    tiny = Shape(vocabulary=200, hidden=32, heads=4, intermediate=64, positions=64)
    return CheckOptions(
        out,
        bundle,
        device="cpu",
        shapes={name: replace(tiny, layers=shape.layers) for name, shape in SHAPES.items()},
        lengths=(8, 16),
        batch_sizes=(1, 3),
        threads=1,
        rounds=2,
        case_seconds=0.0,
        products=((32, 32, 32),),
        compiled=(8,),
    )


def run_check(options: CheckOptions, began: float | None = None) -> None:
    """Run the parts in the order of their importance until all are done or the time is up.

    began: the start by `time.monotonic`; `None`: now. A part that fails does not stop the others. Raises `EatError` at
    the end if a part failed, and at the start if the device is not available or the bundle is damaged.
    """
    ends = (time.monotonic() if began is None else began) + options.seconds
    device = resolve_device(options.device, "--device")
    torch.set_num_threads(options.threads)
    with ExitStack() as stack:
        manifest = None
        if (options.bundle / MANIFEST).is_file():
            manifest = stack.enter_context(opened(options.bundle))
        else:
            line = f"eat gpu check: {options.bundle}: no bundle, so real weights are skipped; {PACK}"
            print(line, file=sys.stderr, flush=True)
        parts = _parts(options, device, manifest, ends, stack)
        begin(options.out, ("equality.json", "graphs.json", "compiled.json", "engine-*-batch-*.json"))
        facts = facts_of(device, options.threads, options.seconds)
        Parts("eat gpu check", "check", options.out, facts, parts, ends).run()


# --- the parts ----------------------------------------------------------------------------------------------------


def _parts(
    options: CheckOptions, device: torch.device, manifest: Mapping[str, Any] | None, ends: float, stack: ExitStack
) -> dict[str, Part]:
    """All parts, the most important first: equality, then batch 1 of each shape, then larger batches."""
    parts: dict[str, Part] = {}
    if manifest is not None:
        parts["packages"] = Part(["imports"], partial(_imports, manifest), has_file=False)
    weights = {name: partial(_random_weights, shape) for name, shape in options.shapes.items()}
    if manifest is not None:
        weights = {f"{WEIGHTS} of the bundle": partial(_real_weights, options.bundle / WEIGHTS), **weights}
    cases = [f"{name} in {precision}" for name in weights for precision in TOLERANCE]
    parts["equality"] = Part(cases, partial(_equality, weights, options, device))
    graphed = {
        f"{name}, {row.name}": partial(build_model, row, shape)
        for name, shape in options.shapes.items()
        for row in TABLES[shape.layers].values()
        if row.engine == "graphs" and row.exits != "all exit early" and row.precision == "float16"
    }
    cases = [f"{name} in {precision}" for name in graphed for precision in GRAPHED]
    parts["graphs"] = Part(cases, partial(_graphs, graphed, device))

    def seconds() -> float:
        """The seconds for the next case: its share of the remaining time, less the warm-up."""
        left = sum(len(part.left) for name, part in parts.items() if name.startswith("engine-"))
        reserved = COMPILING if options.compiled and device.type == "cuda" else 0.0
        return min(options.case_seconds, 0.6 * (ends - reserved - time.monotonic()) / left)

    @cache
    def fleet(name: str) -> Fleet:
        engine = _engine_options(options, options.shapes[name], device)
        return Fleet(systems_of(engine, device)[0], engine, device, stack)

    for size in options.batch_sizes:
        for name in options.shapes:
            cases = [f"{length} tokens" for length in options.lengths]
            work = partial(_engine, partial(fleet, name), options.shapes[name], options.lengths, size, seconds)
            parts[f"engine-{name}-batch-{size}"] = Part(cases, work)
    if options.compiled:
        name, shape = next(iter(options.shapes.items()))
        cases = [f"{length} tokens" for length in options.compiled]
        parts["compiled"] = Part(cases, partial(_compiled, options, shape, device, ends, stack))
    return parts


def _graphs(
    models: Mapping[str, Callable[[], EatForSequenceClassification]], device: torch.device
) -> Iterator[tuple[str, Rows]]:
    """Compare every length bucket with the eager packed pass; without CUDA the segments run without capture."""
    for name, build in models.items():
        for precision in GRAPHED:
            packed = PackedModel(build()).prepare(precision, device)
            model = GraphedModel(packed, capture=device.type == "cuda")
            rows = []
            for bucket in model.buckets:
                with torch.inference_mode():
                    difference = model.difference(bucket)
                row = {
                    "weights": name,
                    "precision": precision,
                    "bucket": bucket,
                    "captured": device.type == "cuda",
                    "difference": difference,
                    "tolerance": TOLERANCE[precision],
                    # in this form, NaN is a fault
                    "fault": None if difference <= TOLERANCE[precision] else f"differs by {difference:.1e} at {bucket}",
                }
                rows.append(row)
            yield f"{name} in {precision}", rows


def _compiled(
    options: CheckOptions, shape: Shape, device: torch.device, ends: float, stack: ExitStack
) -> Iterator[tuple[str, Rows]]:
    """Time a compiled stock model beside the captured dense one, or say why not."""
    row = TABLES[shape.layers][f"compiled-float16-{shape.layers}"]
    why = obstacle(row, device)
    if why is not None:
        print(f"eat gpu check: {row.name} is left out: {why}", file=sys.stderr, flush=True)
        yield from ((f"{length} tokens", []) for length in options.compiled)
        return
    names = (row.name, f"graphs-float16-{shape.layers}")
    engine = replace(_engine_options(options, shape, device), systems=names, lengths=tuple(options.compiled))
    fleet = Fleet(systems_of(engine, device)[0], engine, device, stack)

    def seconds() -> float:
        return min(options.case_seconds, 0.3 * (ends - time.monotonic()))

    yield from _engine(lambda: fleet, shape, options.compiled, 1, seconds)


def _imports(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    """Import the module that needs the wheels, which imports all of them."""
    try:
        import eat.study.loading  # noqa: F401
    except ImportError as error:
        here = platform.python_version()
        raise EatError(f"{error}; the bundle's wheels are for Python {manifest['python']}, this is {here}") from None
    yield "imports", [{"package": name, "version": version} for name, version in versions(LACKING).items()]


def _random_weights(shape: Shape) -> EatForSequenceClassification:
    return build_model(System("packed", "packed", shape.layers, attention="dense"), shape)


def _real_weights(folder: Path) -> EatForSequenceClassification:
    """A backbone with a random classifier, since it has none."""
    checkpoint = read_checkpoint(folder)
    model = _random_weights(checkpoint.shape)
    load_encoder(model.encoder, checkpoint, range(1, checkpoint.shape.layers + 1))
    return model


def _equality(
    weights: Mapping[str, Callable[[], EatForSequenceClassification]], options: CheckOptions, device: torch.device
) -> Iterator[tuple[str, Rows]]:
    """Compare texts of all lengths, one by one without a mask and all together with a mask, in each precision."""
    for name, build in weights.items():
        model = build()
        shape = model.encoder.shape
        stock = to_stock(model.encoder, [str(number) for number in range(shape.classes)])
        texts = random_texts(options.lengths, shape.vocabulary)
        batch_sizes = (1, len(texts))
        unit: dict[int, float] = {}
        for precision, tolerance in TOLERANCE.items():
            packed, theirs = PackedModel(copy.deepcopy(model)), copy.deepcopy(stock)
            packed.prepare(precision, device)
            prepare_stock(theirs, precision, device)
            runners = [LocalRunner(ready, ExitPolicy(), device) for ready in (packed, StockModel(theirs, device))]
            rows = []
            for size in batch_sizes:
                ours, expected = (_logits(runner, Case(None, size, texts)) for runner in runners)
                unit.setdefault(size, float(np.abs(expected).max()))  # float32 is the first
                difference = float(np.abs(ours - expected).max()) / unit[size]
                row = {
                    "weights": name,
                    "precision": precision,
                    "batch_size": size,
                    "lengths": list(options.lengths),
                    "difference": difference,
                    "tolerance": tolerance,
                    "largest_logit": unit[size],
                    # in this form, NaN is a fault
                    "fault": None if difference <= tolerance else f"differs by {difference:.1e} at batch {size}",
                }
                rows.append(row)
            yield f"{name} in {precision}", rows


def _logits(runner: LocalRunner, case: Case) -> np.ndarray:
    runner.load(case.name, case.batches("arrival"))
    return runner.answer(case.name).logits


def _engine_options(options: CheckOptions, shape: Shape, device: torch.device) -> EngineOptions:
    """The bench of a shape with every system of its depth except int8 and other runtimes."""
    names = tuple(
        name
        for name, row in TABLES[shape.layers].items()
        if row.layers == shape.layers
        and row.precision in TOLERANCE
        and row.engine in ("stock", "packed", "graphs", "export-cuda")
        and obstacle(row, device) is None
    )
    return EngineOptions(
        systems=names,
        lengths=tuple(options.lengths),
        batch_sizes=tuple(options.batch_sizes),
        threads=options.threads,
        rounds=options.rounds,
        memory=False,
        device=device.type,
        shape=shape,
        products=options.products,
    )


def _engine(
    fleet: Callable[[], Fleet], shape: Shape, lengths: Sequence[int], batch_size: int, seconds: Callable[[], float]
) -> Iterator[tuple[str, Rows]]:
    """The rows of the bench, length by length, each with the best rate of a matrix product, in GFLOP/s.

    A length at which the answers differ has no times; the next lengths are still measured.
    """
    runners = fleet()
    for number, length in enumerate(lengths, start=1):
        case = equal_case(length, batch_size, shape.vocabulary)
        try:
            rows, timed = runners.measure(case, seconds(), f"({number} of {len(lengths)})")
        except EatError as error:
            yield f"{length} tokens", [{"length": length, "batch_size": batch_size, "fault": str(error)}]
            continue
        best = best_product(timed, runners.products)
        rows += mixtures(timed, runners.systems, length, batch_size)
        yield f"{length} tokens", [{**row, "best_product_gflops": best} for row in rows]


def mixtures(timed: pd.DataFrame, systems: Sequence[System], length: int, batch_size: int) -> Rows:
    """The time of a text of which `EXIT_RATE` exit early, from the times of a text that does and of one that does not.

    One row for each adaptive system under graphs and each dense rival: the mean time by rounds, and its speed-up over
    the rival, the median of paired ratios with the interval over rounds.
    """
    medians, rows = round_medians(timed), []
    names = [system.name for system in systems]
    for system in systems:
        leaving = f"{system.name}-all-leave"
        if system.engine != "graphs" or leaving not in names:
            continue
        mean = EXIT_RATE * medians[leaving] + (1 - EXIT_RATE) * medians[system.name]
        layers, precision = system.layers, system.precision
        rivals = (f"hf-sdpa-{layers}", f"hf-{precision}-{layers}", f"graphs-{precision}-{layers}")
        for over in (name for name in rivals if name in names):
            ratio = median_ratio(medians[over].to_numpy(np.float64), mean.to_numpy(np.float64))
            rows.append(
                {
                    "system": f"{system.name} at {EXIT_RATE:.0%}",
                    "precision": precision,
                    "length": length,
                    "batch_size": batch_size,
                    "exit_rate": EXIT_RATE,
                    "ms_p50": float(mean.median()),
                    "over": over,
                    **ratio.columns("speedup_over"),
                }
            )
    return rows
