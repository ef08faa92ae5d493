"""ONNX Runtime in a process of its own, `python -m eat.bench.onnx_worker`, driven by `runners.ExportRunner`.

Its threads spin while they wait for work, which would disturb other code in the same process. They stop when a call
ends, and only one of the two processes works at a time.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eat.bench.processes import serve

Integers = npt.NDArray[np.int64]

HANDOVER = 0.005
"""Seconds to wait at the start of a turn, until the threads of the other process are asleep."""


class Sessions:
    """The models of this process, and their loaded texts."""

    def __init__(self) -> None:
        self._sessions: dict[str, Any] = {}
        self._texts: dict[str, list[list[Integers]]] = {}

    def make(self, system: dict[str, Any], shape: dict[str, Any], path: str) -> None:
        """Write the ONNX file of a system."""
        from eat.bench.onnx_model import write_onnx
        from eat.bench.systems import System, build_stock
        from eat.model.shape import Shape

        row = System(**{**system, "precision": "float32", "attention": "eager", "engine": "stock"})
        write_onnx(build_stock(row, Shape(**shape)), system["precision"], Path(path))

    def open(self, name: str, path: str, threads: int) -> None:
        """Load a model and switch off garbage collection, which would take longer than most turns."""
        from eat.engines.onnx import open_session

        gc.collect()
        gc.disable()
        self._sessions[name] = open_session(path, threads)

    def load(self, key: str, batches: list[list[list[int]]]) -> None:
        """Keep texts as token ids: batches of texts."""
        self._texts[key] = [[np.array(ids, dtype=np.int64) for ids in batch] for batch in batches]

    def answer(self, name: str, key: str) -> list[list[float]]:
        """The logits of all texts, (N, C)."""
        logits = [run(self._sessions[name], batch) for batch in self._texts[key]]
        return [[float(value) for value in row] for row in np.concatenate(logits)]

    def time(self, name: str, key: str, calls: int, warm: bool) -> list[float]:
        """Milliseconds of each pass over all batches: ids on the host to classes on the host."""
        time.sleep(HANDOVER)
        session, batches = self._sessions[name], self._texts[key]

        def once() -> float:
            began = time.perf_counter_ns()
            for batch in batches:
                run(session, batch).argmax(axis=-1).tolist()
            return (time.perf_counter_ns() - began) / 1e6

        if warm:
            once()
        return [once() for _ in range(calls)]


def run(session: Any, batch: list[Integers]) -> npt.NDArray[np.float32]:
    """Texts as token ids to logits (B, C), padded to the longest."""
    longest = max(len(ids) for ids in batch)
    padded = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros_like(padded)
    for row, ids in enumerate(batch):
        padded[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    logits: npt.NDArray[np.float32] = session.run(None, {"ids": padded, "mask": mask, "types": np.zeros_like(padded)})[
        0
    ]
    return logits


def main() -> None:
    """Answer requests until stdin ends."""
    sessions = Sessions()
    serve(
        {
            "make": sessions.make,
            "open": sessions.open,
            "load": sessions.load,
            "answer": sessions.answer,
            "time": sessions.time,
        }
    )


if __name__ == "__main__":
    main()
