"""The clock of taggers: every system at every operating point in turn on the same sentences, at batch size 1.

A speed-up is a ratio of two times measured moments apart on the same sentence. The sentences are divided into blocks;
within a block every entry runs in turn, in a new random order each time. The stock model of `transformers` runs twice,
as two entries: the ratio of the two is the noise floor. Timed answers are compared with the trace.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from eat.errors import EatError, listed
from eat.machine import BUSY, ForeignLoad, load_average, machine_facts, quiet, versions
from eat.model.tokenizer import load_tokenizer
from eat.model.weights import STOCK_ATTENTION
from eat.progress import Progress
from eat.study.stock import STOCK, STOCK_AGAIN
from eat.study.tagging import Point, TaggingStudy
from eat.study.tagging_paths import TaggingPaths
from eat.tagging.forward import Halting, tag
from eat.tagging.model import Tagger, load_tagger, to_stock
from eat.tagging.sentences import EncodedSentence, Pieces, SentenceBatch, read_sentences_split
from eat.tagging.trace import at_point, halting_at, read_trace
from eat.timing.agreement import ALLOWED_MARGIN, ALLOWED_SHARE
from eat.timing.timed_texts import stratified

Answer = tuple[tuple[int, ...], tuple[int, ...]]
"""The tag of each word, and the layer that gave it."""


@dataclass
class Entry:
    """What is timed: a system under a seed at an operating point.

    run: a sentence to the tags of its words on the host, and their layers. expected, margin: of the trace, by sentence
    id.
    """

    system: str
    seed: int
    point: Point
    run: Callable[[EncodedSentence], Answer]
    expected: Mapping[str, Answer]
    margin: Mapping[str, float]
    different: set[str] = field(default_factory=set)


def time_taggers(study: TaggingStudy, task: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Time all taggers of a task; returns every call, and the facts of the machine and of the comparison.

    Raises `EatError` if an answer differs from the trace by more than rounding can explain.
    """
    options, paths = study.timing, TaggingPaths(study.study)
    torch.set_num_threads(options.threads)
    table = read_sentences_split(paths.sentences(task, "dev"))
    pieces = Pieces(load_tokenizer(paths.tagger(task, study.reference, study.seeds[0])))
    lengths = [len(pieces.encode(words).ids) for words in table["words"]]
    table = table.iloc[stratified(lengths, options.sentences)]
    sentences = {given: pieces.encode(words) for given, words in zip(table["id"], table["words"], strict=True)}
    entries = _entries(study, task, paths)
    before = load_average()
    with quiet(), ForeignLoad() as foreign, torch.inference_mode():
        calls = _measure(entries, sentences, study, task)
    state = {
        "task": task,
        "date": datetime.now(UTC).date().isoformat(),
        "threads": options.threads,
        "n_timed": len(sentences),
        "tokens_mean": float(np.mean([len(sentence.ids) for sentence in sentences.values()])),
        "load_average": [before, load_average()],
        "foreign_load": foreign.share,
        "busy": foreign.share > BUSY,
        "machine": machine_facts(),
        "versions": versions(("torch", "transformers", "numpy")),
        "stock_attention": STOCK_ATTENTION,
        "agreement": [require_agreement(entry, len(sentences)) for entry in entries],
    }
    return calls, state


def _entries(study: TaggingStudy, task: str, paths: TaggingPaths) -> list[Entry]:
    entries = []
    for seed in study.seeds:
        loaded: dict[Path, Tagger] = {}
        for name, row in study.systems.items():
            folder = paths.tagger(task, study.trained_of(name), seed)
            if folder not in loaded:
                loaded[folder] = load_tagger(folder)
            tagger = loaded[folder]
            trace, _ = read_trace(paths.trace(task, name, seed, "dev"))
            for point in row.exits.points():
                own = at_point(trace, point)
                answers = zip(own.index, own["answers"], own["depths"], strict=True)
                expected = {given: (tuple(map(int, tags)), tuple(map(int, depths))) for given, tags, depths in answers}
                margin = dict(zip(own.index, own["margin"], strict=True))
                entries.append(
                    Entry(name, seed, point, _packed(tagger, halting_at(row.exits, point)), expected, margin)
                )
                if name == study.reference:
                    stock = _stock(tagger)
                    entries += [Entry(other, seed, point, stock, expected, margin) for other in (STOCK, STOCK_AGAIN)]
    return entries


