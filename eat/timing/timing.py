"""The clock: all systems and operating points of a task, in turn, over the same texts, in one process.

A speed-up is a ratio of two times taken moments apart on the same text, so that it holds on a shared machine where
absolute times do not. At batch 1 the texts are cut into small blocks; within a block every system runs in turn, in an
order drawn anew each time. At larger batches a block is a pass over all texts. What is answered while timed is compared
with the trace, so that the accuracy that is reported and the model that is timed cannot differ.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from eat.engines.devices import resolve_device
from eat.engines.precision import prepare, prepare_stock, require_usable
from eat.engines.requirements import left_out_stock
from eat.errors import EatError, listed
from eat.files import read_json, sha256_of
from eat.machine import BUSY, ForeignLoad, load_average, machine_facts, quiet, versions
from eat.model.cascade import CascadeEncoder, load_system
from eat.model.encoder import PackedBatch, PackedEncoder
from eat.model.exits import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.tokenizer import Encoded, encode_split, load_tokenizer, read_split
from eat.model.weights import STOCK_ATTENTION, to_stock
from eat.progress import Progress
from eat.results.replay import Replay, policies, replay
from eat.results.trace import Trace
from eat.study.stock import STOCK, STOCK_AGAIN, STOCK_SORTED, stock_variant
from eat.study.study import Study
from eat.study.timing import Timing

ALLOWED_SHARE = {"float32": 0.005, "float16": 0.005, "bfloat16": 0.02, "int8": 0.005}
"""The part of the texts that may be answered otherwise than in the trace, each at a tie that rounding can turn.

