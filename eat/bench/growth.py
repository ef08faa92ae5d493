"""`eat bench growth`: how time and memory grow with length (at batch 1) and with the batch size (at 32 tokens).

Random weights with as many positions as the longest text. In a round every system runs at every length, so that a
disturbance affects all points of a curve. The fits, each with an interval that resamples rounds:

* `exponent`: c of t = b T^c over the lengths from 512 on, by least squares of logarithms; `power_a`, `power_b`,
  `power_c`: t = a + b T^c over all lengths, nearest in relative terms.
* crossings: the length beyond which the window by blocks is faster than by a band (the right value of
`eat.model.attention.BLOCKED_FROM`), and beyond which the window is faster than dense attention.
* the paper's equations. (4) t = c0 + L (alpha T^2 + beta T) is fitted to dense attention; (5) with nothing removed,
  t = c0 + L (alpha' T k + beta T), to the window computed by blocks, with the beta and c0 of dense attention and
  k = left + right + 2. The `eat` rows are then *predicted* by (5) from the tokens each layer saw and the layers
  executed, with nothing fitted to them. The paper has no c0, the constant part of a call.

Memory is that of `eat.bench.memory`, `memory_repeats` fresh processes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from eat import rounding
from eat.bench.answers import check_answers
from eat.bench.inputs import SHORTEST, Case, equal_case
from eat.bench.measure import (
    Turn,
    crossing,
    exponent,
    matrix,
    percentiles,
    power_law,
    round_medians,
    run_rounds,
    speedup,
)
from eat.bench.memory import Memory, Meter
from eat.bench.plots import plot_growth
from eat.bench.results import Findings, Watch, markdown
from eat.bench.runners import LocalRunner, build_runner, key_of
from eat.bench.systems import EXIT_AFTER, GROWTH_SYSTEMS, MINILM, PRUNED, REFERENCE, WINDOW, System, chosen
from eat.errors import EatError
from eat.machine import machine_facts, quiet
from eat.model.attention import BLOCKED_FROM
from eat.model.shape import Shape
from eat.progress import counted
from eat.report.quantities import Quantity
from eat.statistics import UNKNOWN, nonnegative_fit

LONG_FROM = 512
"""The exponent is fitted to lengths from here on, where the constant part is negligible."""

CROSSINGS = (("window-band", "window-blocks"), ("dense", "window"), (REFERENCE, "window"))
"""Pairs (first, second): the second is faster from some length on."""


@dataclass(frozen=True)
class GrowthOptions:
    """batch_length: tokens per text while the batch grows. seconds: after which a part begins no further round."""

    systems: tuple[str, ...] | None = None
    lengths: tuple[int, ...] = (16, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512, 768, 1024, 2048, 4096)
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    batch_length: int = 32
    threads: int = 2
    rounds: int = 20
    seconds: float = 240.0
    memory_repeats: int = 3
    shape: Shape = field(default=MINILM)


def bench_growth(options: GrowthOptions) -> Findings:
    """Time all systems at all sizes, measure their memory, and fit. Raises `EatError` for invalid options."""
    systems = _checked(options)
    torch.set_num_threads(options.threads)
    shape = replace(options.shape, positions=max(*options.lengths, options.batch_length, options.shape.positions))
    with Watch() as watch:
        parts = {
            "length": [equal_case(length, 1, shape.vocabulary) for length in options.lengths],
            "batch": [equal_case(options.batch_length, size, shape.vocabulary) for size in options.batch_sizes],
        }
        runners = {system.name: build_runner(system, shape) for system in systems}
        timed = {against: _time(cases, systems, runners, options, against) for against, cases in parts.items()}
        memory = _memory(parts, systems, shape, options)
    rows: list[dict[str, Any]] = []
    for against, cases in parts.items():
        rows += _rows(against, cases, systems, timed[against], memory)
    table = pd.DataFrame(rows)
    medians = round_medians(timed["length"])
    fits = _fits(table, medians, options.lengths, systems, memory)
    crossings = _crossings(medians, options.lengths, [system.name for system in systems])
    table = _with_equations(table, options, shape)
    machine = machine_facts()
    table = table.assign(threads=options.threads, device="cpu", cpu=machine["cpu"], cores=machine["cores"])
    raw = pd.concat([part.assign(against=against) for against, part in timed.items()], ignore_index=True)
    facts = {
        **watch.facts,
        "threads": options.threads,
        "device": "cpu",
        "rounds": {against: int(part["round"].nunique()) for against, part in timed.items()},
        "batch_length": options.batch_length,
        "blocked_from": BLOCKED_FROM,
    }
    text = _markdown(table, fits, crossings) + watch.warning
    tables = {"growth": table, "fits": fits, "crossings": crossings}
    return Findings("growth", tables, raw, text, lambda: plot_growth(table), facts)


def _checked(options: GrowthOptions) -> list[System]:
    if not options.lengths or not options.batch_sizes:
        raise EatError("no length or no batch size is given; give at least one of each")
    for length in (*options.lengths, options.batch_length):
        if length < SHORTEST:
            raise EatError(f"a length of {length}; a text has at least {SHORTEST} tokens, [CLS] and [SEP]")
    for size in options.batch_sizes:
        if size < 1:
            raise EatError(f"a batch of {size}; give at least 1")
    for name in ("threads", "rounds"):
        if getattr(options, name) < 1:
            raise EatError(f"{getattr(options, name)} {name}; give at least 1")
    if options.memory_repeats < 0:
        raise EatError(f"memory measured {options.memory_repeats} times; give 0 for no measurement, or more")
    return chosen(options.systems, GROWTH_SYSTEMS)


def _time(
    cases: Sequence[Case],
    systems: Sequence[System],
    runners: Mapping[str, LocalRunner],
    options: GrowthOptions,
    what: str,
) -> pd.DataFrame:
    """Time all systems on all cases in every round, after comparing their answers."""
    turns = []
    for case in counted(f"against {what}: answers of", cases, "cases"):
        key = key_of(case, "arrival")
        for runner in runners.values():
            runner.load(key, case.batches("arrival"))
        check_answers(systems, {name: runner.answer(key) for name, runner in runners.items()}, case)
        turns += [Turn(_turn(system, case), partial(runners[system.name].time, key)) for system in systems]
    with quiet():
        return run_rounds(turns, options.rounds, options.seconds, label=f"against {what}")


def _turn(system: System, case: Case) -> str:
    return f"{system.name}, {case.name} x {case.batch_size}"


def _memory(
    parts: Mapping[str, Sequence[Case]], systems: Sequence[System], shape: Shape, options: GrowthOptions
) -> dict[tuple[str, str, int], list[Memory]]:
    """The memory of each repeat, by (system, length, batch)."""
    cases = [case for part in parts.values() for case in part]
    lengths = [[[len(text.ids) for text in case.texts]] for case in cases]
    found: dict[tuple[str, str, int], list[Memory]] = {}
    if not options.memory_repeats:
        return found
    with closing(Meter(shape, options.threads)) as meter:
        runs = [system for system in systems for _ in range(options.memory_repeats)]
        for system in counted("memory of", runs, "processes"):
            for case, memory in zip(cases, meter.measure(system, lengths), strict=True):
                found.setdefault((system.name, case.name, case.batch_size), []).append(memory)
    return found


# --- results -----------------------------------------------------------------------------------------------------


def _rows(
    against: str,
    cases: Sequence[Case],
    systems: Sequence[System],
    timed: pd.DataFrame,
    memory: Mapping[tuple[str, str, int], list[Memory]],
) -> list[dict[str, Any]]:
    medians = round_medians(timed)
    rows = []
    for system in systems:
        for case in cases:
            name = _turn(system, case)
            measured = memory.get((system.name, case.name, case.batch_size), [])
            rows.append(
                {
                    "system": system.name,
                    "against": against,
                    "size": case.length if against == "length" else case.batch_size,
                    "length": case.length,
                    "batch_size": case.batch_size,
                    **percentiles(timed, name),
                    **speedup(medians, _turn(GROWTH_SYSTEMS[REFERENCE], case), name).columns("speedup"),
                    "weights_mb": _median(one.weights_mb for one in measured),
                    "call_mb": _median(one.call_mb for one in measured),
                }
            )
    return rows


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _fits(
    table: pd.DataFrame,
    medians: pd.DataFrame,
    lengths: Sequence[int],
    systems: Sequence[System],
    memory: Mapping[tuple[str, str, int], list[Memory]],
) -> pd.DataFrame:
    """Exponents of time and memory against length, one row per system; empty if there are too few lengths."""
    rows = []
    for system in systems:
        names = {length: f"{system.name}, {length} x 1" for length in lengths}
        sizes, times = matrix(medians, names)
        far = sizes >= LONG_FROM
        row: dict[str, Any] = {"system": system.name}
        row |= (exponent(sizes[far], times[:, far]) if far.sum() >= 2 else UNKNOWN).columns("exponent")
        law = power_law(sizes, times) if len(sizes) >= 4 else None
        row |= {"power_a": law.a if law else None, "power_b": law.b if law else None}
        row |= (law.c if law else UNKNOWN).columns("power_c")
        kept = [[one.call_mb for one in memory.get((system.name, str(int(size)), 1), [])] for size in sizes[far]]
        whole = far.sum() >= 2 and all(calls and all(calls) for calls in kept)
        grown = exponent(sizes[far], np.array(kept, np.float64).T) if whole else UNKNOWN
        row |= grown.columns("memory_exponent")
        rows.append(row)
    return pd.DataFrame(rows)


def _crossings(medians: pd.DataFrame, lengths: Sequence[int], systems: Sequence[str]) -> pd.DataFrame:
    """For each pair the length beyond which the second is faster: 0 if it always is, empty if it never is."""
    rows = []
    for first, second in CROSSINGS:
        if first not in systems or second not in systems:
            continue
        # up to 18 tokens the window equals dense attention, however it is computed
        differ = [length for length in lengths if length - 2 > min(WINDOW["left"], WINDOW["right"])]
        sizes, slow = matrix(medians, {length: f"{first}, {length} x 1" for length in differ})
        _, fast = matrix(medians, {length: f"{second}, {length} x 1" for length in differ})
        found = crossing(sizes, slow, fast) if len(sizes) > 1 else None
        ends = (found or UNKNOWN).columns("length")
        lengths_found = {name: np.nan if np.isinf(length) else length for name, length in ends.items()}
        rows.append({"first": first, "second": second, **lengths_found})
    return pd.DataFrame(rows, columns=["first", "second", "length", "length_low", "length_high"])


def _with_equations(table: pd.DataFrame, options: GrowthOptions, shape: Shape) -> pd.DataFrame:
    """The table with `predicted_ms` from equations (4) and (5), for the packed systems against length."""
    ours = table[(table["against"] == "length") & table["system"].isin(["dense", "window", "eat", "eat-all-leave"])]
    predicted = pd.Series(np.nan, index=table.index)
    systems = set(ours["system"])
    if {"dense", "window"} <= systems and len(options.lengths) >= 4:
        observed = {name: rows.sort_values("size") for name, rows in ours.groupby("system")}
        layers = GROWTH_SYSTEMS["dense"].layers
        sizes = observed["dense"]["size"].to_numpy(np.float64)
        dense = observed["dense"]["ms_p50"].to_numpy(np.float64)
        c0, alpha, beta = nonnegative_fit(np.stack([np.ones_like(sizes), layers * sizes**2, layers * sizes], 1), dense)
        k = WINDOW["left"] + WINDOW["right"] + 2
        # up to BLOCKED_FROM tokens the window is a masked T x T product, which (5) does not describe
        linear = sizes > BLOCKED_FROM if (sizes > BLOCKED_FROM).sum() >= 2 else sizes > 0
        window = observed["window"]["ms_p50"].to_numpy(np.float64)[linear]
        rest = window - c0 - layers * beta * sizes[linear]
        # least squares of the error relative to the total time, of which attention is a part
        attended = layers * k * sizes[linear]
        alpha_window = max(float(np.sum(attended * rest / window**2) / np.sum((attended / window) ** 2)), 0.0)
        for name, rows in observed.items():
            row = GROWTH_SYSTEMS[str(name)]
            for index, size in zip(rows.index, rows["size"], strict=True):
                tokens = live_tokens(int(size), row)
                if name == "dense":
                    predicted[index] = c0 + sum(alpha * count**2 + beta * count for count in tokens)
                else:
                    predicted[index] = c0 + sum((alpha_window * k + beta) * count for count in tokens)
    return table.assign(predicted_ms=predicted, prediction_error=predicted / table["ms_p50"] - 1.0)


def live_tokens(length: int, system: System) -> list[int]:
    """T_l of each executed layer, over which equation (5) sums."""
    layers = EXIT_AFTER if system.exits == "all exit early" else system.layers
    tokens = []
    for layer in range(1, layers + 1):
        tokens.append(length)
        if system.pruned and layer in PRUNED["after"]:
            length = 1 + int(np.ceil((1.0 - PRUNED["ratio"]) * (length - 1) - 1e-9))
    return tokens


# --- printed text ------------------------------------------------------------------------------------------------


def _markdown(table: pd.DataFrame, fits: pd.DataFrame, crossings: pd.DataFrame) -> str:
    quantities = (
        Quantity("System", "system"),
        Quantity("Length", "length", rounding.count),
        Quantity("Batch", "batch_size", rounding.count),
        Quantity("p50 (ms)", "ms_p50", rounding.milliseconds),
        Quantity(f"Speed-up over {REFERENCE}", "speedup", rounding.speedup, ("speedup_low", "speedup_high")),
        Quantity("Memory of a call (MB)", "call_mb", rounding.throughput),
        Quantity("Equation 4 or 5 (ms)", "predicted_ms", rounding.milliseconds),
        Quantity("Its error (%)", "prediction_error", rounding.points),
    )
    fitted = (
        Quantity("System", "system"),
        Quantity(f"Exponent of time from {LONG_FROM} tokens", "exponent", rounding.ratio, _bounds("exponent")),
        Quantity("c of a + b T^c", "power_c", rounding.ratio, _bounds("power_c")),
        Quantity("a (ms)", "power_a", rounding.milliseconds),
        Quantity("Exponent of memory", "memory_exponent", rounding.ratio, _bounds("memory_exponent")),
    )
    crossed = (
        Quantity("Faster", "second"),
        Quantity("than", "first"),
        Quantity("Beyond (tokens)", "length", rounding.count, _bounds("length")),
    )
    return (
        f"### Against length, batch 1\n\n{markdown(table[table['against'] == 'length'], quantities, 'growth:length')}\n"
        f"### Against batch\n\n{markdown(table[table['against'] == 'batch'], quantities[:6], 'growth:batch')}\n"
        f"### Fits\n\n{markdown(fits, fitted, 'growth:fits')}\n"
        f"### Crossings\n\n{markdown(crossings, crossed, 'growth:crossings')}\n"
        "0: at every length; a dash: at none of them. "
        f"The band is used up to {rounding.count(BLOCKED_FROM)} tokens (`eat.model.attention.BLOCKED_FROM`).\n"
    )


def _bounds(name: str) -> tuple[str, str]:
    return f"{name}_low", f"{name}_high"
