"""`eat bench engine`: systems x lengths x batch sizes, in turn, on the same input.

The columns, for each case (a length, or mixed lengths, and a batch size) and system:

* `ms_*`: one pass, ids on the host to classes on the host; percentiles and mean of all timed passes.
* `speedup`: against `hf-sdpa-6` (at BERT-base's shape `hf-sdpa-12`) in the order of arrival, the median over rounds of
paired ratios, with an interval that resamples rounds; `speedup_mean` is the ratio of mean times.
  `stock_speedup`: the same against the stock system of the same depth, precision and order. `hf-sdpa-6-again` is the
  same system built twice: its distance from 1 is noise.
* `gflops`: executed operations, without padding, divided by the median time. `efficiency`: that rate over the
  largest median rate of a float32 matrix product in the same rounds; empty for other precisions, whose products
  differ.
* `weights_mb`, `call_mb`: see `eat.bench.memory`; only for systems on a CPU.
* `max_difference`: of the logits from the system that it must equal (`SAME` is enforced), else from the stock system in
  float32 of its depth, if the function is the same except for its precision.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import torch

from eat.bench.engine_options import EngineOptions, cases_of, left_out, systems_of
from eat.bench.engine_table import best_product, engine_page
from eat.bench.fleet import Fleet
from eat.bench.plots import plot_engine
from eat.bench.results import Findings, Watch
from eat.engines.devices import resolve_device
from eat.machine import machine_facts

MACHINE = ("cpu", "cores", "gpu")
"""The facts about the machine in each row."""


def bench_engine(options: EngineOptions) -> Findings:
    """Build all systems, check their answers, time them case by case, and measure their memory.

    Raises as `systems_of`, `cases_of` and `check_answers` do.
    """
    device = resolve_device(options.device, "--device")
    systems, skipped = systems_of(options, device)
    torch.set_num_threads(options.threads)
    raw: list[pd.DataFrame] = []
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack, Watch() as watch:
        cases = cases_of(options, systems)
        fleet = Fleet(systems, options, device, stack)
        skipped |= fleet.left_out
        for number, case in enumerate(cases, start=1):
            found, timed = fleet.measure(case, options.seconds, f"({number} of {len(cases)})")
            rows += found
            raw.append(timed)
        memory = fleet.memory(cases) if options.memory and device.type == "cpu" else {}
    table = pd.DataFrame(rows)
    for column in ("weights_mb", "call_mb"):
        table[column] = [
            getattr(memory.get((row["system"], row["case"], row["batch_size"], row["order"])), column, None)
            for row in rows
        ]
    best = best_product(pd.concat(raw), fleet.products)
    table["efficiency"] = np.where(table["precision"] == "float32", table["gflops"] / best, np.nan)
    machine = machine_facts(device)
    table = table.assign(threads=options.threads, device=device.type, **{key: machine[key] for key in MACHINE})
    facts = {
        **watch.facts,
        "threads": options.threads,
        "device": device.type,
        "rounds": options.rounds,
        "best_product_gflops": best,
        "skipped": skipped,
        "models": [str(folder) for folder in options.models],
    }
    return Findings(
        "engine",
        {"engine": table},
        pd.concat(raw, ignore_index=True),
        engine_page(table, best, options.threads, left_out(skipped)) + watch.warning,
        lambda: plot_engine(table),
        facts,
    )
