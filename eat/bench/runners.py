"""One system, loaded with texts and timed pass by pass: in this process, or in that of ONNX Runtime.

A pass starts with token ids on the host and ends with the classes on the host, so packing, padding and the way to a
device and back are on the clock. On a device the clock starts and stops when all work that was given to it is done.
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
from torch import Tensor, nn

from eat.bench.inputs import Case
from eat.bench.processes import Worker
from eat.bench.systems import System, build_packed, build_stock
from eat.model.encoder import PackedBatch, PackedEncoder
from eat.model.exits import ExitPolicy
from eat.model.shape import Shape
from eat.model.tokenizer import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Answers:
    """What a system says of a case's texts in the order of arrival, and what it executed for it.

    logits: float (N, C). depth: mean layers a text. gflop: of all texts, without padding, in 10^9.
    """

    logits: npt.NDArray[np.floating]
    depth: float
    gflop: float


class Runner(Protocol):
    """What is timed. `load` comes first; `key` names a case in an order."""

    def load(self, key: str, batches: list[list[Encoded]]) -> None:
        """Keep the batches of a case."""

    def answer(self, key: str) -> Answers:
        """Run them once, off the clock."""

    def time(self, key: str, calls: int, warm: bool) -> list[float]:
        """Milliseconds of each of so many passes over them; with `warm`, after one that is not timed."""


class TorchRunner:
    """A system in this process. logits_of: texts to logits (B, C). details_of: to logits, each text's depth, GFLOP.

    device: where it computes.
    """

    def __init__(
        self,
        logits_of: Callable[[list[Encoded]], Tensor],
        details_of: Callable[[list[Encoded]], tuple[Tensor, list[int], float]],
        device: torch.device,
    ) -> None:
        self._logits_of = logits_of
        self._details_of = details_of
        self._device = device
        self._batches: dict[str, list[list[Encoded]]] = {}

    def load(self, key: str, batches: list[list[Encoded]]) -> None:
        """As `Runner`."""
        self._batches[key] = batches

    def answer(self, key: str) -> Answers:
        """As `Runner`."""
        with torch.inference_mode():
            found = [self._details_of(batch) for batch in self._batches[key]]
        return Answers(
            torch.cat([logits for logits, _, _ in found]).float().cpu().numpy(),
            float(np.mean([depth for _, depths, _ in found for depth in depths])),
            sum(gflop for _, _, gflop in found),
        )

    def time(self, key: str, calls: int, warm: bool) -> list[float]:
        """As `Runner`."""
        batches = self._batches[key]

        def once() -> None:
            for batch in batches:
                self._logits_of(batch).argmax(dim=-1).tolist()

        with torch.inference_mode():
            if warm:
                once()
            return [timed(once, self._device) for _ in range(calls)]


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Milliseconds from when a device has nothing left to do until it has done this work."""
    _wait_for(device)
    began = time.perf_counter_ns()
    work()
    _wait_for(device)
    return (time.perf_counter_ns() - began) / 1e6


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def packed_runner(encoder: PackedEncoder, policy: ExitPolicy, device: torch.device) -> TorchRunner:
    """Our encoder at an operating point."""

    def details(texts: list[Encoded]) -> tuple[Tensor, list[int], float]:
        output = encoder(PackedBatch.of(texts, device), policy)
        shape, pattern = encoder.shape, encoder.pattern
        flop = head_flop(shape) * len(texts)
        for work in output.work:
            pairs = sum(pattern.computed_pairs(length) for length in work.attended)
            flop += layer_flop(shape, sum(work.attended), sum(work.fed), pairs)
        return output.logits, output.depth, flop / 1e9

    return TorchRunner(lambda texts: encoder(PackedBatch.of(texts, device), policy).logits, details, device)


def stock_runner(model: PreTrainedModel, shape: Shape, device: torch.device) -> TorchRunner:
    """A stock `transformers` model on padded batches; texts of one length need no mask."""
    takes_types = model.config.model_type == "bert"

    def logits_of(texts: list[Encoded]) -> Tensor:
        inputs = padded(texts)
        if not takes_types:
            del inputs["token_type_ids"]
        logits: Tensor = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits
        return logits

    def details(texts: list[Encoded]) -> tuple[Tensor, list[int], float]:
        return logits_of(texts), [shape.layers] * len(texts), dense_gflop(shape, texts)

    return TorchRunner(logits_of, details, device)


