"""Peak memory of a call, in a fresh process for each system and case: `python -m eat.bench.memory`, driven by `Meter`.

A server imports the libraries once and forks. The child builds the system; its own child, for each case, frees the
memory that building left unused (`malloc_trim`), resets the kernel's record of the largest resident set (Linux, `5`
into `/proc/self/clear_refs`), runs one pass, and reads the record (`VmHWM`). So `call_mb` is the peak memory of a call
beyond libraries and weights, including scratch space of the matrix library, for every engine. `weights_mb` is the
growth of the resident set while the system was built. What a first call, of one text, allocates for good is in neither:
OpenVINO keeps the activations, so one text shows nothing. Until it has forked, nothing of the server or of the child
that builds runs on a second thread, since a fork would lose it. The resident set is counted in pages and grows by huge
pages on systems that use them: differences below a few MB mean nothing. Without the kernel's record (not on Linux)
both are empty.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eat.bench.processes import Worker, outcome, serve
from eat.bench.systems import System
from eat.errors import EatError
from eat.model.shape import Shape

MEGABYTE = 2**20


@dataclass(frozen=True)
class Memory:
    """Megabytes (2^20 bytes) of a system's weights, and of one pass at its peak; `None` if they cannot be measured."""

    weights_mb: float | None
    call_mb: float | None


class Meter:
    """The client of the server. onnx: the file of each system of ONNX Runtime and OpenVINO."""

    def __init__(self, shape: Shape, threads: int, onnx: Mapping[str, Path] | None = None) -> None:
        self._worker = Worker("eat.bench.memory")
        self._shape = shape
        self._threads = threads
        self._onnx = dict(onnx or {})

    def measure(self, system: System, cases: Sequence[Sequence[Sequence[int]]]) -> list[Memory]:
        """The memory of a system on each of these cases: lengths of the texts of each batch."""
        file = self._onnx.get(system.name)
        found = self._worker.ask(
            "measure",
            system=asdict(system),
            shape=asdict(self._shape),
            threads=self._threads,
            cases=cases,
            file=None if file is None else str(file),
        )
        return [Memory(*pair) for pair in found]

    def close(self) -> None:
        """End the server."""
        self._worker.close()


# --- the server ---------------------------------------------------------------------------------------------------


def _measure(
    system: dict[str, Any], shape: dict[str, Any], threads: int, cases: list[list[list[int]]], file: str | None
) -> list[list[float | None]]:
    """Build the system in this process; [weights_mb, call_mb] of each case."""
    from eat.bench.inputs import random_texts
    from eat.bench.runners import build_runner

    before = resident_mb()
    runner = None if file is not None else build_runner(System(**system), Shape(**shape))
    trim()
    weights = _grown(before, resident_mb())
    found = []
    for batches in cases:
        texts = [list(random_texts(lengths, shape["vocabulary"])) for lengths in batches]

        def call(texts: list[Any] = texts) -> list[float | None]:
            import torch

            torch.set_num_threads(threads)
            if runner is None:
                assert file is not None
                return _measure_onnx(System(**system), file, texts, threads)
            runner.load("short", [[texts[0][0]]])
            runner.load("case", texts)
            runner.time("short", 1, False)  # memory that the first call allocates for good
            return [weights, peak_of(lambda: runner.time("case", 1, False))]

        found.append(in_child(call))
    return found


def _measure_onnx(system: System, file: str, texts: list[list[Any]], threads: int) -> list[float | None]:
    from eat.bench.onnx_worker import open_model, run

    # libraries are loaded before memory is read
    if system.engine == "openvino":
        import openvino  # noqa: F401
    else:
        import eat.engines.onnx  # noqa: F401
    before = resident_mb()
    model = open_model(system, file, threads)
    trim()
    weights = _grown(before, resident_mb())
    batches = [[text.ids.numpy() for text in batch] for batch in texts]
    run(model, [batches[0][0]])
    return [weights, peak_of(lambda: [run(model, batch) for batch in batches])]


def peak_of(work: Any) -> float | None:
    """The growth of the resident set in megabytes, from before `work` to its peak while `work` ran."""
    trim()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    before = resident_mb()
    work()
    return _grown(before, resident_mb("VmHWM"))


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(after - before, 0.0)


def resident_mb(field: str = "VmRSS") -> float | None:
    """The resident set of this process now (`VmRSS`) or at its largest (`VmHWM`), in megabytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / MEGABYTE for line in lines if line.startswith(f"{field}:")), None)


def trim() -> None:
    """Return freed memory to the system, if the C library supports it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


def in_child(work: Any) -> Any:
    """What `work` returns, run in a fork of this process; JSON values only."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            with os.fdopen(write, "w", encoding="utf-8") as answers:
                json.dump(outcome(work), answers)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as answers:
        text = answers.read()
    _, status = os.waitpid(child, 0)
    if not text:
        raise EatError(
            f"a process ended with status {status} while its memory was measured; it may have run out of memory"
        )
    answer = json.loads(text)
    if "mistake" in answer:
        raise EatError(answer["mistake"])
    if "fault" in answer:
        raise RuntimeError(answer["fault"])
    return answer["answer"]


def main() -> None:
    """Import the modules that the children need, and answer requests until stdin ends."""
    import torch

    from eat.bench.runners import build_runner
    from eat.bench.systems import SYSTEMS
    from eat.model.shape import Shape

    torch.set_num_threads(1)
    # imports the modules that building needs, once
    for name in ("hf-sdpa-6", "packed-6", "onnx-int8-6"):
        build_runner(SYSTEMS[name], Shape(vocabulary=8, hidden=8, heads=1, intermediate=8, positions=8))
    trim()
    serve({"measure": lambda **request: in_child(partial(_measure, **request))})


if __name__ == "__main__":
    main()
