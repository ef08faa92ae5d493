"""The results of one task: its files, read and checked against each other.

`read_results` reads the operating points, traces, calibrations and timed calls that earlier phases wrote. Every table
of the summary is made from the `Results` that it returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json, read_table
from eat.results.calibrated import promised_of, temperatures_of
from eat.results.replay import Replay, policies, replay
from eat.results.timed_calls import Point, at_point, points_of
from eat.results.trace import Trace
from eat.statistics import Estimate, difference_interval
from eat.study.paths import StudyPaths
from eat.study.stock import STOCK

if TYPE_CHECKING:
    from eat.study.study import Study

TIMING_COLUMNS = ("seed", "system", "tau", "batch_size", "repeat", "block", "unit", "n", "ms")


@dataclass(frozen=True)
class TaskInputs:
    """The files of one task.

    operating_points: the table that `task_operating_points` made. traces: (system, seed) -> Parquet file of the dev
    trace. calibrations: (system, seed) -> JSON file. timing: the Parquet file of timed calls. timing_facts: the JSON
    beside it, with the device, the threads and each system's precision.
    """

    operating_points: Path | str
    traces: Mapping[tuple[str, int], Path | str]
    calibrations: Mapping[tuple[str, int], Path | str]
    timing: Path | str
    timing_facts: Path | str

    @classmethod
    def of(cls, study: Study, task: str) -> Self:
        """The files of a task in the workflow's folders."""
        paths = StudyPaths(study.study)
        runs = [(system, seed) for system in study.systems for seed in study.seeds]
        return cls(
            operating_points=paths.operating_points(task),
            traces={run: paths.trace(task, *run, "dev") for run in runs},
            calibrations={run: paths.calibration(task, *run) for run in runs},
            timing=paths.timing(task),
            timing_facts=paths.timing_state(task),
        )


@dataclass(frozen=True)
class Results:
    """The files of one task, read and checked against each other.

    points: the dev rows of the operating points. traces, calibrations: system -> one per seed. replays: operating
    point -> one per seed. timing: the timed calls. setting: their device, the model of its card (empty on the CPU) and
    their threads.
    engines, precisions: system -> its engine and its precision, for all timed systems.
    """

    study: Study
    task: str
    points: pd.DataFrame
    traces: dict[str, list[Trace]]
    calibrations: dict[str, list[dict[str, Any]]]
    replays: dict[Point, list[Replay]]
    timing: pd.DataFrame
    setting: dict[str, Any]
    engines: dict[str, str]
    precisions: dict[str, str]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The labels of the dev split, int64 (N,); every trace has the same order."""
        return self.traces[self.study.reference][0].labels

    @property
    def reference(self) -> Point:
        """The operating point of the dense reference."""
        return self.study.reference, None

    def correct(self, point: Point) -> npt.NDArray[np.bool_]:
        """Whether each text is answered correctly under each seed, bool (N, seeds)."""
        return np.stack([found.predictions == self.labels for found in self.replays[point]], axis=1)

    def difference(self, point: Point, within: npt.NDArray[np.bool_] | None = None) -> Estimate:
        """The accuracy of an operating point minus that of the reference, over all texts or those `within` (N,).

        For the reference itself the value and both ends are 0.
        """
        if point == self.reference:
            return Estimate(0.0, 0.0, 0.0)
        texts = np.ones(len(self.labels), dtype=bool) if within is None else within
        return difference_interval(self.correct(point)[texts], self.correct(self.reference)[texts])

    def is_chosen(self, point: Point) -> bool:
        """Whether the point is at its system's chosen threshold."""
        return bool(self.rows_of(point)["chosen"].iloc[0])

    def rows_of(self, point: Point) -> pd.DataFrame:
        """The rows of an operating point, one per seed."""
        return at_point(self.points, point)


def read_results(study: Study, task: str, files: TaskInputs) -> Results:
    """Read one task's files.

    Raises `EatError` if a run is missing, the traces are not of the same texts, the operating points are not those
    of the traces, or the timing mixes settings or lacks its reference.
    """
    runs = [(system, seed) for system in study.systems for seed in study.seeds]
    given = set(files.traces) & set(files.calibrations)
    missing = [f"{system} seed {seed}" for system, seed in runs if (system, seed) not in given]
    if missing:
        raise EatError(f"task {task}: no trace or calibration of {listed(missing)}; run the workflow for them")
    traces = {system: [Trace.read(files.traces[system, seed]) for seed in study.seeds] for system in study.systems}
    calibrations = {
        system: [read_json(files.calibrations[system, seed]) for seed in study.seeds] for system in study.systems
    }
    _require_same_texts(task, traces)
    table = read_table(
        files.operating_points,
        ("system", "seed", "split", "tau", "thresholds", "escalate_below", "accuracy", "chosen", "within_budget"),
    )
    points = table[table["split"] == "dev"].astype({"tau": "float64"})
    replays = _replays(study, traces, calibrations)
    timing, setting, engines, precisions = read_timing(files.timing, files.timing_facts)
    _require_known_points(files.timing, timing, replays)
    results = Results(study, task, points, traces, calibrations, replays, timing, setting, engines, precisions)
    _require_same_points(files.operating_points, results)
    return results


