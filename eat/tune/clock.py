"""The clock of a search: probes are timed once, alone on the machine, on calibration texts, and the cost is fitted.

Trials run side by side, at loads that differ, so that a clock within a trial would measure the other jobs.
A probe is a model that is forced to exit after one layer. The fit needs no trained heads: only their time counts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eat.engines.devices import resolve_device
from eat.engines.engine import Runner
from eat.engines.registry import engine_of
from eat.machine import BUSY, ForeignLoad, machine_facts, quiet
from eat.model.exit_policy import ExitPolicy
from eat.model.options import Parts
from eat.model.tokenizer import encode_split, load_tokenizer, read_split
from eat.progress import Progress
from eat.results.trace import Trace
from eat.timing.timed_texts import stratified
from eat.trace.recording import trace_texts
from eat.tune.cost import Cost, Floats, Removal, terms
from eat.tune.space import REDUCERS, VARIANTS

ALWAYS = 1e-6
"""A threshold at which every text exits."""

BLOCK = 8
"""The texts of a turn: a model runs them one after another, as a service does, after one untimed call."""


KEY = "timing.device"
"""The key of the study with the device of the clock."""


@dataclass(frozen=True)
class ClockOptions:
    """model: the folder of a model with a head after every layer. texts: how many are timed, and how often.

    device: `timing.device` of the study.
    """

    model: Path
    split: Path
    max_length: int
    threads: int
    device: str = "cpu"
    texts: int = 48
    repeats: int = 3


@dataclass(frozen=True)
class Probe:
    """A model that is forced to exit after layer `depth`. terms: of each text (N, K). run: classifies texts."""

    variant: str
    terms: Floats
    run: Runner


def usable_variants(device: str) -> tuple[str, ...]:
    """The variants that this machine runs with a gain on the device of the study's timing."""
    where = resolve_device(device, KEY)
    return tuple(
        name for name, (engine, precision) in VARIANTS.items() if not engine_of(engine).refusal(precision, where)
    )


def measure_cost(options: ClockOptions, variants: Sequence[str], layers: int) -> tuple[Cost, dict[str, Any]]:
    """The cost of a text in each variant, and facts about the measurement.

    Raises `EatError` if the device is not available.
    """
    where = resolve_device(options.device, KEY)
    torch.set_num_threads(options.threads)
    table = read_split(options.split)
    encoded = encode_split(load_tokenizer(options.model), table, options.max_length)
    rows = stratified([len(text.ids) for text in encoded], options.texts)
    texts = [encoded[row] for row in rows]
    labels, ids = table["label"].to_numpy(dtype=np.int64)[rows], [str(table["id"].iloc[row]) for row in rows]
    removals = [Removal()] + [Removal(kind, (1, 2) if layers > 2 else (1,)) for kind in REDUCERS if kind != "none"]
    probes: list[Probe] = []
    with Progress("loaded", len(variants) * len(removals), "models to time") as progress, torch.inference_mode():
        for variant in variants:
            engine, precision = VARIANTS[variant]
            for removal in removals:
                model = engine_of(engine).load([options.model], _parts(removal, layers, engine, precision), where)
                trace = trace_texts(model, texts, ids, labels, variant)
                depths = range(1, layers)
                if removal.kind != "none":
                    depths = range(min(layers // 2 + 1, layers - 1), layers)
                probes += [
                    Probe(variant, _terms(trace, depth, depth), model.runner(_exit_after(depth))) for depth in depths
                ]
                probes.append(Probe(variant, _terms(trace, layers, 1), model.runner(ExitPolicy())))
                progress.advance()
        with quiet(), ForeignLoad() as foreign:
            ms = _timed(probes, texts, options.repeats)
    calls = {
        variant: (
            np.concatenate([probe.terms for probe in probes if probe.variant == variant]),
            np.concatenate([own for probe, own in zip(probes, ms, strict=True) if probe.variant == variant]),
        )
        for variant in variants
    }
    facts = {
        "texts": len(texts),
        "calls": len(probes) * len(texts) * options.repeats,
        "threads": options.threads,
        "device": where.type,
        "foreign_load": foreign.share,
        "busy": foreign.share > BUSY,
        "machine": machine_facts(where),
    }
    return Cost.fitted(calls), facts


def _parts(removal: Removal, layers: int, engine: str, precision: str) -> Parts:
    reducer: dict[str, Any] = {"kind": "none"}
    if removal.kind != "none":
        reducer = {"kind": removal.kind, "after": list(removal.after), "ratio": 0.3}
    return Parts.model_validate(
        {"reducer": reducer, "exits": list(range(1, layers)), "engine": engine, "precision": precision}
    )


def _terms(trace: Trace, depth: int, heads: int) -> Floats:
    return terms(trace.fed, trace.pairs, depth, heads, Removal.of(trace.shape))


def _exit_after(depth: int) -> ExitPolicy:
    """The policy by which every text exits after a layer, past the heads before it."""
    return ExitPolicy(("confidence",), {depth: ALWAYS})


def _timed(probes: Sequence[Probe], texts: Sequence[Any], repeats: int) -> list[Floats]:
    """The median time of each text in each probe, in ms; one array (N,) per probe. Probes take turns on each block."""
    draw = random.Random(0)
    blocks = [range(start, min(start + BLOCK, len(texts))) for start in range(0, len(texts), BLOCK)]
    found = [np.empty((repeats, len(texts))) for _ in probes]
    with Progress("timed", repeats * len(blocks), "blocks of texts") as progress:
        for repeat in range(repeats):
            for block in blocks:
                order = list(range(len(probes)))
                draw.shuffle(order)
                for index in order:
                    # loads this model's weights into the caches after the others ran
                    probes[index].run([texts[block[0]]])
                    for number in block:
                        began = time.perf_counter_ns()
                        probes[index].run([texts[number]])
                        found[index][repeat, number] = (time.perf_counter_ns() - began) / 1e6
                progress.advance()
    return [np.median(times, axis=0) for times in found]
