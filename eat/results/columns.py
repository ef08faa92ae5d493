"""The names that tables of results share with those who read them: their columns, and the values of some."""

from __future__ import annotations

BUCKETS = ((1, 35), (36, 70), (71, None))
"""Tokens of a text, [CLS] and [SEP] counted, from and to; `None` has no end."""

PRUNING, EXITS, BOTH, NEITHER = "pruning", "exits", "both", "neither"
"""What makes a system faster (column `adapts_by`): fewer tokens, fewer layers, or both of them."""

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
"""The fitted models by name, and whether a layer costs time by itself."""

LENGTHS_NEEDED = 3
"""Texts of so many different lengths are needed to tell the coefficients apart."""


def bucket_name(low: int, high: int | None) -> str:
    """The name of a bucket."""
    return f"{low}-{high}" if high is not None else f"over {low - 1}"
