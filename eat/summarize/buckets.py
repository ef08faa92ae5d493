"""Speed-up by the length of the text, in the buckets of Magic Pyramid's figure 1: short, middle and long.

Its finding is that token pruning gains on long texts and early exits on short ones, counted in FLOPs. Here time is
measured, at batch 1, in addition to FLOPs. Which systems prune and which exit early follows from the results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.progress import counted
from eat.results.columns import BOTH, BUCKET_COLUMNS, BUCKETS, EXITS, NEITHER, PRUNING, bucket_name
from eat.results.timed_calls import Point, at_point, by_unit, paired
from eat.statistics import median_ratio
from eat.study.stock import STOCK

if TYPE_CHECKING:
    from eat.summarize.task_results import Results

Mask = npt.NDArray[np.bool_]


def bucket_rows(results: Results) -> pd.DataFrame:
    """One row per operating point and non-empty bucket, seeds pooled.

    n counts the dev texts of the bucket, n_timed those that were timed. delta_accuracy is the paired difference to the
    reference over the bucket, with its interval. flops_ratio is the reference's mean FLOPs divided by the system's,
    both over the bucket. speedup_vs_dense, against the stock model, and speedup_vs_packed_dense, against the reference
    in the same engine, are medians of paired ratios at batch 1, empty if no text of the bucket was timed; their
    intervals are empty if only one was. Only the second is the gain of the method: the gain of the engine also depends
    on the length.
    """
    lengths = results.traces[results.study.reference][0].lengths
    timed = _Timed(results)
    rows = {}
    for number, (low, high) in enumerate(BUCKETS):
        within = (lengths >= low) & (lengths <= (np.inf if high is None else high))
        if not within.any():
            continue
        reference_cost = np.mean([one.flops[within].mean() for one in results.replays[results.reference]])
        points = counted(
            f"{bucket_name(low, high)} tokens, speed of", list(results.replays.items()), "operating points"
        )
        for place, (point, played) in enumerate(points):
            rows[place, number] = {
                "task": results.task,
                "system": point[0],
                "tau": np.nan if point[1] is None else point[1],
                "chosen": results.is_chosen(point),
                "adapts_by": adapts_by(results, point),
                "bucket": bucket_name(low, high),
                "n": int(within.sum()),
                "accuracy": results.correct(point)[within].mean(),
                **results.difference(point, within).columns("delta_accuracy", "delta"),
                "avg_depth": np.mean([one.depth[within].mean() for one in played]),
                "avg_retention": np.mean([one.retention[within].mean() for one in played]),
                "flops_ratio": reference_cost / np.mean([one.flops[within].mean() for one in played]),
                **timed.speedups(point, within),
            }
    return pd.DataFrame([rows[key] for key in sorted(rows)], columns=list(BUCKET_COLUMNS))


def adapts_by(results: Results, point: Point) -> str:
    """The way in which an operating point is faster, from the dev texts.

    A system with window attention also gains on long texts by the window: it is `both` or `neither`, never only pruning
    or exits. A cascade is `neither`: a text that continues starts again with another model.
    """
    if results.study.systems[point[0]].cascade:
        return NEITHER
    traces = results.traces[point[0]]
    prunes = any(bool((trace.fed[:, -1] < trace.lengths).any()) for trace in traces)
    leaves = any(bool((played.depth < traces[0].shape["layers"]).any()) for played in results.replays[point])
    if prunes and leaves:
        return BOTH
    if traces[0].shape["attention"]["kind"] != "dense" or not (prunes or leaves):
        return NEITHER
    return PRUNING if prunes else EXITS


class _Timed:
    """The timed calls at batch 1, and the selection of their units by dev texts."""

    def __init__(self, results: Results) -> None:
        calls = results.timing[results.timing["batch_size"] == 1]
        self.task = results.task
        self.ids = results.traces[results.study.reference][0].ids
        self.against = {"dense": (STOCK, None), "packed_dense": results.reference}
        known = {point: at_point(calls, point) for point in {*results.replays, *self.against.values()}}
        self.times: Mapping[Point, pd.DataFrame] = {
            point: by_unit(own) for point, own in known.items() if not own.empty
        }

    def speedups(self, point: Point, within: Mask) -> dict[str, float]:
        """The speed-ups of an operating point on the timed texts among these."""
        found = dict.fromkeys(BUCKET_COLUMNS[-6:], np.nan)
        own = self.times.get(point)
        some = None if own is None else own[own.index.get_level_values("unit").isin(self.ids[within])]
        if some is None or some.empty:
            return {"n_timed": 0, **found}
        blocks = some.index.get_level_values("block").to_numpy()
        for name, ends in (("dense", "speedup"), ("packed_dense", "packed")):
            if self.against[name] in self.times:
                mine, others = paired(self.times, self.against[name], some, self.task)
                found |= median_ratio(others, mine, blocks).columns(f"speedup_vs_{name}", ends)
        return {"n_timed": len(some), **found}
