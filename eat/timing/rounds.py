"""The protocol: every entry runs in turn on small blocks of texts, in a new random order each time.

A speed-up is a ratio of two times measured moments apart on the same text, so that it is valid on a shared machine even
if absolute times are not. At batch 1 the texts are divided into small blocks; within a block every system runs in turn.
At larger batches a block is a pass over all texts, or over a new sample of them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from eat.machine import ForeignLoad
from eat.model.tokenizer import Encoded
from eat.progress import Progress
from eat.study.timing import Timing
from eat.timing.agreement import compare
from eat.timing.entry import Entry


def measure(
    entries: list[Entry], ids: list[str], options: Timing, task: str
) -> tuple[pd.DataFrame, list[dict[str, Any]], float]:
    """Warm up, then time every entry block by block at every batch size.

    Returns the calls, the comparison with the traces, and the largest share of the machine that other processes used in
    a block.
    """
    draw = random.Random(0)
    calls: list[dict[str, Any]] = []
    agreement: list[dict[str, Any]] = []
    busiest = 0.0
    with torch.inference_mode():
        for batch_size in options.batch_sizes:
            running = [entry for entry in entries if entry.is_timed_at(batch_size)]
            name = f"{task}, batch {batch_size}"
            warmup = _warmup(running, batch_size, options)
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
    """The unit that every entry runs in turn: the rows (indices of texts) of a block in a repeat."""

    batch_size: int
    repeat: int
    block: int
    rows: list[int]


def _rounds(count: int, batch_size: int, options: Timing, draw: random.Random) -> list[tuple[int, int, list[int]]]:
    """(repeat, block, rows) in the order they are timed.

    At batch 1 the texts are in fixed blocks of `block_texts`, so that a block is a unit of resampling;
    the blocks and the texts within them come in a new order each repeat. At larger batches each of `passes` rounds is
    a pass over all texts or over `pass_texts` of them, within which the baseline that sorts by length sorts.
    """
    everything = list(range(count))
    if batch_size > 1:
        drawn = min(count, options.pass_texts or count)
        return [(0, number, draw.sample(everything, drawn)) for number in range(options.passes)]
    rounds = []
    for repeat in range(options.repeats):
        blocks = list(enumerate(np.array_split(everything, -(-count // options.block_texts))))
        draw.shuffle(blocks)
        rounds += [(repeat, block, draw.sample(rows.tolist(), len(rows))) for block, rows in blocks]
    return rounds


def _warmup(entries: list[Entry], batch_size: int, options: Timing) -> list[list[list[Encoded]]]:
    """For each entry the batches it runs before the clock starts.

    The operating points of a model share its weights and shapes. The last of them, which has the highest threshold and
    executes the most layers, runs all batches; the others run one.
    """
    warm: set[tuple[str, int]] = set()
    found: list[list[list[Encoded]]] = []
    for entry in reversed(entries):
        model = entry.system, entry.seed
        texts = entry.texts if batch_size == 1 else entry.texts[: options.pass_texts]  # they are in a shuffled order
        batches = _warmup_batches(texts, batch_size, options.warmup)
        found.append([next(batches)] if model in warm else list(batches))
        warm.add(model)
    return found[::-1]


def _warmup_batches(texts: list[Encoded], batch_size: int, at_least: int) -> Iterator[list[Encoded]]:
    """At batch 1 one text of every length, at least `at_least` calls; else every text once, in batches."""
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
        entry.run([texts[rows[0]]])  # loads this model's weights into the caches after the others ran
    key = {"seed": entry.seed, "system": entry.system, "tau": entry.tau, "batch_size": size}
    place = {"repeat": at.repeat, "block": at.block}
    calls = []
    total = 0
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        inputs = [texts[row] for row in batch]
        began = time.perf_counter_ns()
        found = entry.run(inputs)
        elapsed = time.perf_counter_ns() - began
        for row, *answer in zip(batch, found.classes, found.depth(), found.tokens(), strict=True):
            answers.setdefault(ids[row], set()).add((answer[0], answer[1], answer[2]))
        total += elapsed
        progress.advance(len(batch))
        if size == 1:
            calls.append({**key, **place, "unit": ids[batch[0]], "n": 1, "ms": elapsed / 1e6})
    if size > 1:
        calls.append({**key, **place, "unit": str(at.block), "n": len(rows), "ms": total / 1e6})
    return calls
