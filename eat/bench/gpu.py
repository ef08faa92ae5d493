"""`eat gpu check`: a three-minute check of the engine on a GPU (docs/gpu.md).

Each part has its own file, which is rewritten after each of its cases, with the GPU and the package versions:

packages.json  the packages of the bundle that are imported
equality.json  logits of the packed forward pass against those of stock `transformers`, in each precision
engine-{shape}-batch-{size}.json  the rows of `eat bench engine`
check.json     which cases of each part are done, which failed, and which are left out
"""

from __future__ import annotations

import copy
import json
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import torch

from eat.bench.bundle import BUNDLE, MANIFEST, PACK, WEIGHTS, opened
from eat.bench.engine_options import EngineOptions, obstacle, systems_of
from eat.bench.engine_table import best_product
from eat.bench.fleet import Fleet
from eat.bench.inputs import Case, equal_case, random_texts
from eat.bench.results import PACKAGES
from eat.bench.runners import LocalRunner
from eat.bench.systems import SAME, SHAPES, TABLES, System, build_model
from eat.engines.devices import resolve_device
from eat.engines.packed import PackedModel
from eat.engines.precision import prepare_stock
from eat.engines.stock import StockModel
from eat.errors import EatError, listed
from eat.files import write_json
from eat.machine import machine_facts, versions
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.shape import Shape
from eat.model.weights import load_encoder, read_checkpoint, to_stock
from eat.prepare.packages import digest_of_files

LACKING = ("pydantic", "pydantic_core", "annotated-types", "typing-inspection", "wrapt")
"""The packages of the bundle's wheels."""

TOLERANCE = {"float32": SAME, "float16": 1e-2, "bfloat16": 8e-2}
"""The tolerance of the logits, relative to the largest logit of the stock model in float32.

Float32 has the tolerance of the rest of the bench. Float16 rounds to 11 bits, in relative steps of 2^-11 or 5e-4. Both
models round after each operation, in a different order, and the errors of 12 layers add up to a few steps; 20 are
allowed. Bfloat16 has 3 bits less, so 8 times as much. The tolerance is relative because rounding is.
"""


