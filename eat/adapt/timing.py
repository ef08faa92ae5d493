"""The speed of an adapted file against the same model without exits, in turn on the same texts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from eat.engines.onnx import open_session, text_feeds
from eat.machine import quiet
from eat.model.tokenizer import Encoded
from eat.processor import cpu_name
from eat.statistics import median_ratio
from eat.timing.in_turn import timed_in_turn

MOST_TEXTS, REPEATS, WARMUP = 400, 3, 20


@dataclass(frozen=True)
class Speed:
    """Milliseconds per text at batch size 1, and the median of the paired ratios with its 95 % interval.

    latency of the file, dense of the same model in the same precision without exits.
    """

    latency_ms_p50: float
    latency_ms_p99: float
    dense_ms_p50: float
    dense_ms_p99: float
    speedup: float
    speedup_low: float
    speedup_high: float
    n: int
    threads: int
    cpu: str


def compare_speed(dense: bytes, adapted: bytes, texts: Sequence[Encoded]) -> Speed:
    """Time both on each text, one after the other, in a random order."""
    threads = torch.get_num_threads()
    sessions = [open_session(content, threads) for content in (dense, adapted)]
    chosen = list(texts[:MOST_TEXTS])
    feeds = [text_feeds(text) for text in chosen]
    outputs = ["probabilities", "depth"]
    calls = [functools.partial(session.run, outputs) for session in sessions]
    with quiet():
        ms = timed_in_turn(calls, feeds, REPEATS, WARMUP)
    each = np.median(ms, axis=2)
    ratio = median_ratio(each[:, 0], each[:, 1])
    (dense_p50, p50), (dense_p99, p99) = np.percentile(each, [50, 99], axis=0)
    return Speed(p50, p99, dense_p50, dense_p99, ratio.value, ratio.low, ratio.high, len(chosen), threads, cpu_name())
