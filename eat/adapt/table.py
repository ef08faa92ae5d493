"""The table that `eat adapt` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eat.adapt.options import AdaptOptions
from eat.adapt.timing import Speed
from eat.calibrate.disagreement import Choice
from eat.files import MEGABYTE
from eat.text_table import text_table


def summary_table(
    options: AdaptOptions,
    config: Any,
    choice: Choice,
    early: bool,
    seen: Mapping[str, Any],
    speed: Speed,
    size: int,
) -> str:
    """The table, and the sentences around it."""
    n, layers = seen["n"], config.num_hidden_layers
    rows = [
        ["", f"full depth, {options.precision}", "adapted"],
        ["exits after layers", "none", ", ".join(map(str, config.exits[:-1])) if early else "none"],
        ["threshold", "none", f"{choice.thresholds[0]:g}" if early else "none"],
        ["layers per text", f"{layers:.2f}", f"{seen['mean_depth']:.2f}"],
        [
            f"answered differently, of {n} other texts",
            f"{seen['differing_at_full_depth']} ({100 * seen['differing_at_full_depth'] / n:.1f} %)",
            f"{seen['differing']} ({100 * seen['differing'] / n:.1f} %)",
        ],
        ["median, ms", f"{speed.dense_ms_p50:.2f}", f"{speed.latency_ms_p50:.2f}"],
        ["99th percentile, ms", f"{speed.dense_ms_p99:.2f}", f"{speed.latency_ms_p99:.2f}"],
        ["speed-up, median of pairs", "1", f"{speed.speedup:.2f} [{speed.speedup_low:.2f}, {speed.speedup_high:.2f}]"],
    ]
    promise = (
        f"Promise, with a confidence of {options.confidence:g}: of texts like those given, at most "
        f"{100 * options.disagreement:g} % are answered differently than by {options.model} in float32.\n"
        f"Chosen on {choice.n} texts, {choice.differing} of them answered differently. It does not hold for texts of "
        "another kind."
        if early
        else "No promise: no text exits early."
    )
    return "\n".join(
        [
            text_table(rows),
            "",
            promise,
            f"{speed.cpu}, {speed.threads} threads, batch size 1, {speed.n} texts.",
            f"Written to {options.to}: {size / MEGABYTE:.1f} MiB.",
        ]
    )
