"""Names of columns and values in tables of results, shared by writers and readers."""

from __future__ import annotations

BUCKETS = ((1, 35), (36, 70), (71, None))
"""The buckets of lengths in tokens, including [CLS] and [SEP], from and to; `None` has no end."""

PRUNING, EXITS, BOTH, NEITHER = "pruning", "exits", "both", "neither"
"""The way in which a system is faster (column `adapts_by`): fewer tokens, fewer layers, or both."""

BUCKET_COLUMNS = (
    "task", "system", "tau", "chosen", "adapts_by", "bucket", "n", "n_timed", "accuracy", "delta_accuracy",
    "delta_low", "delta_high", "avg_depth", "avg_retention", "flops_ratio", "speedup_vs_dense", "speedup_low",
    "speedup_high", "speedup_vs_packed_dense", "packed_low", "packed_high",
)  # fmt: skip

COST_COLUMNS = (
    "task", "system", "tau", "model", "alpha", "beta", "gamma", "observed_ms", "predicted_ms", "error", "exponent_ms",
    "exponent_ms_low", "exponent_ms_high", "exponent_flops", "n",
)  # fmt: skip

COST_MODELS = {"equation 5": False, "with overhead": True}
"""The fitted models by name, and whether they have a constant per layer."""

LENGTHS_NEEDED = 3
"""The number of different lengths that are needed to determine the coefficients."""


def bucket_name(low: int, high: int | None) -> str:
    """The name of a bucket."""
    return f"{low}-{high}" if high is not None else f"over {low - 1}"
