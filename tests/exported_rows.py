"""The results of a small study, as `eat export` reads them, with random models and invented figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import tiny
import yaml
from exported import LABELS, saved_model

from eat.files import write_json, write_table
from eat.results.columns import SUMMARY_COLUMNS
from eat.study.loading import load_study
from eat.study.paths import StudyPaths

CONFIDENT = {"after": [2], "rule": ["confidence"], "tau": [0.6, 0.9]}
ROWS: dict[str, Any] = {
    "eat-onnx": {"weights_of": "eat", "engine": "onnx", "precision": "int8"},
    "eat-wide": {"weights_of": "eat", "reducer": {"kind": "none"}, "attention": {"kind": "dense"}},
    "eat-safe": {
        "weights_of": "eat",
        "exits": {"rule": ["risk_controlled"], "tau": [0.6, 0.9], "promise": {"epsilon": 0.05}},
    },
    "both": {"cascade": ["dense", "other"], "exits": {**CONFIDENT, "after": [4]}},
    "other": {"backbone": "tiny", "last_head": "bert", "recipe": [{"epochs": 1}]},
}
TEMPERATURES = {"dense": {4: 1.1}, "other": {4: 1.2}, "both": {4: 0.9, 8: 1.3}}
PROMISE = {"risk": "disagreement", "epsilon": 0.05, "delta": 0.1, "n": 80, "tau": 0.75, "tested": []}


def write_results() -> Path:
    """Write the configuration, results and models of a small study into the current folder; returns that of results.

    On dev every threshold is right on 80 % of 40 texts, 0.9 on 85 %.
    """
    plain = tiny.study().plain()
    # a row with `weights_of` is completed from the row that it names
    study = load_study({**plain, "systems": {**plain["systems"], **ROWS}})
    Path("config").mkdir()
    Path("config/tiny.yaml").write_text(yaml.safe_dump(study.plain()))
    Path("config/another.yaml").write_text(yaml.safe_dump({**study.plain(), "study": "another"}))
    paths = StudyPaths("tiny")
    window = {"kind": "window", "left": 3, "right": 2}
    for name, parts in {
        "dense": {"last_head": "bert"},
        "other": {"last_head": "bert", "seed": 1},
        "eat": {"exits": [2], "reducer": {"kind": "norm", "after": [1, 3], "ratio": 0.3}, "attention": window},
    }.items():
        saved_model(paths.model("tiny", name, 1, "finetune"), **parts)
    points, summary = [], []
    for name in study.systems:
        calibration = {"temperatures": TEMPERATURES.get(name, {2: 0.8, 4: 1.4})}
        calibration |= {"promise": PROMISE} if name == "eat-safe" else {}
        write_json(paths.calibration("tiny", name, 1), calibration)
        taus = [None] if name in ("dense", "other", "eat-safe") else [0.6, 0.9]
        for tau in taus:
            point = {"task": "tiny", "system": name, "tau": tau, "chosen": tau != 0.9}
            for seed, split in [(1, "calibration"), (1, "dev"), (2, "dev")]:
                accuracy = 0.8 + 0.05 * (tau == 0.9) - 0.1 * (seed == 2)
                points.append({**point, "seed": seed, "split": split, "n": 40, "accuracy": accuracy, "avg_depth": 2.5})
            for batch_size in (1, 32):
                speed = {"latency_ms_p50": 2.0, "examples_per_s": None if batch_size == 1 else 400.0}
                ratio = {"speedup_vs_dense": 1.5, "speedup_low": 1.4, "speedup_high": 1.6}
                setting = {"batch_size": batch_size, "device": "cpu", "threads": 2, "n_timed": 16}
                quality = {"accuracy": 0.8 + 0.05 * (tau == 0.9), "accuracy_low": 0.65, "accuracy_high": 0.91}
                summary.append({**point, **setting, **speed, **ratio, **quality, "avg_depth": 2.5})
    stock = [row | {"system": "hf-dense"} for row in summary if row["system"] == "dense"]
    write_table(paths.operating_points("tiny"), pd.DataFrame(points))
    write_table(paths.summary, pd.DataFrame(summary + stock).reindex(columns=SUMMARY_COLUMNS))
    write_json(
        paths.card("tiny"),
        {
            "labels": LABELS,
            "pair": False,
            "splits": {"train": 1200, "calibration": 40, "dev": 40},
            "classes": {"train": [500, 700], "calibration": [20, 20], "dev": [21, 19]},
            "source": {"kind": "file", "path": "tiny.csv"},
        },
    )
    write_json(paths.timing_state("tiny"), {"machine": {"cpu": "A CPU"}, "date": "2026-01-31", "busy": False})
    return paths.results.absolute()


def model_folder(system: str = "eat") -> Path:
    """The folder of a trained system, relative to the project."""
    return StudyPaths("tiny").model("tiny", system, 1, "finetune")
