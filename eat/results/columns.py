"""Names of columns and values in tables of results, shared by writers and readers."""

from __future__ import annotations

SUMMARY_COLUMNS = (
    "task", "system", "tau", "thresholds", "calibration", "chosen", "within_budget", "batch_size", "device", "card",
    "engine", "dtype", "threads", "seeds", "n", "n_timed", "accuracy", "accuracy_low", "accuracy_high", "accuracy_sd",
    "macro_f1", "f1", "delta_accuracy", "delta_low", "delta_high", "mcnemar_p", "latency_ms_mean", "latency_ms_p50",
    "latency_ms_p90", "latency_ms_p99", "examples_per_s", "speedup_vs_dense", "speedup_low", "speedup_high",
    "speedup_mean", "speedup_vs_int8", "speedup_vs_int8_low", "speedup_vs_int8_high", "speedup_vs_packed_dense",
    "speedup_vs_deep", "avg_depth", "avg_retention", "retention_full_depth", "gflops", "flops_ratio", "gflops_pattern",
    "ece_raw", "ece_calibrated", "ece_debiased", "ece_debiased_low", "ece_debiased_high", "brier", "nll",
    "temperature",
)  # fmt: skip

ABLATION_COLUMNS = (
    "task", "ablation", "role", "system", "reducer", "attention", "exits", "tau", "calibration", "seeds", "n",
    "accuracy", "accuracy_low", "accuracy_high", "accuracy_sd", "delta_accuracy", "delta_low", "delta_high",
    "mcnemar_p", "compute", "latency_ms_p50", "speedup_vs_dense", "speedup_low", "speedup_high", "avg_depth",
    "avg_retention",
)  # fmt: skip

PROMISE_COLUMNS = (
    "task", "system", "seed", "risk", "epsilon", "delta", "n", "bad", "tau", "thresholds", "n_dev", "bad_dev",
    "observed", "observed_low", "observed_high",
)  # fmt: skip

TRIAGE_COLUMNS = (
    "task", "system", "tau", "thresholds", "chosen", "seeds", "n", "n_alarm", "alarm", "review", "recall", "recall_low",
    "recall_high", "false_alarms", "false_alarms_low", "false_alarms_high", "escalated", "escalated_low",
    "escalated_high", "escalate_below", "cost", "cost_low", "cost_high", "avg_depth", "latency_ms_p50",
    "speedup_vs_dense", "speedup_low", "speedup_high",
)  # fmt: skip

IMPORTANCE_COLUMNS = ("task", "system", "seed", "kind", "layer", "n", "rho", "rho_low", "rho_high")

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
