"""Traces made up from a fixed seed: later exits know more, and tokens are removed after layers 2 and 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from eat.results.trace import Trace

DIMENSIONS = {"hidden": 8, "intermediate": 32, "heads": 2}


def _head_operations(is_last: bool, classes: int, last_head: str) -> list[float]:
    """Of a linear head, 2 d C a text; with the projection of BERT or DistilBERT 2 d^2 more."""
    hidden = DIMENSIONS["hidden"]
    projects = is_last and last_head != "linear"
    return [2.0 * hidden * classes + (2.0 * hidden * hidden if projects else 0.0), 0.0, 0.0]


def make_trace(
    rows: int = 200,
    layers: int = 6,
    exits: Sequence[int] = (4, 6),
    classes: int = 2,
    seed: int = 0,
    after: Sequence[int] = (2, 4),
    ratio: float = 0.3,
    sharpness: float = 1.0,
    noise_seed: int | None = None,
    last_head: str = "linear",
    noise: float = 1.0,
) -> Trace:
    """A trace of `rows` texts.

    seed draws texts (ids, labels, lengths), noise_seed what the exits say of them. sharpness multiplies all logits:
    at 1 every exit is calibrated, and otherwise its temperature is `sharpness`. noise: at 0 every answer is right.
    """
    texts = np.random.default_rng(seed)
    labels = texts.integers(classes, size=rows)
    lengths = texts.integers(3, 60, size=rows).astype(np.int32)
    said = np.random.default_rng(seed + 1000 if noise_seed is None else noise_seed)
    logits = {}
    for depth in exits:
        signal = 2.5 * depth / layers
        seen = signal * np.eye(classes)[labels] + said.normal(0, noise, (rows, classes))
        logits[depth] = (sharpness * signal * seen).astype(np.float32)  # the exact posterior where sharpness is 1
    attended = np.empty((rows, layers), dtype=np.int32)
    alive = np.empty_like(attended)
    now = lengths.copy()
    for layer in range(1, layers + 1):
        attended[:, layer - 1] = now
        if layer in after and layer < layers:
            now = np.array([1 + math.ceil((1 - ratio) * (tokens - 1)) for tokens in now], dtype=np.int32)
        alive[:, layer - 1] = now
    pairs = attended.astype(np.int64) ** 2
    shape: dict[str, Any] = {
        **DIMENSIONS,
        "layers": layers,
        "classes": classes,
        "exits": list(exits),
        "read": "cls",
        "last_head": last_head,
        "reducer": {"kind": "norm" if after else "none", "after": list(after), "ratio": ratio, "protect": ["cls"]},
        "attention": {"kind": "dense", "left": 16, "right": 16},
        "scoring": {},
        "scoring_place": "layer_output",
        "head_operations": {str(depth): _head_operations(depth == layers, classes, last_head) for depth in exits},
        "parameters": 1000,
        "labels": [str(label) for label in range(classes)],
    }
    return Trace(
        ids=np.array([f"{row:016x}" for row in range(rows)], dtype=object),
        labels=labels,
        lengths=lengths,
        logits=logits,
        attended=attended,
        fed=attended.copy(),
        alive=alive,
        pairs=pairs,
        pattern_pairs=np.minimum(pairs, 35 * attended.astype(np.int64)),
        cut_margin=np.full(attended.shape, 0.1 if after else np.inf),
        shape=shape,
    )