bfloat16 has 8 bits of precision: of 1,000 texts of a tiny random model with removals 7 were answered otherwise in
another batch.
"""

ALLOWED_MARGIN = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2, "int8": 1e-2}
"""How near to a tie (of threshold, classes, or a reducer's cut) a text must be to be answered otherwise.

In int8 a rounding error of float32 can move an activation by one step of 1/127.
"""


@dataclass(frozen=True)
class Answers:
    """What a call answered: the class and executed depth of each text, and the tokens that entered its FFNs."""

    classes: list[int]
    depth: list[int]
    tokens: list[int]


@dataclass
class Entry:
    """One thing that is timed: a system at an operating point.

    texts: the timed texts, as this system's tokenizer cuts them. run: texts to answers, the answers on the host when it
    returns. expected: the trace's answers, where there are any. sort: whether a block's texts are sorted by length
    first. only_batches: left out at batch 1.
    """

    system: str
    seed: int
    tau: float | None
    precision: str
    texts: list[Encoded]
    run: Callable[[list[Encoded]], Callable[[], Answers]]
    expected: Expected | None = None
    sort: bool = False
    only_batches: bool = False


@dataclass(frozen=True)
class Expected:
    """The trace's answers by text id, and how near to a tie each is."""

    replay: Replay
    tokens: np.ndarray
    margin: np.ndarray
    row: Mapping[str, int]


@dataclass
class TimingResult:
    """Every timed call, and what it was taken on."""

    calls: pd.DataFrame
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TimedSystem:
    """A trained system: its model folder (of a cascade one a member), its dev trace and what was calibrated.

    temperatures: layer -> T of its head. threshold: the one that keeps the system's promise, where it has one.
    """

    system: str
    seed: int
    models: Sequence[Path]
    trace: Path
    temperatures: Mapping[int, float]
    threshold: float | None = None


def time_task(study: Study, task: str, systems: Sequence[TimedSystem], dev: Path) -> TimingResult:
    """Time all systems of a task at all their thresholds, and the reference rows, over the same dev texts.

    Raises `EatError` where an answer differs from the trace by more than rounding can explain, and, before anything is
    timed, where the device is not there or a system's precision is of no use on it.
    """
    options = study.timing
    device = resolve_device(options.device, "timing.device")
    for timed in systems:
        require_usable(study.systems[timed.system].precision, device)
    left_out = left_out_stock(study, device)
    for name, reason in left_out.items():
        print(f"{task}: {name} is left out: {reason}", file=sys.stderr, flush=True)
    torch.set_num_threads(options.threads)
    reference = next(timed for timed in systems if timed.system == study.reference)
    texts = TimedTexts(dev, reference.models[0], study.tasks[task].max_length, options.texts)
    entries: list[Entry] = []
    with Progress("loaded", len(systems), "models", task) as progress:
        for timed in systems:
            if timed.system == study.reference:
                entries += _reference_entries(study, timed, texts, device)
            entries += _entries(study, timed, texts, device)
            progress.advance()
    before = load_average()
    with quiet(), ForeignLoad() as foreign:
        calls, agreement, busiest = _measure(entries, texts.ids, options, task)
    state = {
        "task": task,
        "date": datetime.now(UTC).date().isoformat(),
        "device": device.type,
        "left_out": left_out,
        "trained": trained_in(systems),
        "precisions": {entry.system: entry.precision for entry in entries},
        "threads": options.threads,
        "n_timed": len(texts.ids),
        "texts": texts.ids,
        "tokens_mean": float(np.mean([len(text.ids) for text in texts.encoded_for(reference.models[0])])),
        "tokenization_ms_per_text": texts.tokenization_ms(reference.models[0]),
        "load_average": [before, load_average()],
        "foreign_load": foreign.share,
        "foreign_load_busiest_block": busiest,
        "busy": foreign.share > BUSY,
        "machine": machine_facts(device),
        "versions": versions(("torch", "transformers", "numpy")),
        "stock_attention": STOCK_ATTENTION,
        "agreement": agreement,
    }
    return TimingResult(calls, state)


# --- what is timed ------------------------------------------------------------------------------------------------


def trained_in(systems: Sequence[TimedSystem]) -> dict[str, list[str]]:
    """In which precision and on which device the models of each system were trained, as they record it."""
    found: dict[str, dict[str, None]] = {}
    for timed in systems:
        for folder in timed.models:
            setting = read_json(folder / "config.json").get("trained")
            if setting:
                found.setdefault(timed.system, {})[f"{setting['precision']} on {setting['device']}"] = None
    return {system: list(settings) for system, settings in found.items()}


def _entries(study: Study, timed: TimedSystem, texts: TimedTexts, device: torch.device) -> list[Entry]:
    """The entries of one trained system: one a threshold."""
    row = study.systems[timed.system]
    model = load_system(timed.models, study.parts(timed.system))
    for member in model.members:
        prepare(member, row.precision, device)
    trace = Trace.read(timed.trace)
    entries = []
    for tau, policy in policies(study.operating_spec(timed.system), timed.temperatures, timed.threshold).items():
        run, expected = _packed(model.encoder, policy, device), _expected(trace, policy)
        encoded = texts.encoded_for(timed.models[0])
        entries.append(Entry(timed.system, timed.seed, tau, row.precision, encoded, run, expected))
    return entries


def _reference_entries(study: Study, timed: TimedSystem, texts: TimedTexts, device: torch.device) -> list[Entry]:
    """Stock `transformers` with the reference's weights, in several ways.

    Plain, once more (A/A) and sorted by length, in the reference's precision; in other precisions, and with more layers
    at random, for their latency alone. Stock rows whose precision is refused are left out.
    """
    model = load_model(timed.models[0], study.parts(timed.system))
    labels = [model.config.id2label[index] for index in range(len(model.config.id2label))]
    precision = study.systems[timed.system].precision
    encoded = texts.encoded_for(timed.models[0])

    def entry(name: str, model: EatForSequenceClassification, precision: str, **how: Any) -> Entry:
        stock = to_stock(model.encoder, labels)
        prepare_stock(stock, precision, device)
        return Entry(name, timed.seed, None, precision, encoded, _padded(stock, device), **how)

    plain = entry(STOCK, model, precision, expected=_expected(Trace.read(timed.trace), ExitPolicy()))
    entries = [
        plain,
        replace(plain, system=STOCK_AGAIN),
        replace(plain, system=STOCK_SORTED, sort=True, only_batches=True),
    ]
    others = [other for other in study.timing.stock if stock_variant(other) not in left_out_stock(study, device)]
    entries += [entry(stock_variant(other), model, other) for other in others]
    if study.timing.deep_layers:
        deep = _deeper(model, study.timing.deep_layers)
        entries.append(entry(stock_variant(study.timing.deep_layers), deep, precision))
    return entries


def _deeper(model: EatForSequenceClassification, layers: int) -> EatForSequenceClassification:
    """A dense model of the same width with so many layers, at random: for its latency alone."""
    config = model.config.__class__(
        **{
            **model.config.to_dict(),
            "shape": {**model.config.shape, "layers": layers},
            "exits": [layers],
        }
    )
    deep: EatForSequenceClassification = EatForSequenceClassification(config)
    deep.eval()
    return deep


def _packed(
    encoder: PackedEncoder | CascadeEncoder, policy: ExitPolicy, device: torch.device
) -> Callable[[list[Encoded]], Callable[[], Answers]]:
    def run(texts: list[Encoded]) -> Callable[[], Answers]:
        output = encoder(PackedBatch.of(texts, device), policy)
        classes = output.logits.argmax(dim=-1).tolist()

        def answers() -> Answers:
            tokens = [0] * len(classes)
            for work in output.work:
                for row, fed in zip(work.rows, work.fed, strict=True):
                    tokens[row] += fed
            return Answers(classes, output.depth, tokens)

        return answers

    return run


def _padded(model: PreTrainedModel, device: torch.device) -> Callable[[list[Encoded]], Callable[[], Answers]]:
    """A stock model on padded batches; a single text, and texts of one length, need no mask."""
    takes_types = model.config.model_type == "bert"
    layers = int(model.config.num_hidden_layers)

    def run(texts: list[Encoded]) -> Callable[[], Answers]:
        ids, types, mask = _pad(texts) if len(texts) > 1 else (texts[0].ids[None], texts[0].types[None], None)
        inputs: dict[str, Tensor] = {"input_ids": ids.to(device)}
        if takes_types:
            inputs["token_type_ids"] = types.to(device)
        if mask is not None:
            inputs["attention_mask"] = mask.to(device)
        classes = model(**inputs).logits.argmax(dim=-1).tolist()
        return lambda: Answers(classes, [layers] * len(classes), [layers * len(text.ids) for text in texts])

    return run


def _pad(texts: list[Encoded]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Ids, segments and mask, int64 (B, T); no mask where all texts are equally long."""
    ids = nn.utils.rnn.pad_sequence([text.ids for text in texts], batch_first=True)
    types = nn.utils.rnn.pad_sequence([text.types for text in texts], batch_first=True)
    lengths = torch.tensor([len(text.ids) for text in texts])
    if bool((lengths == ids.shape[1]).all()):
        return ids, types, None
    return ids, types, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


# --- the texts ----------------------------------------------------------------------------------------------------


class TimedTexts:
    """The dev texts that are timed, stratified by length and shuffled; cut by each system's own tokenizer.

    dev: the split. reference: the model folder whose tokenizer's lengths count. ids: the texts' ids, in order.
    """

    def __init__(self, dev: Path, reference: Path, max_length: int, count: int) -> None:
        self._table = read_split(dev)
        self._max_length = max_length
        self._encoded: dict[str, list[Encoded]] = {}
        every = encode_split(load_tokenizer(reference), self._table, max_length)
        self._table = self._table.iloc[stratified([len(text.ids) for text in every], count)]
        self.ids = [str(text) for text in self._table["id"]]

    def encoded_for(self, model: Path) -> list[Encoded]:
        """The texts as the tokenizer in a model's folder cuts them."""
        digest = sha256_of(model / "tokenizer.json")
        if digest not in self._encoded:
            self._encoded[digest] = encode_split(load_tokenizer(model), self._table, self._max_length)
        return self._encoded[digest]

    def tokenization_ms(self, model: Path) -> float:
        """The mean time to cut one text, taken one by one."""
        tokenizer = load_tokenizer(model)
        started = time.perf_counter()
        for row in range(len(self._table)):
            encode_split(tokenizer, self._table.iloc[[row]], self._max_length)
        return (time.perf_counter() - started) / len(self._table) * 1e3


def stratified(lengths: Sequence[int], count: int, seed: int = 0) -> list[int]:
    """`count` rows (all, where there are fewer) whose lengths are distributed as those of all, in a shuffled order."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    count = min(count, len(order))
    middle = (np.arange(count) + 0.5) / count * len(order)
    rows = [int(row) for row in order[middle.astype(int)]]
    random.Random(seed).shuffle(rows)
    return rows


# --- the protocol -------------------------------------------------------------------------------------------------


def _measure(
    entries: list[Entry], ids: list[str], options: Timing, task: str
) -> tuple[pd.DataFrame, list[dict[str, Any]], float]:
    """Warm up, then time every entry block by block at every batch size.

    Returns the calls, the comparison with the traces, and the largest share of the machine that others took in a block.
    """
    draw = random.Random(0)
    calls: list[dict[str, Any]] = []
    agreement: list[dict[str, Any]] = []
    busiest = 0.0
    with torch.inference_mode():
        for batch_size in options.batch_sizes:
            running = [entry for entry in entries if batch_size > 1 or not entry.only_batches]
            name = f"{task}, batch {batch_size}"
            warmup = [list(_warmup_batches(entry.texts, batch_size, options.warmup)) for entry in running]
            with Progress("warmed up with", sum(map(len, warmup)), "calls", name) as progress:
                for entry, batches in zip(running, warmup, strict=True):
                    for batch in batches:
                        entry.run(batch)
                        progress.advance()
            answers: list[dict[str, set[tuple[int, int, int]]]] = [{} for _ in running]
            rounds = _rounds(len(ids), batch_size, options, draw)
            count = len(running) * sum(len(rows) for _, _, rows in rounds)
            with Progress("timed", count, "answers", name) as progress:
                for repeat, block, rows in rounds:
                    order = list(range(len(running)))
                    draw.shuffle(order)
                    with ForeignLoad() as foreign:
                        for index in order:
                            at = Round(batch_size, repeat, block, rows)
                            calls += _time_round(running[index], at, ids, answers[index], progress)
                    busiest = max(busiest, foreign.share)
            for entry, given in zip(running, answers, strict=True):
                if entry.expected is not None:
                    agreement.append(compare(entry, given, batch_size))
    return pd.DataFrame(calls), agreement, busiest


@dataclass(frozen=True)
class Round:
    """What every entry runs in turn before the next: the rows (indices of texts) of a block in a repeat."""

    batch_size: int
    repeat: int
    block: int
    rows: list[int]


def _rounds(count: int, batch_size: int, options: Timing, draw: random.Random) -> list[tuple[int, int, list[int]]]:
    """(repeat, block, rows) in the order they are timed.

    At batch 1 the texts lie in fixed blocks of `block_texts`, so that a block is a unit to draw again for an interval;
    the blocks and the texts within them come in a new order each repeat. At larger batches each of `passes` rounds is
    a pass over all texts, which lets the baseline that sorts by length sort over all of them, as a user would.
    """
    everything = list(range(count))
    if batch_size > 1:
        return [(0, number, draw.sample(everything, count)) for number in range(options.passes)]
    rounds = []
    for repeat in range(options.repeats):
        blocks = list(enumerate(np.array_split(everything, -(-count // options.block_texts))))
        draw.shuffle(blocks)
        rounds += [(repeat, block, draw.sample(rows.tolist(), len(rows))) for block, rows in blocks]
    return rounds


def _warmup_batches(texts: list[Encoded], batch_size: int, at_least: int) -> Iterator[list[Encoded]]:
    """At batch 1 one text of every length in use, at least so many calls; else every text once, in batches."""
    if batch_size > 1:
        yield from (texts[start : start + batch_size] for start in range(0, len(texts), batch_size))
        return
    one_a_length = list({len(text.ids): text for text in texts}.values())
    for index in range(max(at_least, len(one_a_length))):
        yield [one_a_length[index % len(one_a_length)]]


def _time_round(
    entry: Entry, at: Round, ids: list[str], answers: dict[str, set[tuple[int, int, int]]], progress: Progress
) -> list[dict[str, Any]]:
    """Time one entry over one block; its answers go into `answers`, by text id, and are counted between the calls."""
    rows, size, texts = at.rows, at.batch_size, entry.texts
    if entry.sort:
        rows = sorted(rows, key=lambda row: len(texts[row].ids))
    if size == 1:
        entry.run([texts[rows[0]]])  # brings this model's weights back near the processor after the others ran
    key = {"seed": entry.seed, "system": entry.system, "tau": entry.tau, "batch_size": size}
    place = {"repeat": at.repeat, "block": at.block}
    calls = []
    total = 0
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        inputs = [texts[row] for row in batch]
        began = time.perf_counter_ns()
        finish = entry.run(inputs)
        elapsed = time.perf_counter_ns() - began
        found = finish()
        for row, *answer in zip(batch, found.classes, found.depth, found.tokens, strict=True):
            answers.setdefault(ids[row], set()).add((answer[0], answer[1], answer[2]))
        total += elapsed
        progress.advance(len(batch))
        if size == 1:
            calls.append({**key, **place, "unit": ids[batch[0]], "n": 1, "ms": elapsed / 1e6})
    if size > 1:
        calls.append({**key, **place, "unit": str(at.block), "n": len(rows), "ms": total / 1e6})
    return calls


# --- the gate -----------------------------------------------------------------------------------------------------


def _expected(trace: Trace, policy: ExitPolicy) -> Expected:
    """What the trace says the policy answers, and how near to a tie each answer is."""
    played = replay(trace, policy)
    layers = np.arange(trace.fed.shape[1])
    tokens = np.where(layers < played.depth[:, None], trace.fed, 0).sum(axis=1)
    return Expected(
        played, tokens, tie_margin(trace, policy, played), {str(text): row for row, text in enumerate(trace.ids)}
    )


def tie_margin(trace: Trace, policy: ExitPolicy, played: Replay) -> np.ndarray:
    """How far each text is from another answer, at the nearest of: threshold, best two classes, a reducer's cut; (N,).

    At the exits a text passed, the distance of the certainty to tau and of the two best probabilities counts; the
    latter at its last exit too. Cuts count by their relative gap, up to the layer after which the text left.
    """
    layers = np.arange(trace.cut_margin.shape[1])
    margin: np.ndarray = np.where(layers < played.depth[:, None], trace.cut_margin, np.inf).min(axis=1)
    for depth, logits in trace.logits.items():
        probabilities = policy.probabilities(depth, torch.from_numpy(logits))
        best = probabilities.topk(2, dim=-1).values.numpy()
        here = best[:, 0] - best[:, 1]
        if policy.tau is not None and depth < max(trace.logits):
            entropy = torch.special.entr(probabilities).sum(dim=-1).numpy() / np.log(logits.shape[1])
            if "entropy" in policy.rule:
                here = np.minimum(here, np.abs(1.0 - entropy - policy.tau))
            if "confidence" in policy.rule:
                here = np.minimum(here, np.abs(best[:, 0] - policy.tau))
        used = (depth <= played.depth) & (policy.may_leave or depth == max(trace.logits))
        margin = np.where(used, np.minimum(margin, here), margin)
    return margin


def compare(entry: Entry, answers: Mapping[str, set[tuple[int, int, int]]], batch_size: int) -> dict[str, Any]:
    """Compare what was answered while timed with the trace, text by text.

    answers: text id -> every answer given to it: class, executed depth, tokens that entered its feed-forward parts.
    Raises `EatError` where a text far from a tie differs, or more than one text and more than `ALLOWED_SHARE` do.
    """
    expected = entry.expected
    assert expected is not None
    different: list[str] = []
    unexplained: list[str] = []
    for text, given in answers.items():
        row = expected.row[text]
        wanted = (int(expected.replay.predictions[row]), int(expected.replay.depth[row]), int(expected.tokens[row]))
        if given != {wanted}:
            different.append(text)
            if expected.margin[row] >= ALLOWED_MARGIN[entry.precision]:
                unexplained.append(f"{text}: timed {listed(sorted(given - {wanted}))}, traced {wanted}")
    allowed = max(int(np.floor(ALLOWED_SHARE[entry.precision] * len(answers))), 1)
    point = f"{entry.system}{'' if entry.tau is None else f' at tau {entry.tau:g}'}, batch {batch_size}"
    if unexplained or len(different) > allowed:
        raise EatError(
            f"{point}: {len(different)} of {len(answers)} texts were answered otherwise while timed than in the trace "
            f"(class, depth, tokens; {'; '.join(unexplained[:3]) or 'each at a tie'}); {allowed} may be, and only at a "
            "tie; the model or the trace is not the one the other was made from: make both again"
        )
    return {
        "system": entry.system,
        "seed": entry.seed,
        "tau": entry.tau,
        "batch_size": batch_size,
        "compared": len(answers),
        "different": len(different),
        "allowed": allowed,
    }
