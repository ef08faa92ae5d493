"""A study's result files, made up: every file the report reads, with the columns and keys of the real ones.

`write_study` lays them out in a folder as a run would. The numbers are drawn with a fixed seed around plausible
values; `Made` lets a test move those it asserts on (how fast a system is, what it loses, how noisy the clock is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eat.figures import style
from eat.figures.overview import Drawn, plot_overview
from eat.figures.registry import FIGURES
from eat.files import write_json, write_table
from eat.report.figures import Placed, placement
from eat.results.columns import BUCKET_COLUMNS, PROMISE_COLUMNS, SUMMARY_COLUMNS
from eat.results.rows import read_rows
from eat.study.paths import StudyPaths

LAYERS = 6
DENSE_MS = 9.0
FOUR_TAUS = (0.80, 0.85, 0.90, 0.95)


@dataclass(frozen=True)
class Row:
    """How one system behaves at its loosest threshold; each step of tau costs time and wins a little accuracy."""

    name: str
    speedup: float
    delta: float
    depth: float = float(LAYERS)
    retention: float = 1.0
    taus: tuple[float | None, ...] = (None,)
    exits: tuple[int, ...] = (LAYERS,)
    chosen: int = 0
    calibration: str = "fitted"


DENSE = Row("dense-6", 1.35, 0.0)
STUDENT = Row("student-3", 2.45, -0.021, depth=3.0, exits=(3,))
EAT = Row("eat-6", 2.3, -0.012, 4.3, 0.62, FOUR_TAUS, (4, 6), chosen=2)
PATIENCE = Row("eat-6-patience", 2.05, -0.008, 4.6, 0.60, FOUR_TAUS, (3, 4, 6), chosen=1)
EARLY = Row("eat-6-early", 5.2, -0.03, 1.9, 0.86, (0.60, 0.70, *FOUR_TAUS), (1, 2, 3, 4, 6), chosen=3)
SYSTEMS = (DENSE, STUDENT, EAT, PATIENCE, EARLY)


@dataclass(frozen=True)
class Made:
    """What a test can set: the systems, and what the clock and the sample were like."""

    systems: tuple[Row, ...] = SYSTEMS
    reference: str = "dense-6"
    half_width: float = 0.04
    """Half width of a speed-up's interval, as a part of it."""
    delta_half_width: float = 0.009
    noise: tuple[float, float, float] = (1.003, 0.985, 1.02)
    """The ratio of hf-dense to itself: median, low, high."""
    seeds: int = 1
    n: int = 1706
    busy: bool = False
    warnings: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    """Stock rows that were not timed, and why."""
    classes: tuple[str, ...] = ("negative", "positive")
    batch_sizes: tuple[int, ...] = (1, 32)
    int8: float | None = None
    """How much faster than stock `transformers` the dense model in int8 in ONNX Runtime is; `None`: not timed."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Columns of summary.csv set to one value in every row."""


def tidy(value: float) -> float:
    return round(float(value), 6)


