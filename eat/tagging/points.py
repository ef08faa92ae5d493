"""The operating points of a task's taggers, and the choice of one for each system on the calibration split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eat.errors import DamagedFile
from eat.files import read_json, read_table
from eat.study.tagging import Point, TaggingStudy
from eat.study.tagging_paths import TaggingPaths
from eat.tagging.sentences import read_sentences_split
from eat.tagging.spans import Counts, counts_of, score
from eat.tagging.trace import at_point, flops_of, read_trace, rows_at


@dataclass(frozen=True)
class Measured:
    """A system at an operating point on a split, under each seed: counts (N, 3), mean FLOPs and mean depth of words."""

    counts: Sequence[Counts]
    gflops: float
    depth: float

    @cached_property
    def score(self) -> float:
        """The mean over seeds."""
        return float(np.mean([score(counts) for counts in self.counts]))


def measured(study: TaggingStudy, task: str, split: str) -> dict[tuple[str, Point], Measured]:
    """Every system at every operating point on a split, from its traces.

    Raises `DamagedFile` if a trace is of other sentences.
    """
    paths = TaggingPaths(study.study)
    card: Mapping[str, Any] = read_json(paths.sentences_card(task))
    gold = read_sentences_split(paths.sentences(task, split)).set_index("id")["tags"]
    found = {}
    for name, row in study.systems.items():
        traces = [read_trace(paths.trace(task, name, seed, split)) for seed in study.seeds]
        for point in row.exits.points():
            counts, gflops, depths = [], [], []
            for seed, (trace, shape) in zip(study.seeds, traces, strict=True):
                own = at_point(trace, point)
                if list(own.index) != list(gold.index):
                    raise DamagedFile(
                        f"{paths.trace(task, name, seed, split)}: other sentences than the split; delete it, and run "
                        "the same command again"
                    )
                counts.append(counts_of(own["answers"].tolist(), gold.tolist(), card["tags"], card["metric"]))
                gflops.append(float(flops_of(own, shape).mean()) / 1e9)
                depths.append(float(np.concatenate(own["depths"].tolist()).mean()))
            found[name, point] = Measured(counts, float(np.mean(gflops)), float(np.mean(depths)))
    return found


def chosen_points(study: TaggingStudy, task: str) -> pd.DataFrame:
    """A row for each system and operating point: tau, window, score and GFLOPs on the calibration split, the choice.

    Of a system's points whose score is at most `score_budget` below that of the reference (`within_budget`), the one
    with the fewest FLOPs is chosen; if there is none, the one with the best score. The dev split is not read.
    """
    found = measured(study, task, "calibration")
    reference = found[study.reference, study.systems[study.reference].exits.points()[0]].score
    rows = []
    for name, row in study.systems.items():
        own = {point: found[name, point] for point in row.exits.points()}
        within = [point for point, one in own.items() if reference - one.score <= study.score_budget + 1e-12]
        if within:
            choice = min(within, key=lambda point: (own[point].gflops, -own[point].score))
        else:
            choice = max(own, key=lambda point: (own[point].score, -own[point].gflops))
        for point, one in own.items():
            rows.append(
                {
                    "system": name,
                    "tau": point[0],
                    "window": point[1],
                    "score": one.score,
                    "gflops": one.gflops,
                    "within_budget": point in within,
                    "chosen": point == choice,
                }
            )
    return pd.DataFrame(rows).astype({"tau": "float64"})


def is_chosen(points: pd.DataFrame, system: str, point: Point) -> tuple[bool, bool]:
    """Whether a point is within the budget, and whether it is chosen."""
    (own,) = rows_at(points[points["system"] == system], point).to_dict("records")
    return bool(own["within_budget"]), bool(own["chosen"])


def read_points(path: Path) -> pd.DataFrame:
    """The table of `chosen_points`."""
    return read_table(path, required=("system", "tau", "window", "within_budget", "chosen"))
