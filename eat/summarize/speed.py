"""The columns of summary.csv that come from timing: latency, throughput and speed-ups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from eat.progress import counted
from eat.results.timed_calls import Point, at_point, by_unit, paired, points_of
from eat.statistics import UNKNOWN, Estimate, median_ratio
from eat.study.stock import STOCK, STRONGEST, stock_deep

if TYPE_CHECKING:
    from eat.summarize.task_results import Results


def speed_rows(results: Results) -> pd.DataFrame:
    """Latency, throughput and speed-ups of each timed operating point at each batch size.

    A unit is a text, or a pass over all of them at larger batches. latency_ms is the time of one call: at larger
    batches it is the mean call of a pass, so that p90 and p99 are empty. Speed-ups are medians of paired ratios
    over units, repeats and seeds, with the interval of `median_ratio` over blocks and texts; speedup_mean is the ratio
    of mean times.
    """
    calls, layers = results.timing, results.study.timing.deep_layers
    deep = None if layers is None else (stock_deep(layers), None)
    rows = []
    for batch_size, timed in calls.groupby("batch_size", sort=True):
        times = {point: by_unit(at_point(timed, point)) for point in points_of(timed)}
        for point, own in counted(f"batch {batch_size}, speed of", list(times.items()), "operating points"):
            mine, dense = paired(times, (STOCK, None), own, results.task)
            blocks = own.index.get_level_values("block").to_numpy() if batch_size == 1 else None
            rows.append(
                {
                    "system": point[0],
                    "tau": point[1],
                    "batch_size": batch_size,
                    "n_timed": _texts_timed(at_point(timed, point)),
                    **_latency(at_point(timed, point), int(str(batch_size))),
                    **median_ratio(dense, mine, blocks).columns("speedup_vs_dense", "speedup"),
                    "speedup_mean": dense.sum() / mine.sum(),
                    **_against_strongest(times, own, blocks, results.task).columns("speedup_vs_int8"),
                    "speedup_vs_packed_dense": _median_speedup(times, results.reference, own, results.task),
                    "speedup_vs_deep": _median_speedup(times, deep, own, results.task),
                }
            )
    return pd.DataFrame(rows).astype({"tau": "float64"})


def _texts_timed(calls: pd.DataFrame) -> int:
    """The number of distinct texts, which are the same in every repeat and pass and for every seed."""
    one = calls[calls["seed"] == calls["seed"].iloc[0]]
    return int(one.groupby("unit")["n"].first().sum() if (one["n"] == 1).all() else one["n"].max())


def _latency(rows: pd.DataFrame, batch_size: int) -> dict[str, float]:
    """Times of one call, of all timed calls."""
    calls = (rows["ms"] / np.ceil(rows["n"] / batch_size)).to_numpy()
    p50, p90, p99 = np.percentile(calls, [50, 90, 99])
    return {
        "latency_ms_mean": float(calls.mean()),
        "latency_ms_p50": float(p50),
        "latency_ms_p90": float(p90) if batch_size == 1 else float("nan"),
        "latency_ms_p99": float(p99) if batch_size == 1 else float("nan"),
        "examples_per_s": float(1000.0 * rows["n"].sum() / rows["ms"].sum()),
    }


def _against_strongest(times: Mapping[Point, pd.DataFrame], own: pd.DataFrame, blocks: Any, task: str) -> Estimate:
    """The speed-up over the strongest dense rival; unknown if it was not timed."""
    if (STRONGEST, None) not in times:
        return UNKNOWN
    mine, rival = paired(times, (STRONGEST, None), own, task)
    return median_ratio(rival, mine, blocks)


def _median_speedup(times: Mapping[Point, pd.DataFrame], other: Point | None, own: pd.DataFrame, task: str) -> float:
    """The median of paired ratios other / own; NaN if there is no other or it was not timed."""
    if other is None or other not in times:
        return float("nan")
    mine, others = paired(times, other, own, task)
    return float(np.median(others / mine))