def summary(task: str, made: Made, generator: np.random.Generator) -> pd.DataFrame:
    """All rows of one task's summary, in the order of the systems, the reference rows last."""
    rows: list[dict[str, Any]] = []
    base = 0.853
    for batch in made.batch_sizes:
        scale = 1.0 if batch == 1 else 0.55 * batch  # a batch takes longer than a text, but less than the sum

        def timed(ratio: float, half: float, batch: int = batch, scale: float = scale) -> dict[str, float]:
            middle = DENSE_MS * scale / ratio
            return {
                "latency_ms_mean": middle * 1.15,
                "latency_ms_p50": middle,
                "latency_ms_p90": middle * 1.9 if batch == 1 else None,
                "latency_ms_p99": middle * 2.7 if batch == 1 else None,
                "examples_per_s": 1000.0 * batch / (middle * 1.15),
                "speedup_vs_dense": ratio,
                "speedup_low": ratio * (1 - half),
                "speedup_high": ratio * (1 + half),
                "speedup_mean": ratio * 0.93,
                "speedup_vs_packed_dense": ratio / 1.35,
                "speedup_vs_deep": ratio * 1.94,
            }

        def common(system: str, tau: float | None, chosen: bool, batch: int = batch) -> dict[str, Any]:
            return {
                "task": task,
                "system": system,
                "tau": tau,
                "calibration": "fitted",
                "chosen": chosen,
                "within_budget": True,
                "batch_size": batch,
                "device": "cpu",
                "engine": "stock" if system.startswith("hf-") else "torch",
                "dtype": "float32",
                "threads": 2,
                "seeds": made.seeds,
                "n": made.n,
                "n_timed": 200,
            }

        def judged(delta: float, reference: bool) -> dict[str, Any]:
            accuracy = base + delta
            half = 0.0 if reference else made.delta_half_width
            return {
                "accuracy": accuracy,
                "accuracy_low": accuracy - 0.016,
                "accuracy_high": accuracy + 0.015,
                "accuracy_sd": 0.004 if made.seeds > 1 else None,
                "macro_f1": accuracy - 0.001,
                "f1": accuracy - 0.002,
                "delta_accuracy": 0.0 if reference else delta,
                "delta_low": 0.0 if reference else delta - half,
                "delta_high": 0.0 if reference else delta + half,
                "mcnemar_p": 1.0 if reference else 0.04,
                "ece_raw": 0.061,
                "ece_calibrated": 0.0184,
                "ece_debiased": 0.0093,
                "ece_debiased_low": 0.002,
                "ece_debiased_high": 0.0185,
                "brier": 0.214,
                "nll": 0.351,
                "temperature": 1.42,
            }

        for system in made.systems:
            for step, tau in enumerate(system.taus):
                ratio = 1 + (system.speedup - 1) * (1 - 0.11 * step) if step else system.speedup
                delta = min(system.delta + 0.007 * step, max(system.delta, 0.004))
                kept = max(system.retention - 0.02 * step, 0.49) if system.retention < 1 else 1.0
                rows.append(
                    common(system.name, tau, step == system.chosen)
                    | {"calibration": system.calibration}
                    | judged(delta, system.name == made.reference)
                    | timed(ratio * float(generator.normal(1, 0.004)), made.half_width)
                    | {
                        "avg_depth": min(system.depth + 0.35 * step, float(LAYERS)),
                        "avg_retention": kept,
                        "retention_full_depth": 0.521 if system.retention < 1 else 1.0,
                        "gflops": 0.65 / ratio,
                        "flops_ratio": 1.05 * ratio,
                        "gflops_pattern": 0.65 / ratio - (0.002 if system.retention < 1 else 0.0),
                    }
                )
        again, low, high = made.noise
        rows.append(common("hf-dense", None, True) | judged(0.0, True) | timed(1.0, 0.0) | full_work())
        aa = timed(again, 0.0) | {"speedup_low": low, "speedup_high": high}
        rows.append(common("hf-dense-again", None, True) | judged(0.0, True) | aa | full_work())
        if batch > 1:
            rows.append(
                common("hf-dense-sorted", None, True) | judged(0.0, True) | timed(1.8, made.half_width) | full_work()
            )
        rows.append(common("hf-dense-12", None, True) | timed(0.515, made.half_width))
        if made.int8 is not None:
            rival = common("hf-dense-onnx-int8", None, True) | {"engine": "onnx", "dtype": "int8"}
            rows.append(rival | judged(0.0, False) | timed(made.int8, made.half_width) | full_work())
    table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    if made.int8 is not None:
        for column, other in (("", "speedup_vs_dense"), ("_low", "speedup_low"), ("_high", "speedup_high")):
            table[f"speedup_vs_int8{column}"] = table[other] / made.int8
    for column in table.select_dtypes("float"):
        table[column] = table[column].map(tidy)
    return table.assign(**made.changes)


def full_work() -> dict[str, float]:
    return {
        "avg_depth": float(LAYERS),
        "avg_retention": 1.0,
        "retention_full_depth": 1.0,
        "gflops": 0.65,
        "flops_ratio": 1.0,
        "gflops_pattern": 0.65,
    }


def exits(task: str, made: Made) -> pd.DataFrame:
    rows = []
    for system in made.systems:
        for step, tau in enumerate(system.taus):
            stay = np.linspace(0.55, 0.45, len(system.exits)) - 0.07 * (len(system.taus) - 1 - step)
            alive, fractions = 1.0, []
            for part in stay[:-1]:
                fractions.append(alive * (1 - part))
                alive *= part
            fractions.append(alive)
            for depth, fraction in zip(system.exits, fractions, strict=True):
                rows.append((task, system.name, tau, step == system.chosen, depth, tidy(fraction), made.n))
    return pd.DataFrame(rows, columns=["task", "system", "tau", "chosen", "exit", "fraction", "n"])


