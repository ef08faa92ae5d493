"""Timing of all systems and operating points of a task, in turn, on the same texts, in one process.

Timed answers are compared with the trace, so that the reported accuracy is that of the timed model. How many texts,
repeats and passes there are is an option of the study: `eat.study.timing`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from eat.engines.devices import resolve_device
from eat.engines.registry import require_usable
from eat.engines.requirements import left_out_stock
from eat.machine import BUSY, ForeignLoad, load_average, machine_facts, quiet, versions
from eat.model.weights import STOCK_ATTENTION
from eat.progress import Progress
from eat.study.stock import AGAIN, STRONGEST
from eat.study.study import Study
from eat.timing.entries import TimedSystem, entries_of, reference_entries, trained_in
from eat.timing.entry import Entry
from eat.timing.rounds import measure
from eat.timing.timed_texts import TimedTexts


@dataclass
class TimingResult:
    """Every timed call, and the facts of the machine."""

    calls: pd.DataFrame
    state: dict[str, Any] = field(default_factory=dict)


def time_task(study: Study, task: str, systems: Sequence[TimedSystem], dev: Path) -> TimingResult:
    """Time all systems of a task at all their thresholds, and the reference rows, over the same dev texts.

    Raises `EatError` if an answer differs from the trace by more than rounding can explain, and, before anything is
    timed, if the device is not available or a system's precision is not useful on it.
    """
    options = study.timing
    device = resolve_device(options.device, "timing.device")
    for timed in systems:
        parts = study.parts(timed.system)
        require_usable(parts.engine, parts.precision, device)
    left_out = left_out_stock(study, device)
    for name, reason in left_out.items():
        print(f"{task}: {name} is not timed: {reason}", file=sys.stderr, flush=True)
    torch.set_num_threads(options.threads)
    reference = next(timed for timed in systems if timed.system == study.reference)
    texts = TimedTexts(dev, reference.models[0], study.tasks[task].max_length, options.texts)
    entries: list[Entry] = []
    with Progress("loaded", len(systems), "models", task) as progress:
        for timed in systems:
            if timed.system == study.reference:
                entries += reference_entries(study, timed, texts, device, left_out)
            own = entries_of(study, timed, texts, device)
            entries += own
            if timed.system == STRONGEST:  # its own noise floor
                entries += [replace(entry, system=f"{entry.system}{AGAIN}") for entry in own]
            progress.advance()
    before = load_average()
    with quiet(), ForeignLoad() as foreign:
        calls, agreement, busiest = measure(entries, texts.ids, options, task)
    state = {
        "task": task,
        "date": datetime.now(UTC).date().isoformat(),
        "device": device.type,
        "left_out": left_out,
        "trained": trained_in(systems),
        "precisions": {entry.system: entry.precision for entry in entries},
        "engines": {entry.system: entry.engine for entry in entries},
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
        "versions": versions(("torch", "transformers", "numpy", "onnxruntime")),
        "stock_attention": STOCK_ATTENTION,
        "agreement": agreement,
    }
    return TimingResult(calls, state)