def _replays(
    study: Study, traces: Mapping[str, list[Trace]], calibrations: Mapping[str, list[dict[str, Any]]]
) -> dict[Point, list[Replay]]:
    found: dict[Point, list[Replay]] = {}
    for system in study.systems:
        for trace, calibration in zip(traces[system], calibrations[system], strict=True):
            fitted = temperatures_of(calibration), promised_of(calibration)
            for tau, policy in policies(study.operating_spec(system), *fitted).items():
                found.setdefault((system, tau), []).append(replay(trace, policy, f"the dev trace of {system}"))
    return found


def read_timing(
    timing: Path | str, facts: Path | str
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, str], dict[str, str]]:
    """The timed calls, their common device, card and threads, and each system's engine and precision.

    Raises `EatError` if rows differ from the facts in device or threads, and `DamagedFile` if a time is not
    above 0 or a system's engine or precision is missing.
    """
    table = read_table(timing, TIMING_COLUMNS).astype({"tau": "float64"})
    described = read_json(facts)
    setting = {key: described[key] for key in ("device", "threads")}
    for key, value in setting.items():
        found = set(table[key]) if key in table else {value}
        if found != {value}:
            raise EatError(
                f"{timing}: {key} is {listed(sorted(found, key=str))} in the rows and {value} in {facts}; "
                "a table must have one setting: time all systems in one job"
            )
    card = described.get("machine", {}).get("gpu") if setting["device"] == "cuda" else None
    setting["card"] = card or ""
    engines, precisions = described["engines"], described["precisions"]
    unknown = sorted(set(table["system"]) - (set(engines) & set(precisions)))
    if unknown:
        raise DamagedFile(f"{facts}: has no engine or precision for {listed(unknown)}; time again")
    if not (np.isfinite(table["ms"]) & (table["ms"] > 0)).all():
        raise DamagedFile(f"{timing}: a time that is not above 0; delete it and time again")
    return table, setting, engines, precisions


def require_one_card(tasks: Sequence[Results]) -> None:
    """Refuse to join tasks that were timed on different devices or cards. Raises `EatError`."""
    found = {task.task: task.setting["card"] or task.setting["device"] for task in tasks}
    if len(set(found.values())) > 1:
        each = listed(f"{task} on {card}" for task, card in found.items())
        raise EatError(
            f"the tasks were timed on different devices ({each}); a study must be timed on one model of card, or on "
            "the CPU: run `snakemake --forcerun measure_time` where all timing jobs have the same"
        )


def _require_same_texts(task: str, traces: Mapping[str, list[Trace]]) -> None:
    (first_name, first), *others = [(system, trace) for system, found in traces.items() for trace in found]
    for system, trace in others:
        if not (np.array_equal(trace.ids, first.ids) and np.array_equal(trace.labels, first.labels)):
            raise EatError(f"task {task}: {system} and {first_name} were not traced on the same dev texts; trace both")


def _require_same_points(path: Path | str, results: Results) -> None:
    """Refuse a table of other traces or thresholds, which would be joined with the FLOPs of another run."""
    if set(points_of(results.points)) != set(results.replays):
        raise EatError(f"{path}: its thresholds are not those of the configuration; calibrate again")
    for point, found in results.replays.items():
        rows = results.rows_of(point).set_index("seed").reindex(results.study.seeds)
        replayed = np.array([[one.depth.mean(), np.mean(one.predictions == results.labels)] for one in found])
        if not np.allclose(rows[["avg_depth", "accuracy"]], replayed):
            raise EatError(f"{path}: {_named(point)} differs from the traces; calibrate again")


def _require_known_points(path: Path | str, timing: pd.DataFrame, replays: Mapping[Point, list[Replay]]) -> None:
    systems = {system for system, _ in replays}
    unknown = [point for point in points_of(timing) if point[0] in systems and point not in replays]
    if unknown:
        raise EatError(f"{path}: {_named(unknown[0])} is not an operating point of the study; time again")
    for batch_size, rows in timing.groupby("batch_size"):
        if STOCK not in set(rows["system"]):
            raise EatError(f"{path}: no rows of {STOCK} at batch {batch_size} to compare with; time again")


def _named(point: Point) -> str:
    system, tau = point
    return system if tau is None else f"{system} at tau {tau:g}"
