"""The summary of a tagging study: score, work and time in one row for each operating point."""

from __future__ import annotations

import pandas as pd

from eat.files import read_table
from eat.statistics import UNKNOWN, Estimate, median_ratio
from eat.study.stock import STOCK, STOCK_AGAIN
from eat.study.tagging import Point, TaggingStudy
from eat.study.tagging_paths import TaggingPaths
from eat.tagging.points import is_chosen, measured, read_points
from eat.tagging.spans import score_interval
from eat.tagging.trace import rows_at

COLUMNS = (
    "task", "system", "tau", "window", "chosen", "within_budget", "metric", "seeds", "n", "n_timed", "score",
    "score_low", "score_high", "delta", "delta_low", "delta_high", "depth", "gflops", "flops_ratio", "latency_ms_p50",
    "speedup", "speedup_low", "speedup_high", "packed", "packed_low", "packed_high",
)  # fmt: skip
"""score: on dev. delta: to the reference. depth: mean layer of a word's answer. flops_ratio: the reference's FLOPs over
own. speedup: over the stock model, and packed: over the reference in this project's forward pass; medians of paired
ratios.
"""


def summary(study: TaggingStudy) -> pd.DataFrame:
    """A row for each task, system and operating point, and for the stock model and its repetition."""
    return pd.concat([_of_task(study, task) for task in study.tasks], ignore_index=True)[list(COLUMNS)]


def _of_task(study: TaggingStudy, task: str) -> pd.DataFrame:
    paths = TaggingPaths(study.study)
    found = measured(study, task, "dev")
    points = read_points(paths.operating_points(task))
    calls = read_table(paths.timing(task), required=("system", "seed", "tau", "window", "block", "unit", "ms"))
    dense: Point = study.systems[study.reference].exits.points()[0]
    reference = found[study.reference, dense]
    rows = []
    for (name, point), one in found.items():
        within, chosen = is_chosen(points, name, point)
        names = (name, STOCK, STOCK_AGAIN) if name == study.reference else (name,)
        # the reference has none to itself
        difference = UNKNOWN if name == study.reference else score_interval(one.counts, reference.counts)
        for timed in names:
            rows.append(
                {
                    "task": task,
                    "system": timed,
                    "tau": point[0],
                    "window": point[1],
                    "chosen": chosen,
                    "within_budget": within,
                    "metric": study.tasks[task].metric,
                    "seeds": len(study.seeds),
                    "n": len(one.counts[0]),
                    "n_timed": calls["unit"].nunique(),
                    **score_interval(one.counts).columns("score"),
                    **difference.columns("delta"),
                    "depth": one.depth,
                    "gflops": one.gflops,
                    "flops_ratio": reference.gflops / one.gflops,
                    "latency_ms_p50": float(_calls_of(calls, timed, point)["ms"].median()),
                    **speed(calls, timed, point, STOCK, dense).columns("speedup"),
                    **speed(calls, timed, point, study.reference, dense).columns("packed"),
                }
            )
    return pd.DataFrame(rows).astype({"tau": "float64"})


def speed(calls: pd.DataFrame, system: str, point: Point, other: str, at: Point) -> Estimate:
    """The median of the paired ratios other / own over sentences, repeats and seeds; unknown of a system to itself.

    The interval resamples blocks and sentences (`median_ratio`).
    """
    if system == other:
        return UNKNOWN
    own, others = (_by_sentence(_calls_of(calls, name, place)) for name, place in ((system, point), (other, at)))
    others = others.loc[own.index]
    blocks = own.index.get_level_values("block").to_numpy()
    return median_ratio(others.to_numpy(), own.to_numpy(), blocks)


def _calls_of(calls: pd.DataFrame, system: str, point: Point) -> pd.DataFrame:
    return rows_at(calls[calls["system"] == system], point)


def _by_sentence(calls: pd.DataFrame) -> pd.DataFrame:
    """Sentences as rows, (block, unit), and each repeat under each seed as a column."""
    return calls.pivot_table(index=["block", "unit"], columns=["seed", "repeat"], values="ms").sort_index()
