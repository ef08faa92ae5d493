"""The table of triage: what an operating point misses, what it raises in vain, what a person reads, and what it costs.

A text that goes to a person counts as answered rightly, and costs `review`. All levels and thresholds come from the
calibration split; everything here is of the dev split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.results.columns import TRIAGE_COLUMNS
from eat.results.timed_calls import Point, at_point
from eat.results.triage import cost_of, escalated
from eat.statistics import DRAWS, Estimate, accuracy_interval, percentile_interval

if TYPE_CHECKING:
    from eat.summarize.task_results import Results

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TEXTS = 1000
"""Costs are of this many texts."""


def triage_rows(results: Results, summary: pd.DataFrame) -> pd.DataFrame:
    """One row per operating point, seeds pooled; empty for a task without `triage`.

    summary: the rows of the task in summary.csv, from which the speed at batch 1 is taken. recall: the share of the
    texts of the alarm's class that are answered so or go to a person. false_alarms: the share of the other texts that
    are answered so and go to nobody. escalated: the share of all texts that go to a person. cost: per 1,000 texts, with
    a bootstrap interval over texts; the other intervals are Wilson's. alarm and review: the label, and a person's cost.
    """
    options = results.study.tasks[results.task]
    if options.triage is None:
        return pd.DataFrame(columns=list(TRIAGE_COLUMNS))
    single = summary[summary["batch_size"] == 1]
    speed = ("latency_ms_p50", "speedup_vs_dense", "speedup_low", "speedup_high")
    rows = []
    for point in results.replays:
        timed = at_point(single, point).iloc[0]
        rows.append(
            {
                "task": results.task,
                "system": point[0],
                "tau": np.nan if point[1] is None else point[1],
                "thresholds": timed["thresholds"],
                "chosen": results.is_chosen(point),
                "seeds": len(results.study.seeds),
                "alarm": options.triage.alarm,
                "review": options.triage.review,
                **_quality(results, point),
                "avg_depth": timed["avg_depth"],
                **{name: timed[name] for name in speed},
            }
        )
    return pd.DataFrame(rows)[list(TRIAGE_COLUMNS)]


def _quality(results: Results, point: Point) -> dict[str, Any]:
    options, labels = results.study.tasks[results.task], results.labels
    review = 0.0 if options.triage is None else options.triage.review or 0.0
    levels = results.rows_of(point).set_index("seed")["escalate_below"]
    layers = results.traces[point[0]][0].shape["layers"]
    raised, to_person, cost = [], [], []
    for seed, found in zip(results.study.seeds, results.replays[point], strict=True):
        sent = escalated(found, layers, float(levels[seed]))
        raised.append((found.predictions == options.alarm) & ~sent)
        to_person.append(sent)
        cost.append(np.where(sent, review, cost_of(found.predictions, labels, options.costs)))
    alarms, sent = np.stack(raised, axis=1), np.stack(to_person, axis=1)
    bad = labels == options.alarm
    return {
        "n": len(labels),
        "n_alarm": int(bad.sum()),
        **accuracy_interval((alarms | sent)[bad]).columns("recall"),
        **accuracy_interval(alarms[~bad]).columns("false_alarms"),
        **accuracy_interval(sent).columns("escalated"),
        "escalate_below": float(levels.mean()),
        **_cost(np.stack(cost, axis=1).mean(axis=1)).columns("cost"),
    }


def _cost(costs: Floats, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """The cost of 1,000 texts, with its bootstrap interval. costs: of each text, (N,)."""
    generator = np.random.default_rng(seed)
    # few costs differ, so that the number of texts of each is drawn instead of the texts
    values, counts = np.unique(costs, return_counts=True)
    drawn = generator.multinomial(len(costs), counts / len(costs), size=draws) @ values / len(costs)
    low, high = percentile_interval(TEXTS * drawn)
    return Estimate(TEXTS * float(costs.mean()), float(low), float(high))
