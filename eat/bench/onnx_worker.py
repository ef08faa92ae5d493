"""ONNX Runtime or OpenVINO in its own process, `python -m eat.bench.onnx_worker`, driven by `runners.ExportRunner`.

Their threads spin while they wait for work, which would disturb other code in the same process. They stop when a call
ends, and only one process works at a time.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eat.bench.processes import serve
from eat.errors import EatError

if TYPE_CHECKING:
    from eat.bench.systems import System

Integers = npt.NDArray[np.int64]

Model = Callable[[dict[str, Integers]], npt.NDArray[np.float32]]
"""The inputs `ids`, `mask` and `types` to logits (B, C)."""

HANDOVER = 0.005
"""Seconds to wait at the start of a turn, until the threads of the other processes are asleep."""


def open_model(system: System, path: str, threads: int) -> Model:
    """The file of a system in ONNX Runtime or OpenVINO.

    Raises `EatError` if it would run on the CPU in place of the GPU: ONNX Runtime then only logs a warning.
    """
    if system.engine == "openvino":
        return _open_openvino(path, system.precision, threads)
    from eat.engines.onnx import open_session

    session = _open_on_gpu(path, system.name) if system.engine == "export-cuda" else open_session(path, threads)
    return lambda inputs: session.run(None, inputs)[0]


def _open_on_gpu(path: str, name: str) -> Any:
    """A session of ONNX Runtime on a GPU."""
    import onnxruntime

    from eat.bench.engine_options import CUDA_PROVIDER

    session = onnxruntime.InferenceSession(path, providers=[CUDA_PROVIDER])
    if session.get_providers()[0] != CUDA_PROVIDER:
        raise EatError(f"{name}: ONNX Runtime found no GPU; its CUDA provider may lack a library")
    return session


def _open_openvino(path: str, precision: str, threads: int) -> Model:
    """One call at a time, as fast as it can; lengths and batch sizes may vary from call to call."""
    from openvino import Core

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # without it float32 would be bfloat16 where the processor has it
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    request = Core().compile_model(path, "CPU", options).create_infer_request()
    return lambda inputs: request.infer(inputs, share_inputs=True)[0]


class Models:
    """The models of this process, and their loaded texts."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._texts: dict[str, list[list[Integers]]] = {}

    def make(self, system: dict[str, Any], shape: dict[str, Any], path: str) -> None:
        """Write the ONNX file of a system."""
        from eat.bench.onnx_model import write_onnx, write_openvino
        from eat.bench.systems import System, build_stock
        from eat.model.shape import Shape

        row = System(**{**system, "precision": "float32", "attention": "eager", "engine": "stock"})
        write = write_openvino if system["engine"] == "openvino" else write_onnx
        write(build_stock(row, Shape(**shape)), system["precision"], Path(path))

    def open(self, system: dict[str, Any], path: str, threads: int) -> None:
        """Load a model and switch off garbage collection, which would take longer than most turns."""
        from eat.bench.systems import System

        gc.collect()
        gc.disable()
        self._models[system["name"]] = open_model(System(**system), path, threads)

    def load(self, key: str, batches: list[list[list[int]]]) -> None:
        """Keep texts as token ids: batches of texts."""
        self._texts[key] = [[np.array(ids, dtype=np.int64) for ids in batch] for batch in batches]

    def answer(self, name: str, key: str) -> list[list[float]]:
        """The logits of all texts, (N, C)."""
        logits = [run(self._models[name], batch) for batch in self._texts[key]]
        return [[float(value) for value in row] for row in np.concatenate(logits)]

    def time(self, name: str, key: str, calls: int, warm: bool) -> list[float]:
        """Milliseconds of each pass over all batches: ids on the host to classes on the host."""
        time.sleep(HANDOVER)
        model, batches = self._models[name], self._texts[key]

        def once() -> float:
            began = time.perf_counter_ns()
            for batch in batches:
                run(model, batch).argmax(axis=-1).tolist()
            return (time.perf_counter_ns() - began) / 1e6

        if warm:
            once()
        return [once() for _ in range(calls)]


def run(model: Model, batch: list[Integers]) -> npt.NDArray[np.float32]:
    """Texts as token ids to logits (B, C), padded to the longest."""
    longest = max(len(ids) for ids in batch)
    padded = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros_like(padded)
    for row, ids in enumerate(batch):
        padded[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return model({"ids": padded, "mask": mask, "types": np.zeros_like(padded)})


def main() -> None:
    """Answer requests until stdin ends."""
    models = Models()
    serve(
        {
            "make": models.make,
            "open": models.open,
            "load": models.load,
            "answer": models.answer,
            "time": models.time,
        }
    )


if __name__ == "__main__":
    main()