def retention(task: str, made: Made) -> pd.DataFrame:
    rows = []
    for system in made.systems:
        layers = range(1, (3 if system.depth == 3 else LAYERS) + 1)
        for tau in (None, *(tau for tau in system.taus if tau is not None)):
            over = "all" if tau is None else "running"
            for layer in layers:
                scheduled = 0.7 ** (int(layer >= 2) + int(layer >= 4)) if system.retention < 1 else 1.0
                observed = scheduled + 0.035 * (1 - scheduled) + (0.02 if tau and scheduled < 1 else 0.0)
                rows.append((task, system.name, tau, over, layer, tidy(scheduled), tidy(observed), made.n))
    return pd.DataFrame(rows, columns=["task", "system", "tau", "over", "layer", "scheduled", "observed", "n"])


def lengths(task: str, made: Made) -> pd.DataFrame:
    rows = []
    edges = [3, 8, 16, 24, 32, 48, 64]
    counts = [60, 310, 520, 480, 260, 76]
    for system in made.systems:
        for step, tau in enumerate(system.taus):
            for (low, high), n in zip(pairwise(edges), counts, strict=True):
                middle = (low + high) / 2 - 0.5
                kept = system.retention + (0.9 / middle if system.retention < 1 else 0.0)
                rows.append((task, system.name, tau, step == system.chosen, low, high, middle, tidy(min(kept, 1)), n))
    return pd.DataFrame(
        rows, columns=["task", "system", "tau", "chosen", "low", "high", "length_mean", "retention", "n"]
    )


def reliability(task: str, made: Made, generator: np.random.Generator) -> pd.DataFrame:
    rows = []
    bins = 15
    for system in made.systems:
        for depth in system.exits:
            for stage, optimism in (("raw", 0.09), ("calibrated", 0.01)):
                for number in range(bins):
                    low, high = number / bins, (number + 1) / bins
                    if high <= 1 / len(made.classes):
                        continue
                    confidence = (low + high) / 2
                    accuracy = np.clip(confidence - optimism + generator.normal(0, 0.02), 0, 1)
                    n = int(40 + 400 * confidence**6)
                    position = (tidy(low), tidy(high), tidy(confidence), tidy(accuracy))
                    rows.append((task, system.name, depth, stage, number, *position, n))
    return pd.DataFrame(
        rows, columns=["task", "system", "exit", "stage", "bin", "low", "high", "confidence", "accuracy", "n"]
    )


def paper_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The batch-1 rows with the columns of the paper's own CSV."""
    rows = table[table.batch_size == 1]
    return pd.DataFrame(
        {
            "model": rows.system,
            "tau": rows.tau,
            "latency_ms": rows.latency_ms_mean,
            "accuracy": rows.accuracy,
            "speedup_vs_bert": rows.speedup_mean,
            "delta_acc_pp": 100 * rows.delta_accuracy,
            "avg_depth": rows.avg_depth,
            "avg_retention": rows.avg_retention,
        }
    )


def timing_json(task: str, made: Made) -> dict[str, Any]:
    agreement = [
        {
            "seed": seed,
            "system": system.name,
            "tau": system.taus[system.chosen],
            "batch_size": batch,
            "compared": 200,
            "different": int(system.name == "eat-6" and batch == 1),
            "allowed": 1,
        }
        for seed in range(1, made.seeds + 1)
        for system in made.systems
        for batch in made.batch_sizes
    ]
    stock = ("hf-dense", "hf-dense-again", "hf-dense-sorted", "hf-dense-12")
    return {
        "task": task,
        "date": "2026-01-31",
        "device": "cpu",
        "left_out": made.left_out,
        "trained": {system.name: ["bfloat16 on cpu"] for system in made.systems},
        "engines": dict.fromkeys(stock, "stock") | {system.name: "torch" for system in made.systems},
        "precisions": dict.fromkeys((*stock, *(system.name for system in made.systems)), "float32"),
        "threads": 2,
        "n_timed": 200,
        "texts": [f"{number:016x}" for number in range(200)],
        "tokens_mean": 25.3,
        "tokenization_ms_per_text": 0.41,
        "load_average": [2.6, 3.9] if made.busy else [0.3, 1.9],
        "foreign_load": 0.31 if made.busy else 0.02,
        "foreign_load_busiest_block": 0.74 if made.busy else 0.05,
        "busy": made.busy,
        "machine": {
            "cpu": "A CPU @ 2.80GHz",
            "cores": 2,
            "memory_gib": 23.5,
            "platform": "Linux x86_64",
            "python": "3.11.9",
            "gpu": None,
        },
        "versions": {"torch": "2.13.0+cpu", "transformers": "5.23.0"},
        "stock_attention": "sdpa",
        "agreement": agreement,
    }