@dataclass(frozen=True)
class CheckOptions:
    """out: the folder of the files. bundle: the folder that `eat.bench.bundle` made. seconds: when the check stops.

    case_seconds: the time after which a case starts no further round; less if time is short. products: the sizes of the
    matrix products, `None` for the defaults of the device.
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
    )


Rows = list[dict[str, Any]]


@dataclass
class Part:
    """A part of the check. left: the remaining cases. work: yields the name and rows of each case when it ends."""

    left: list[str]
    work: Callable[[], Iterator[tuple[str, Rows]]]
    rows: Rows = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class TimeIsUp(BaseException):
    """Raised when the time is up. It is a `BaseException`, so that no `except Exception` catches it."""


AGAIN_SECONDS = 0.5
"""The time after which `TimeIsUp` is raised again if it did not end the measurement."""


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
            _report(f"{options.bundle}: no bundle, so real weights are skipped; {PACK}")
        parts = _parts(options, device, manifest, ends, stack)
        options.out.mkdir(parents=True, exist_ok=True)
        for pattern in ("packages.json", "equality.json", "engine-*-batch-*.json"):
            for earlier in options.out.glob(pattern):
                earlier.unlink()  # the folder contains one check only
        facts = _facts(options, device)
        _write_summary(options.out, facts, parts)
        try:
            with _alarm(ends):
                for name, part in parts.items():
                    _report(f"{name}: {len(part.left)} cases")
                    _run_part(name, part, options.out, facts, parts)
        except TimeIsUp:
            _report("the time is up")
        _write_summary(options.out, facts, parts)
    for name, part in parts.items():
        states = (["failed"] if part.failed else []) + ([f"left out: {listed(part.left)}"] if part.left else [])
        print(f"{name}: {', '.join(states) or 'done'}")
    print(f"Written to {options.out}.")
    failed = [f"{name}, {line.splitlines()[-1]}" for name, part in parts.items() for line in part.failed]
    if failed:
        raise EatError(f"{'; '.join(failed)}; see {options.out / 'check.json'}")


def _run_part(name: str, part: Part, out: Path, facts: dict[str, Any], parts: Mapping[str, Part]) -> None:
    """Run a part until it ends or fails, and write its rows after each case."""
    try:
        for case, rows in part.work():
            part.rows += rows
            part.left.remove(case)
            part.failed += [f"{case}: {row['fault']}" for row in rows if row.get("fault")]
            # pandas writes NaN as null
            found = json.loads(pd.DataFrame(part.rows).to_json(orient="records", double_precision=15))
            write_json(out / f"{name}.json", {**facts, "part": name, "left_out": part.left, "rows": found})
            _write_summary(out, facts, parts)
            _report(f"{name}, {case}: {_in_short(rows)}")
    except EatError as error:
        part.failed.append(f"{listed(part.left[:1])}: {error}")
    except Exception:  # the other parts can still be measured
        part.failed.append(f"{listed(part.left[:1])}: {traceback.format_exc().strip()}")


def _report(text: str) -> None:
    print(f"eat gpu check: {text}", file=sys.stderr, flush=True)


def _in_short(rows: Rows) -> str:
    """A summary of a case in one line."""
    faults = [row["fault"] for row in rows if row.get("fault")]
    if faults:
        return "; ".join(faults)
    if "ms_p50" in rows[0]:
        return ", ".join(f"{row['system']} {row['ms_p50']:.3g} ms" for row in rows)
    if "difference" in rows[0]:
        return ", ".join(f"{row['difference']:.1e} at batch {row['batch_size']}" for row in rows)
    return ", ".join(f"{row['package']} {row['version']}" for row in rows)


def _write_summary(out: Path, facts: dict[str, Any], parts: Mapping[str, Part]) -> None:
    state = {name: {"left_out": part.left, "failed": part.failed} for name, part in parts.items()}
    write_json(out / "check.json", {**facts, "parts": state})


def _facts(options: CheckOptions, device: torch.device) -> dict[str, Any]:
    """The facts in every file: date, machine and code of the measurement."""
    root = Path(__file__).parent.parent
    code = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.py")}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device.type,
        "machine": machine_facts(device),
        "versions": versions((*PACKAGES, "pydantic")),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "threads": options.threads,
        "code_sha256": digest_of_files(code),
        "seconds": options.seconds,
    }


@contextmanager
def _alarm(ends: float) -> Iterator[None]:
    """Raise `TimeIsUp` in the block at a given time of `time.monotonic`."""

    def stop(*_: object) -> NoReturn:
        # Python discards an exception that is raised in a callback of the garbage collector or a finalizer: try again
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(ends - time.monotonic(), 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


# --- the parts ----------------------------------------------------------------------------------------------------


def _parts(
    options: CheckOptions, device: torch.device, manifest: Mapping[str, Any] | None, ends: float, stack: ExitStack
) -> dict[str, Part]:
    """All parts, the most important first: equality, then batch 1 of each shape, then larger batches."""
    parts: dict[str, Part] = {}
    if manifest is not None:
        parts["packages"] = Part(["imports"], partial(_imports, manifest))
    weights = {name: partial(_random_weights, shape) for name, shape in options.shapes.items()}
    if manifest is not None:
        weights = {f"{WEIGHTS} of the bundle": partial(_real_weights, options.bundle / WEIGHTS), **weights}
    cases = [f"{name} in {precision}" for name in weights for precision in TOLERANCE]
    parts["equality"] = Part(cases, partial(_equality, weights, options, device))

    def seconds() -> float:
        """The seconds for the next case: its share of the remaining time, less the warm-up."""
        left = sum(len(part.left) for name, part in parts.items() if name.startswith("engine-"))
        return min(options.case_seconds, 0.6 * (ends - time.monotonic()) / left)

    @cache
    def fleet(name: str) -> Fleet:
        engine = _engine_options(options, options.shapes[name], device)
        return Fleet(systems_of(engine, device)[0], engine, device, stack)

    for size in options.batch_sizes:
        for name in options.shapes:
            cases = [f"{length} tokens" for length in options.lengths]
            work = partial(_engine, partial(fleet, name), options.shapes[name], options.lengths, size, seconds)
            parts[f"engine-{name}-batch-{size}"] = Part(cases, work)
    return parts


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
        and row.engine in ("stock", "packed")
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
        yield f"{length} tokens", [{**row, "best_product_gflops": best} for row in rows]