def _packed(tagger: Tagger, halting: Halting) -> Callable[[EncodedSentence], Answer]:
    def run(sentence: EncodedSentence) -> Answer:
        found = tag(tagger, SentenceBatch.of([sentence]), halting)
        return tuple(found.answers.tolist()), tuple(found.depth.tolist())

    return run


def _stock(tagger: Tagger) -> Callable[[EncodedSentence], Answer]:
    model, layers = to_stock(tagger), tagger.shape.layers

    def run(sentence: EncodedSentence) -> Answer:
        logits = model(input_ids=sentence.ids[None], token_type_ids=sentence.types[None]).logits[0]
        answers = logits.index_select(0, sentence.first).argmax(dim=-1).tolist()
        return tuple(answers), (layers,) * len(answers)

    return run


def _measure(
    entries: list[Entry], sentences: Mapping[str, EncodedSentence], study: TaggingStudy, task: str
) -> pd.DataFrame:
    """Milliseconds of every call: system, seed, tau, window, repeat, block, unit (the sentence's id), ms."""
    options, draw = study.timing, random.Random(0)
    ids = list(sentences)
    one_a_length = {len(sentence.ids): sentence for sentence in sentences.values()}
    with Progress("warmed up with", len(entries) * len(one_a_length), "calls", task) as progress:
        for entry in entries:
            for sentence in one_a_length.values():
                entry.run(sentence)
                progress.advance()
    calls = []
    with Progress("timed", options.repeats * len(entries) * len(ids), "answers", task) as progress:
        for repeat in range(options.repeats):
            blocks = list(enumerate(np.array_split(ids, -(-len(ids) // options.block_sentences))))
            draw.shuffle(blocks)
            for block, given in blocks:
                units = draw.sample([str(unit) for unit in given], len(given))
                for entry in draw.sample(entries, len(entries)):
                    entry.run(sentences[units[0]])  # loads this model's weights into the caches after the others ran
                    for unit in units:
                        began = time.perf_counter_ns()
                        answer = entry.run(sentences[unit])
                        elapsed = time.perf_counter_ns() - began
                        if answer != entry.expected[unit]:
                            entry.different.add(unit)
                        calls.append((entry.system, entry.seed, *entry.point, repeat, block, unit, elapsed / 1e6))
                    progress.advance(len(units))
    return pd.DataFrame(calls, columns=["system", "seed", "tau", "window", "repeat", "block", "unit", "ms"])


def require_agreement(entry: Entry, count: int) -> dict[str, Any]:
    """Compare the timed answers of an entry with the trace.

    What is allowed is that of `eat.timing.agreement` in float32. Raises `EatError` if a sentence far from a tie was
    tagged otherwise, or more than one and more than the allowed share of the `count` sentences were.
    """
    far = sorted(unit for unit in entry.different if entry.margin[unit] >= ALLOWED_MARGIN["float32"])
    allowed = max(int(count * ALLOWED_SHARE["float32"]), 1)
    tau, window = entry.point
    if far or len(entry.different) > allowed:
        at = "" if math.isnan(tau) else f" at tau {tau:g}, window {window}"
        raise EatError(
            f"{entry.system}{at}: {len(entry.different)} of {count} sentences were tagged otherwise in timing than in "
            f"the trace ({listed(far[:3]) if far else 'each at a tie'}); {allowed} may differ, and only at a tie: make "
            "both again"
        )
    return {
        "system": entry.system,
        "seed": entry.seed,
        "tau": None if math.isnan(tau) else tau,
        "window": window,
        "compared": count,
        "different": len(entry.different),
    }
