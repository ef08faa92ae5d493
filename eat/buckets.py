"""Speed-up by the length of the text, in the buckets of Magic Pyramid's figure 1: short, middle and long.

Its finding is that token pruning gains on long texts and early exits on short ones. Here the clock is asked, at batch
1, beside what FLOPs say.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from eat.statistics import median_ratio
from eat.summary import DENSE, Results, at_point, by_unit, paired

BUCKETS = ((1, 35), (36, 70), (71, None))
"""Tokens of a text, [CLS] and [SEP] counted, from and to; `None` has no end."""

COLUMNS = (
    "task", "system", "tau", "chosen", "bucket", "n", "n_timed", "accuracy", "delta_accuracy", "avg_depth",
    "avg_retention", "flops_ratio", "speedup_vs_dense", "speedup_low", "speedup_high",
)  # fmt: skip


def bucket_rows(results: Results) -> pd.DataFrame:
    """A row for each operating point and bucket that holds a text, seeds pooled.

    n counts the dev texts of the bucket, n_timed those that were timed. flops_ratio is the reference's mean FLOPs over
    the system's, both over the bucket. speedup_vs_dense is the median of paired ratios at batch 1, as in the summary;
    it is empty where no text of the bucket was timed.
    """
    trace = results.traces[results.study.reference][0]
    lengths = {str(text): int(length) for text, length in zip(trace.ids, trace.lengths, strict=True)}
    timed = results.timing[results.timing["batch_size"] == 1]
    dense = by_unit(at_point(timed, (DENSE, None)))
    reference = results.replays[results.reference]
    rows = []
    for point, played in results.replays.items():
        calls = at_point(timed, point)
        own = by_unit(calls) if len(calls) else None
        right, expected = results.correct(point), results.correct(results.reference)
        for low, high in BUCKETS:
            within = (trace.lengths >= low) & (trace.lengths <= (np.inf if high is None else high))
            if not within.any():
                continue
            cost = np.mean([one.flops[within].mean() for one in played])
            row = {
                "task": results.task,
                "system": point[0],
                "tau": np.nan if point[1] is None else point[1],
                "chosen": results.is_chosen(point),
                "bucket": name_of(low, high),
                "n": int(within.sum()),
                "accuracy": right[within].mean(),
                "delta_accuracy": right[within].mean() - expected[within].mean(),
                "avg_depth": np.mean([one.depth[within].mean() for one in played]),
                "avg_retention": np.mean([one.retention[within].mean() for one in played]),
                "flops_ratio": np.mean([one.flops[within].mean() for one in reference]) / cost,
            }
            rows.append(row | _speed(own, dense, lengths, low, high, results.task))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def name_of(low: int, high: int | None) -> str:
    """How a bucket is called."""
    return f"{low}-{high}" if high is not None else f"over {low - 1}"


def _speed(
    own: pd.DataFrame | None, dense: pd.DataFrame, lengths: dict[str, int], low: int, high: int | None, task: str
) -> dict[str, float]:
    """The speed-up over the timed texts of a bucket."""
    nothing = {"n_timed": 0, "speedup_vs_dense": np.nan, "speedup_low": np.nan, "speedup_high": np.nan}
    if own is None:
        return nothing
    of_units = own.index.get_level_values("unit").map(lengths).to_numpy()
    some = own[(of_units >= low) & (of_units <= (np.inf if high is None else high))]
    if some.empty:
        return nothing
    mine, others = paired({(DENSE, None): dense}, (DENSE, None), some, task)
    ratio = median_ratio(others, mine, some.index.get_level_values("block").to_numpy())
    return {
        "n_timed": len(some),
        "speedup_vs_dense": ratio.value,
        "speedup_low": ratio.low,
        "speedup_high": ratio.high,
    }