def cost(task: str, made: Made, table: pd.DataFrame) -> pd.DataFrame:
    """Predicted times that fall short of the observed by a tenth, and by a twentieth with the constant a layer."""
    rows = []
    names = [system.name for system in made.systems]
    for row in table[(table.batch_size == 1) & table.system.isin(names)].to_dict("records"):
        for model, error, gamma in (("equation 5", -0.1, 0.0), ("with overhead", -0.05, 0.2)):
            observed = row["latency_ms_mean"]
            coefficients = {"alpha": 1e-6, "beta": 0.01, "gamma": gamma}
            times = {"observed_ms": observed, "predicted_ms": observed * (1 + error), "error": error, "n": 200}
            grown = {"exponent_ms": 0.4, "exponent_ms_low": 0.35, "exponent_ms_high": 0.45, "exponent_flops": 1.01}
            point = {"task": task, "system": row["system"], "tau": row["tau"], "model": model}
            rows.append(point | coefficients | times | grown)
    return pd.DataFrame(rows).astype({"tau": "float64"})


def calls(task: str, made: Made, table: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """The timed calls of the batch-1 rows, spread around their median."""
    rows = []
    for row in table[table.batch_size == 1].to_dict("records"):
        times = row["latency_ms_p50"] * np.exp(generator.normal(0, 0.3, 40))
        rows += [(1, row["system"], row["tau"], 1, 0, 0, f"{unit:016x}", 1, time) for unit, time in enumerate(times)]
    columns = ["seed", "system", "tau", "batch_size", "repeat", "block", "unit", "n", "ms"]
    return pd.DataFrame(rows, columns=columns).astype({"tau": "float64"})


def buckets(task: str, made: Made) -> pd.DataFrame:
    """Two buckets: pruning gains a tenth more on the longer texts, exits a tenth less."""
    rows = []
    for system in made.systems:
        prunes, leaves = system.retention < 1, len(system.exits) > 1
        adapts_by = {(True, True): "both", (True, False): "pruning", (False, True): "exits"}.get((prunes, leaves))
        for step, tau in enumerate(system.taus):
            for name, n, n_timed, longer in (("1-35", made.n - 300, 160, 0.0), ("36-70", 300, 40, 0.1)):
                ratio = system.speedup / made.systems[0].speedup + longer * (prunes - leaves)
                half = 0.0 if system.name == made.reference else made.delta_half_width
                rows.append(
                    {
                        "task": task, "system": system.name, "tau": tau, "chosen": step == system.chosen,
                        "adapts_by": adapts_by or "neither", "bucket": name, "n": n, "n_timed": n_timed,
                        "accuracy": 0.853 + system.delta, "delta_accuracy": system.delta,
                        "delta_low": system.delta - half, "delta_high": system.delta + half,
                        "avg_depth": system.depth, "avg_retention": system.retention,
                        "flops_ratio": 1.05 * ratio, "speedup_vs_dense": 1.35 * ratio,
                        "speedup_low": 1.31 * ratio, "speedup_high": 1.39 * ratio,
                        "speedup_vs_packed_dense": ratio, "packed_low": 0.98 * ratio, "packed_high": 1.02 * ratio,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows, columns=list(BUCKET_COLUMNS))


def shape_of(system: Row) -> dict[str, Any]:
    """What lies beside the trace of a system."""
    removes = system.retention < 1
    return {
        "layers": system.exits[-1],
        "exits": list(system.exits),
        "read": "cls",
        "last_head": "linear",
        "reducer": {"kind": "norm", "after": [2, 4], "ratio": 0.3} if removes else {"kind": "none", "after": []},
        "attention": {"kind": "window", "left": 16, "right": 16} if removes else {"kind": "dense"},
        "parameters": 1000,
        "precision": "float32",
    }


TASK_FIGURES = tuple(name for name, figure in FIGURES.items() if figure.of == "task" and figure.needs is None)
STUDY_FIGURES = tuple(name for name, figure in FIGURES.items() if figure.of == "study")


def placed(names: Sequence[str]) -> list[Placed]:
    """Figures as the report is given them."""
    return placement([{"name": name, "of": FIGURES[name].of, "place": FIGURES[name].place} for name in names])


PLACEMENT = placed([*STUDY_FIGURES, *TASK_FIGURES])
"""The figures of a made-up study."""


def plot(kind: str, results: Path, task: str, reference: str, pdf: Path | str, svg: Path | str) -> None:
    """Draw a figure of a task from the files of a made-up study."""
    figure, paths = FIGURES[kind], StudyPaths(results.name)
    root = results.parents[1]
    tables = [read_rows(root / paths.result(name, task), may_be_empty=True) for name in figure.reads]
    figure.write(*tables, task, reference, out_pdf=pdf, out_svg=svg)


def plot_systems(made: Made, pdf: Path | str, svg: Path | str) -> None:
    """Draw what the systems of a made-up study are."""
    systems = [
        Drawn(row.name, shape_of(row), ["confidence"] if row.taus != (None,) else [], [tau for tau in row.taus if tau])
        for row in made.systems
    ]
    style.write(lambda: plot_overview(systems), pdf, svg)


def card_json(task: str, made: Made) -> dict[str, Any]:
    return {
        "task": task,
        "labels": list(made.classes),
        "pair": False,
        "rows": {"read": 8530, "duplicates": 12, "empty": 0},
        "splits": {"train": 5545, "calibration": 1279, "dev": made.n},
        "classes": {"train": [2770, 2775], "calibration": [640, 639], "dev": [made.n // 2, made.n - made.n // 2]},
        "source": {"kind": "packaged", "name": task, "sha256": "0f" * 32},
        "warnings": list(made.warnings),
        "sha256": "0f" * 32,
    }


def write_study(
    root: Path, tasks: tuple[str, ...] = ("rotten_tomatoes",), made: Made | None = None, study: str = "synthetic"
) -> tuple[Path, Path]:
    """Write the result files of a study under `root`; returns its results folder and its data folder."""
    made = made or Made()
    generator = np.random.default_rng(7)
    results, data = root / "results" / study, root / "data" / study
    parts: dict[str, list[pd.DataFrame]] = {}
    metrics: dict[str, Any] = {"study": study, "tasks": {}}
    for task in tasks:
        table = summary(task, made, generator)
        for name, part in (
            ("summary.csv", table),
            ("curves/exits.csv", exits(task, made)),
            ("curves/retention.csv", retention(task, made)),
            ("curves/lengths.csv", lengths(task, made)),
            ("curves/reliability.csv", reliability(task, made, generator)),
            ("curves/cost.csv", cost(task, made, table)),
            ("buckets.csv", buckets(task, made)),
            ("promises.csv", pd.DataFrame(columns=list(PROMISE_COLUMNS))),
        ):
            parts.setdefault(name, []).append(part)
        write_table(results / f"summary_{task}.csv", paper_columns(table))
        write_json(results / "timing" / f"{task}.json", timing_json(task, made))
        write_table(results / "timing" / f"{task}.parquet", calls(task, made, table, np.random.default_rng(8)))
        write_json(data / task / "card.json", card_json(task, made))
        metrics["tasks"][task] = metrics_of(table, made)
    for name, tables in parts.items():
        # an all-empty column of one part must not change the type of the whole
        records = [record for part in tables for record in part.astype(object).to_dict("records")]
        write_table(results / name, pd.DataFrame(records, columns=tables[0].columns))
    write_json(results / "metrics.json", metrics)
    return results, data


def metrics_of(table: pd.DataFrame, made: Made) -> dict[str, Any]:
    rows = table[(table.batch_size == 1) & table.chosen & table.accuracy.notna()]
    systems = {
        row.system: {
            "tau": None if pd.isna(row.tau) else row.tau,
            "accuracy": row.accuracy,
            "delta_accuracy_pp": 100 * row.delta_accuracy,
            "speedup": row.speedup_vs_dense,
            "speedup_low": row.speedup_low,
            "speedup_high": row.speedup_high,
            "avg_depth": row.avg_depth,
            "flops_ratio": row.flops_ratio,
        }
        for row in rows.itertuples()
    }
    return {"dense_accuracy": 0.853, "n": made.n, "systems": systems}
