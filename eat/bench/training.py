"""`eat bench training`: tokens per second of a training step, packed against padded.

The same dense model, the same texts of mixed lengths in the same batches, the same optimiser (fused AdamW, gradients
clipped at norm 1, as `Trainer` does it by default): our encoder on packed rows against stock
`BertForSequenceClassification` on rows padded to the longest of the batch; stock with batches of like lengths
(`group_by_length` of `Trainer`, here over all texts) is also measured, and stock a second time (A/A). In a round each
makes one step on every batch, in a new random order. Tokens are those of the texts, without padding. The overhead of
`Trainer` (logging, moving batches) is not included.

Before the clock starts, without dropout, the first step's losses must agree to `SAME`, from the same weights on the
same batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eat import rounding
from eat.bench.inputs import Case, mixed_case
from eat.bench.measure import Turn, percentiles, round_medians, run_rounds, speedup
from eat.bench.plots import plot_training
from eat.bench.results import Findings, Watch, markdown
from eat.bench.systems import MINILM, SAME, randomise
from eat.engines.stock import padded
from eat.errors import EatError
from eat.machine import machine_facts, quiet
from eat.model.batch import PackedBatch
from eat.model.shape import Shape
from eat.model.tokenizer import Encoded
from eat.report.quantities import Quantity

BASE, AGAIN, GROUPED = "stock padded", "stock padded again", "stock grouped"
PACKED, PACKED_GROUPED = "packed", "packed grouped"

ORDERS = {BASE: "arrival", AGAIN: "arrival", GROUPED: "sorted", PACKED: "arrival", PACKED_GROUPED: "sorted"}
"""The ways to train -> the order in which they batch the texts."""

Batch = tuple[list[Encoded], Tensor]


@dataclass(frozen=True)
class TrainingOptions:
    """attention_dropout: 0 as in the studies of this project; above 0, PyTorch has no fast attention on a CPU."""

    batch_size: int = 32
    layers: int = 6
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 10
    seconds: float = 120.0
    dropout: float = 0.1
    attention_dropout: float = 0.0
    learning_rate: float = 5e-5
    shape: Shape = field(default=MINILM)


def bench_training(options: TrainingOptions) -> Findings:
    """Compare the first losses, then time steps. Raises `EatError` for bad options, and if the losses differ."""
    _check(options)
    shape = replace(
        options.shape,
        layers=options.layers,
        dropout=options.dropout,
        attention_dropout=options.attention_dropout,
        head_dropout=options.dropout,
    )
    case = mixed_case(options.batch_size, shape.vocabulary, shape.positions)
    rows: list[dict[str, Any]] = []
    raw: list[pd.DataFrame] = []
    with Watch() as watch:
        difference = first_losses(shape, case, options.learning_rate)
        for threads in options.threads:
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            turns = [Turn(name, turn) for name, turn in _turns(shape, case, options.learning_rate).items()]
            with quiet():
                timed = run_rounds(turns, options.rounds, options.seconds, label=f"{threads} threads")
            rows += _rows(timed, case, threads)
            raw.append(timed.assign(threads=threads))
    machine = machine_facts()
    table = pd.DataFrame(rows).assign(device="cpu", cpu=machine["cpu"], cores=machine["cores"])
    facts = {
        **watch.facts,
        "threads": list(options.threads),
        "device": "cpu",
        "batch_size": options.batch_size,
        "layers": options.layers,
        "dropout": options.dropout,
        "attention_dropout": options.attention_dropout,
        "loss_difference_at_step_1": difference,
    }
    quantities = (
        Quantity("Threads", "threads", rounding.count),
        Quantity("System", "system"),
        Quantity("Tokens/s", "tokens_per_s", rounding.throughput),
        Quantity("Speed-up", "speedup", rounding.speedup, ("speedup_low", "speedup_high")),
        Quantity("Share of padding (%)", "padding", rounding.percent),
    )
    text = (
        f"### A training step, batch {options.batch_size}, {options.layers} layers, mean length "
        f"{rounding.ratio(case.tokens / len(case.texts))}\n\n{markdown(table, quantities, 'training')}\n"
        f"Speed-up over `{BASE}`, median of paired ratios with a 95 % interval; `{AGAIN}` is the noise floor. The "
        f"losses of the first step agree to {SAME:g}.\n{watch.warning}"
    )
    return Findings(
        "training", {"training": table}, pd.concat(raw, ignore_index=True), text, lambda: plot_training(table), facts
    )


def _check(options: TrainingOptions) -> None:
    for value, name in (
        (options.batch_size, "a batch of"),
        (options.layers, "layers:"),
        (options.rounds, "rounds:"),
        *((threads, "threads:") for threads in options.threads),
    ):
        if value < 1:
            raise EatError(f"{name} {value}; give at least 1")
    if not options.threads:
        raise EatError("no number of threads is given; give at least one")
    for name in ("dropout", "attention_dropout"):
        if not 0 <= getattr(options, name) < 1:
            raise EatError(f"{name} {getattr(options, name)}; give at least 0 and less than 1")


def first_losses(shape: Shape, case: Case, learning_rate: float) -> float:
    """The difference of the two losses of the first step, without dropout. Raises `EatError` above `SAME`."""
    still = replace(shape, dropout=0.0, attention_dropout=0.0, head_dropout=0.0)
    batch = _batches(case, "arrival")[0]
    packed, stock = packed_step(still, learning_rate)(batch), stock_step(still, learning_rate)(batch)
    difference = abs(packed - stock)
    if not difference <= SAME:
        raise EatError(f"the losses of step 1 differ by {difference:.1e}: packed {packed:g}, stock {stock:g}")
    return difference


def _batches(case: Case, order: str) -> list[Batch]:
    """The batches of a case, with labels derived from the texts."""
    return [(texts, torch.tensor([int(text.ids.sum()) % 2 for text in texts])) for texts in case.batches(order)]


def _turns(shape: Shape, case: Case, learning_rate: float) -> dict[str, Callable[[int, bool], list[float]]]:
    """The ways to train, as turns: each has its own model and makes a step on every batch."""
    steps = {name: packed_step if name in (PACKED, PACKED_GROUPED) else stock_step for name in ORDERS}
    return {name: _timed(steps[name](shape, learning_rate), _batches(case, ORDERS[name])) for name in ORDERS}


def _timed(step: Callable[[Batch], float], batches: list[Batch]) -> Callable[[int, bool], list[float]]:
    def once() -> float:
        began = time.perf_counter_ns()
        for batch in batches:
            step(batch)
        return (time.perf_counter_ns() - began) / 1e6

    def turn(calls: int, warm: bool) -> list[float]:
        if warm:
            once()
        return [once() for _ in range(calls)]

    return turn


def packed_step(shape: Shape, learning_rate: float) -> Callable[[Batch], float]:
    """A training step of our encoder on packed rows; it maps texts and labels to the loss before the step."""
    model = _model(shape)
    model.train()

    def loss_of(texts: list[Encoded], labels: Tensor) -> Tensor:
        return F.cross_entropy(model.encoder(PackedBatch.of(texts)).exits[shape.layers], labels)

    return _step(model, loss_of, learning_rate)


def stock_step(shape: Shape, learning_rate: float) -> Callable[[Batch], float]:
    """The same of the stock class with the same weights, on padded rows."""
    from eat.model.weights import to_stock

    model = to_stock(_model(shape).encoder, ["0", "1"])
    # the export is for inference and has the dropout of the class
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = shape.dropout
    for layer in model.bert.encoder.layer:
        layer.attention.self.dropout.p = shape.attention_dropout
    model.config.attention_probs_dropout_prob = shape.attention_dropout
    model.train()

    def loss_of(texts: list[Encoded], labels: Tensor) -> Tensor:
        return F.cross_entropy(model(**padded(texts)).logits, labels)

    return _step(model, loss_of, learning_rate)


def _model(shape: Shape) -> Any:
    from eat.model.configuration import EatConfig
    from eat.model.hugging_face import EatForSequenceClassification

    model = EatForSequenceClassification(EatConfig(asdict(shape), last_head="bert"))
    randomise(model.encoder)
    return model


def _step(
    model: nn.Module, loss_of: Callable[[list[Encoded], Tensor], Tensor], learning_rate: float
) -> Callable[[Batch], float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, fused=True)

    def step(batch: Batch) -> float:
        loss = loss_of(*batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def _rows(timed: pd.DataFrame, case: Case, threads: int) -> list[dict[str, Any]]:
    medians = round_medians(timed)
    rows = []
    for name, order in ORDERS.items():
        times = percentiles(timed, name)
        cells = sum(len(batch) * max(len(text.ids) for text in batch) for batch in case.batches(order))
        rows.append(
            {
                "system": name,
                "threads": threads,
                "tokens_per_s": case.tokens / times["ms_p50"] * 1e3,
                **{f"epoch_{key}": value for key, value in times.items()},
                **speedup(medians, BASE, name).columns("speedup"),
                "padding": 0.0 if name in (PACKED, PACKED_GROUPED) else 1.0 - case.tokens / cells,
                "rounds": int(timed["round"].nunique()),
            }
        )
    return rows