def padded(texts: list[Encoded]) -> dict[str, Tensor]:
    """What a stock model takes, int64 (B, T) each; no mask where all texts are equally long."""
    if len(texts) == 1:
        return {"input_ids": texts[0].ids[None], "token_type_ids": texts[0].types[None]}
    ids = nn.utils.rnn.pad_sequence([text.ids for text in texts], batch_first=True)
    types = nn.utils.rnn.pad_sequence([text.types for text in texts], batch_first=True)
    inputs = {"input_ids": ids, "token_type_ids": types}
    lengths = torch.tensor([len(text.ids) for text in texts])
    if bool((lengths < ids.shape[1]).any()):
        inputs["attention_mask"] = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return inputs


class OnnxRunner:
    """A system in the process of ONNX Runtime."""

    def __init__(self, worker: Worker, system: System, shape: Shape, path: Path, threads: int) -> None:
        self._worker = worker
        self._name = system.name
        self._shape = shape
        self._gflop: dict[str, float] = {}
        worker.ask("make", system=asdict(system), shape=asdict(shape), path=str(path))
        worker.ask("open", name=system.name, path=str(path), threads=threads)

    def load(self, key: str, batches: list[list[Encoded]]) -> None:
        """As `Runner`."""
        self._gflop[key] = sum(dense_gflop(self._shape, batch) for batch in batches)
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
    """A float32 matrix product of this process: what a device gives at best. gflop: of one product, in 10^9."""

    def __init__(self, rows: int, inner: int, columns: int, device: torch.device) -> None:
        generator = torch.Generator(device=device).manual_seed(0)
        self._device = device
        self._left = torch.randn(rows, inner, generator=generator, device=device)
        self._right = torch.randn(inner, columns, generator=generator, device=device)
        self._out = torch.empty(rows, columns, device=device)
        self.gflop = 2 * rows * inner * columns / 1e9

    def time(self, calls: int) -> list[float]:
        """Milliseconds of each of so many products, after one that is not timed."""

        def once() -> None:
            torch.mm(self._left, self._right, out=self._out)

        with torch.inference_mode():
            once()
            return [timed(once, self._device) for _ in range(calls)]


CPU = torch.device("cpu")


def build_runner(system: System, shape: Shape, device: torch.device = CPU) -> TorchRunner:
    """The runner of a system of this process, on a device."""
    if system.engine == "packed":
        model, policy = build_packed(system, shape, device)
        return packed_runner(model.encoder, policy, device)
    stock = build_stock(system, shape, device)
    config = stock.config
    kind = config.model_type == "bert"
    own = Shape(
        hidden=config.hidden_size if kind else config.dim,
        layers=config.num_hidden_layers,
        intermediate=config.intermediate_size if kind else config.hidden_dim,
        classes=config.num_labels,
    )
    return stock_runner(stock, own, device)


# --- floating-point operations ------------------------------------------------------------------------------------


def layer_flop(shape: Shape, attended: int, fed: int, pairs: int) -> float:
    """Operations of a layer: 8 d^2 a + 4 d s + 4 d m f, as `eat.results.flops` counts them."""
    return 8.0 * shape.hidden**2 * attended + 4.0 * shape.hidden * pairs + 4.0 * shape.hidden * shape.intermediate * fed


def head_flop(shape: Shape) -> float:
    """Operations of the last head for one text: 2 d^2 + 2 d C."""
    return 2.0 * shape.hidden**2 + 2.0 * shape.hidden * shape.classes


def dense_gflop(shape: Shape, texts: list[Encoded]) -> float:
    """Operations of a dense model on texts, without padding, in 10^9."""
    lengths = [len(text.ids) for text in texts]
    pairs = sum(length * length for length in lengths)
    layers = shape.layers * layer_flop(shape, sum(lengths), sum(lengths), pairs)
    return (layers + len(texts) * head_flop(shape)) / 1e9


def key_of(case: Case, order: str) -> str:
    """Under which name a runner keeps a case in an order."""
    return f"{case.name} x {case.batch_size}, {order}"
