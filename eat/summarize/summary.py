"""The tables that people read: accuracy, time and work of every operating point, side by side.

`summarize` joins what the traces say (accuracy, depth, retention, FLOPs, calibration) with what the clock says, and
writes `summary.csv`, the paper's own `summary_{task}.csv`, the data behind the curves, and `metrics.json`.

How seeds are aggregated: values are means over seeds. Intervals of accuracy (Wilson's) and of its difference to the
reference (Tango's) are of the seed-mean correctness of a text, so they hold for these trained models on other texts;
`accuracy_sd` is the standard deviation over seeds. Curves pool the seeds: their n counts texts times seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json, read_table, write_json, write_table
from eat.progress import counted
from eat.results.calibrated import temperatures_of, threshold_of
from eat.results.replay import Replay, policies, replay
from eat.results.timed_calls import Point, at_point, by_unit, paired, points_of
from eat.results.trace import Trace
from eat.statistics import Estimate, accuracy_interval, difference_interval, mcnemar_p, median_ratio
from eat.study.paths import StudyPaths
from eat.study.stock import SAME_MODEL, STOCK, stock_variant
from eat.summarize.ablation import ablation_table, without_variants
from eat.summarize.cost_model import cost_curve

if TYPE_CHECKING:
    from eat.study.study import Study

Floats = npt.NDArray[np.float64]

SUMMARY_COLUMNS = (
    "task", "system", "tau", "calibration", "chosen", "within_budget", "batch_size", "device", "dtype", "threads",
    "seeds", "n", "n_timed", "accuracy", "accuracy_low", "accuracy_high", "accuracy_sd", "macro_f1", "f1",
    "delta_accuracy", "delta_low", "delta_high", "mcnemar_p", "latency_ms_mean", "latency_ms_p50", "latency_ms_p90",
    "latency_ms_p99", "examples_per_s", "speedup_vs_dense", "speedup_low", "speedup_high", "speedup_mean",
    "speedup_vs_packed_dense", "speedup_vs_deep", "avg_depth", "avg_retention", "retention_full_depth", "gflops",
    "flops_ratio", "gflops_pattern", "ece_raw", "ece_calibrated", "ece_debiased", "ece_debiased_low",
    "ece_debiased_high", "brier", "nll", "temperature",
)  # fmt: skip
TIMING_COLUMNS = ("seed", "system", "tau", "batch_size", "repeat", "block", "unit", "n", "ms")

LENGTH_BINS = 8


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
        """The files of a task where the workflow puts them."""
        paths = StudyPaths(study.study)
        runs = [(system, seed) for system in study.systems for seed in study.seeds]
        return cls(
            operating_points=paths.operating_points(task),
            traces={run: paths.trace(task, *run, "dev") for run in runs},
            calibrations={run: paths.calibration(task, *run) for run in runs},
            timing=paths.timing(task),
            timing_facts=paths.timing_state(task),
        )


def summarize(
    study: Study,
    inputs: Mapping[str, TaskInputs],
    out_folder: Path | str,
    tables: Mapping[str, Callable[[Results], pd.DataFrame]] | None = None,
) -> pd.DataFrame:
    """Write all tables of a study into `out_folder` and return the summary.

    inputs: task -> its files. tables: further ones, name -> what makes its rows of a task, with a column `system`. The
    variants of an ablation stand in its table and in no other. Raises `EatError` where files are damaged, do not belong
    together, or mix devices.
    """
    out = Path(out_folder)
    tasks = [read_results(study, task, files) for task, files in counted("read", list(inputs.items()), "tasks")]
    every = pd.concat([task_summary(task) for task in counted("summarized", tasks, "tasks")], ignore_index=True)
    for name, curve in CURVES.items():
        table = pd.concat([curve(task) for task in counted(f"curve {name} of", tasks, "tasks")], ignore_index=True)
        write_table(out / "curves" / f"{name}.csv", without_variants(study, table))
    for name, table_of in (tables or {}).items():
        table = pd.concat([table_of(task) for task in counted(f"{name} of", tasks, "tasks")], ignore_index=True)
        write_table(out / f"{name}.csv", without_variants(study, table))
    if study.ablation:
        for task, rows in ablation_table(study, every).groupby("task", sort=False):
            write_table(out / f"summary_ablation_{task}.csv", rows)
    summary = without_variants(study, every)
    for task, rows in summary.groupby("task", sort=False):
        write_table(out / f"summary_{task}.csv", paper_columns(rows))
    write_json(out / "metrics.json", metrics(study, summary))
    write_table(out / "summary.csv", summary)
    return summary


# --- what a task's files hold -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """One task's files, read and checked against each other.

    points: the dev rows of the operating points. traces, calibrations: system -> one a seed. replays: operating point
    -> one a seed. timing: the timed calls. setting: device and threads of all of them.
    precisions: system -> what it ran in, for all that were timed.
    """

    study: Study
    task: str
    points: pd.DataFrame
    traces: dict[str, list[Trace]]
    calibrations: dict[str, list[dict[str, Any]]]
    replays: dict[Point, list[Replay]]
    timing: pd.DataFrame
    setting: dict[str, Any]
    precisions: dict[str, str]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The labels of the dev split, int64 (N,); every trace has them in this order."""
        return self.traces[self.study.reference][0].labels

    @property
    def reference(self) -> Point:
        """The operating point of the dense reference."""
        return self.study.reference, None

    def correct(self, point: Point) -> npt.NDArray[np.bool_]:
        """Whether each text is answered right under each seed, bool (N, seeds)."""
        return np.stack([found.predictions == self.labels for found in self.replays[point]], axis=1)

    def difference(self, point: Point, within: npt.NDArray[np.bool_] | None = None) -> Estimate:
        """The accuracy of an operating point less that of the reference, over all texts or those `within` (N,).

        The reference does not differ from itself: that is no estimate, and both ends are 0.
        """
        if point == self.reference:
            return Estimate(0.0, 0.0, 0.0)
        texts = np.ones(len(self.labels), dtype=bool) if within is None else within
        return difference_interval(self.correct(point)[texts], self.correct(self.reference)[texts])

    def is_chosen(self, point: Point) -> bool:
        """Whether the point lies at the threshold its system is quoted at."""
        return bool(self.rows_of(point)["chosen"].iloc[0])

    def rows_of(self, point: Point) -> pd.DataFrame:
        """The rows of an operating point, one a seed."""
        return at_point(self.points, point)


def read_results(study: Study, task: str, files: TaskInputs) -> Results:
    """Read one task's files.

    Raises `EatError` where a run is missing, the traces are not of the same texts, the operating points are not those
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
        files.operating_points, ("system", "seed", "split", "tau", "accuracy", "chosen", "within_budget")
    )
    points = table[table["split"] == "dev"].astype({"tau": "float64"})
    replays = _replays(study, traces, calibrations)
    timing, setting, precisions = read_timing(files.timing, files.timing_facts)
    _require_known_points(files.timing, timing, replays)
    results = Results(study, task, points, traces, calibrations, replays, timing, setting, precisions)
    _require_same_points(files.operating_points, results)
    return results


def _replays(
    study: Study, traces: Mapping[str, list[Trace]], calibrations: Mapping[str, list[dict[str, Any]]]
) -> dict[Point, list[Replay]]:
    found: dict[Point, list[Replay]] = {}
    for system in study.systems:
        for trace, calibration in zip(traces[system], calibrations[system], strict=True):
            fitted = temperatures_of(calibration), threshold_of(calibration)
            for tau, policy in policies(study.operating_spec(system), *fitted).items():
                found.setdefault((system, tau), []).append(replay(trace, policy, f"the dev trace of {system}"))
    return found


def read_timing(timing: Path | str, facts: Path | str) -> tuple[pd.DataFrame, dict[str, Any], dict[str, str]]:
    """The timed calls, the device and threads that they share, and each system's precision.

    Raises `EatError` where rows differ from the facts in device or threads, and `DamagedFile` where a time is not
    above 0 or a system's precision is missing.
    """
    table = read_table(timing, TIMING_COLUMNS).astype({"tau": "float64"})
    described = read_json(facts)
    setting = {key: described[key] for key in ("device", "threads")}
    for key, value in setting.items():
        found = set(table[key]) if key in table else {value}
        if found != {value}:
            raise EatError(
                f"{timing}: {key} is {listed(sorted(found, key=str))} in the rows and {value} in {facts}; "
                "a table holds one setting: time all systems in one job"
            )
    unknown = sorted(set(table["system"]) - set(described["precisions"]))
    if unknown:
        raise DamagedFile(f"{facts}: does not say in which precision {listed(unknown)} ran; time again")
    if not (np.isfinite(table["ms"]) & (table["ms"] > 0)).all():
        raise DamagedFile(f"{timing}: a time that is not above 0; delete it and time again")
    return table, setting, described["precisions"]


def _require_same_texts(task: str, traces: Mapping[str, list[Trace]]) -> None:
    (first_name, first), *others = [(system, trace) for system, found in traces.items() for trace in found]
    for system, trace in others:
        if not (np.array_equal(trace.ids, first.ids) and np.array_equal(trace.labels, first.labels)):
            raise EatError(f"task {task}: {system} and {first_name} were not traced on the same dev texts; trace both")


def _require_same_points(path: Path | str, results: Results) -> None:
    """The table must be of these traces and thresholds: it would otherwise be joined with the FLOPs of another run."""
    if set(points_of(results.points)) != set(results.replays):
        raise EatError(f"{path}: its thresholds are not those of the configuration; calibrate again")
    for point, found in results.replays.items():
        rows = results.rows_of(point).set_index("seed").reindex(results.study.seeds)
        replayed = np.array([[one.depth.mean(), np.mean(one.predictions == results.labels)] for one in found])
        if not np.allclose(rows[["avg_depth", "accuracy"]], replayed):
            raise EatError(f"{path}: {_named(point)} is not what the traces give; calibrate again")


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


# --- summary.csv --------------------------------------------------------------------------------------------------


def task_summary(results: Results) -> pd.DataFrame:
    """The rows of summary.csv for one task: every operating point and every reference row, at every batch size."""
    quality = accuracy_rows(results).merge(work_rows(results)).merge(calibration_rows(results))
    quality = pd.concat([quality, reference_rows(results, quality)], ignore_index=True)
    speed = speed_rows(results)
    # a system without timed calls is a row still; a reference only exists where it was timed
    every = quality.merge(speed[["batch_size"]].drop_duplicates(), how="cross")
    table = every.merge(speed, on=["system", "tau", "batch_size"], how="left")
    table = table[table["n_timed"].notna() | table["system"].isin(list(results.study.systems))]
    precisions = {name: row.precision for name, row in results.study.systems.items()} | results.precisions
    table = table.assign(
        task=results.task, seeds=len(results.study.seeds), dtype=table["system"].map(precisions), **results.setting
    )
    order = {system: rank for rank, system in enumerate(quality["system"].drop_duplicates())}
    table = table.sort_values(["system", "tau", "batch_size"], key=lambda c: c.map(order) if c.name == "system" else c)
    return table.astype({"n": int, "n_timed": "Int64"}).fillna({"n_timed": 0})[list(SUMMARY_COLUMNS)]


def accuracy_rows(results: Results) -> pd.DataFrame:
    """Accuracy of each operating point and its paired difference to the reference, with their intervals.

    mcnemar_p is exact for one seed. For several it is twice the mean of the seeds' p-values, at most 1: that stays a
    valid p-value however the seeds depend on each other, which pooling the same texts would not.
    """
    rows = []
    for point in results.replays:
        accuracy, delta = accuracy_interval(results.correct(point)), results.difference(point)
        rows.append(
            {
                "system": point[0],
                "tau": point[1],
                "chosen": results.is_chosen(point),
                "within_budget": bool(results.rows_of(point)["within_budget"].iloc[0]),
                "calibration": results.rows_of(point)["calibration"].iloc[0],
                "n": len(results.labels),
                "accuracy": accuracy.value,
                "accuracy_low": accuracy.low,
                "accuracy_high": accuracy.high,
                "accuracy_sd": _sd(results.correct(point).mean(axis=0)),
                "delta_accuracy": delta.value,
                "delta_low": delta.low,
                "delta_high": delta.high,
                "mcnemar_p": _mcnemar(results.correct(point), results.correct(results.reference)),
            }
        )
    return pd.DataFrame(rows).astype({"tau": "float64"})


def _sd(values: Floats) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _mcnemar(own: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]) -> float:
    found = [mcnemar_p(own[:, seed], reference[:, seed]) for seed in range(own.shape[1])]
    return found[0] if len(found) == 1 else min(1.0, 2.0 * float(np.mean(found)))


def work_rows(results: Results) -> pd.DataFrame:
    """F1, depth, retention and FLOPs of each operating point, means over seeds.

    flops_ratio is the reference's FLOPs over the system's: above 1 is cheaper.
    """
    columns = ["macro_f1", "f1", "avg_depth", "avg_retention", "retention_full_depth", "gflops", "gflops_pattern"]
    table = results.points.groupby(["system", "tau"], dropna=False)[columns].mean().reset_index()
    reference = float(at_point(table, results.reference)["gflops"].iloc[0])
    return table.assign(flops_ratio=reference / table["gflops"])


def calibration_rows(results: Results) -> pd.DataFrame:
    """Calibration of each system's quoted exit on the dev split, repeated for each of its thresholds.

    Values are means over seeds, as are the ends of the interval: it is as wide as that of one seed. The quoted exit is
    the deepest from which texts leave early, the paper's P_4, and the last head for a system without a rule.
    """
    columns = {
        "ece_raw": ("raw", "ece"),
        "ece_calibrated": ("calibrated", "ece"),
        "ece_debiased": ("calibrated", "ece_debiased"),
        "ece_debiased_low": ("calibrated", "ece_debiased_low"),
        "ece_debiased_high": ("calibrated", "ece_debiased_high"),
        "brier": ("calibrated", "brier"),
        "nll": ("calibrated", "nll"),
    }
    rows = []
    for system, tau in results.replays:
        depth = quoted_exit(results, system)
        found = [_dev_measures(calibration, depth) for calibration in results.calibrations[system]]
        row = {name: np.mean([one[stage][measure] for one in found]) for name, (stage, measure) in columns.items()}
        fitted = [temperatures_of(calibration)[depth] for calibration in results.calibrations[system]]
        rows.append({"system": system, "tau": tau, **row, "temperature": np.mean(fitted)})
    return pd.DataFrame(rows).astype({"tau": "float64"})


def quoted_exit(results: Results, system: str) -> int:
    """The exit whose calibration stands for the system's in the summary; curves/reliability.csv holds them all."""
    *early, last = results.traces[system][0].logits
    return early[-1] if early and results.study.systems[system].exits.rule else last


def _dev_measures(calibration: Mapping[str, Any], depth: int) -> dict[str, dict[str, Any]]:
    """Stage -> the measures of one exit on the dev split."""
    return {one["stage"]: one for one in calibration["exits"] if one["split"] == "dev" and one["exit"] == depth}


def reference_rows(results: Results, quality: pd.DataFrame) -> pd.DataFrame:
    """Rows of what was timed beside the study's systems.

    Exports of the reference system have its accuracy and FLOPs. The others have random weights and are there for their
    latency alone: n is 0 and the rest is empty.
    """
    dense = at_point(quality, results.reference)
    rows = []
    for system in results.timing["system"].drop_duplicates():
        if system in SAME_MODEL:
            rows.append(dense.assign(system=system, chosen=True))
        elif system not in results.study.systems:
            rows.append(dense[["tau", "calibration"]].assign(system=system, chosen=True, n=0))
    return pd.concat(rows, ignore_index=True)


def speed_rows(results: Results) -> pd.DataFrame:
    """Latency, throughput and speed-ups of each timed operating point at each batch size.

    A unit is a text, or a pass over all of them at larger batches. latency_ms is the time of one call: at larger
    batches the mean call of a pass, so that p90 and p99 are left empty there. Speed-ups are medians of paired ratios
    over units, repeats and seeds, with the interval of `median_ratio` over blocks and texts; speedup_mean is the ratio
    of mean times.
    """
    calls, layers = results.timing, results.study.timing.deep_layers
    deep = None if layers is None else (stock_variant(layers), None)
    rows = []
    for batch_size, timed in calls.groupby("batch_size", sort=True):
        times = {point: by_unit(at_point(timed, point)) for point in points_of(timed)}
        for point, own in counted(f"batch {batch_size}, speed of", list(times.items()), "operating points"):
            mine, dense = paired(times, (STOCK, None), own, results.task)
            blocks = own.index.get_level_values("block").to_numpy() if batch_size == 1 else None
            speedup = median_ratio(dense, mine, blocks)
            rows.append(
                {
                    "system": point[0],
                    "tau": point[1],
                    "batch_size": batch_size,
                    "n_timed": _texts_timed(at_point(timed, point)),
                    **_latency(at_point(timed, point), int(str(batch_size))),
                    "speedup_vs_dense": speedup.value,
                    "speedup_low": speedup.low,
                    "speedup_high": speedup.high,
                    "speedup_mean": dense.sum() / mine.sum(),
                    "speedup_vs_packed_dense": _median_speedup(times, results.reference, own, results.task),
                    "speedup_vs_deep": _median_speedup(times, deep, own, results.task),
                }
            )
    return pd.DataFrame(rows).astype({"tau": "float64"})


def _texts_timed(calls: pd.DataFrame) -> int:
    """Distinct texts: every repeat and pass, under every seed, goes over the same ones."""
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


def _median_speedup(times: Mapping[Point, pd.DataFrame], other: Point | None, own: pd.DataFrame, task: str) -> float:
    """The median of paired ratios other / own; NaN where there is no other or it was not timed."""
    if other is None or other not in times:
        return float("nan")
    mine, others = paired(times, other, own, task)
    return float(np.median(others / mine))


# --- summary_{task}.csv and metrics.json --------------------------------------------------------------------------


def paper_columns(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows at batch 1 with the columns of the paper's own CSV.

    As there, latency is a mean and the speed-up a ratio of means; the median of paired ratios is in summary.csv.
    """
    rows = summary[summary["batch_size"] == 1]
    return pd.DataFrame(
        {
            "model": rows["system"],
            "tau": rows["tau"],
            "latency_ms": rows["latency_ms_mean"],
            "accuracy": rows["accuracy"],
            "speedup_vs_bert": rows["speedup_mean"],
            "delta_acc_pp": 100.0 * rows["delta_accuracy"],
            "avg_depth": rows["avg_depth"],
            "avg_retention": rows["avg_retention"],
        }
    )


def metrics(study: Study, summary: pd.DataFrame) -> dict[str, Any]:
    """The chosen operating point of each system at batch 1, for comparing two runs. What is empty is null."""
    rows = summary[summary["chosen"] & (summary["batch_size"] == 1)]
    return {
        "study": study.study,
        "tasks": {str(task): _task_metrics(study, own) for task, own in rows.groupby("task", sort=False)},
    }


def _task_metrics(study: Study, rows: pd.DataFrame) -> dict[str, Any]:
    dense = rows[rows["system"] == study.reference].iloc[0]
    return {
        "dense_accuracy": float(dense["accuracy"]),
        "n": int(dense["n"]),
        "systems": {
            row["system"]: {
                "tau": _or_none(row["tau"]),
                "accuracy": _or_none(row["accuracy"]),
                "delta_accuracy_pp": _or_none(100.0 * row["delta_accuracy"]),
                "speedup": _or_none(row["speedup_vs_dense"]),
                "speedup_low": _or_none(row["speedup_low"]),
                "speedup_high": _or_none(row["speedup_high"]),
                "avg_depth": _or_none(row["avg_depth"]),
                "flops_ratio": _or_none(row["flops_ratio"]),
            }
            for row in rows.to_dict("records")
            if row["system"] in study.systems
        },
    }


def _or_none(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


# --- curves -------------------------------------------------------------------------------------------------------


def exit_curve(results: Results) -> pd.DataFrame:
    """The part of the texts that leaves at each exit, for every operating point."""
    rows = []
    for (system, tau), found in results.replays.items():
        depth = np.concatenate([one.depth for one in found])
        for head in results.traces[system][0].logits:
            rows.append(
                {
                    "task": results.task,
                    "system": system,
                    "tau": tau,
                    "chosen": results.is_chosen((system, tau)),
                    "exit": head,
                    "fraction": np.mean(depth == head),
                    "n": len(depth),
                }
            )
    return pd.DataFrame(rows)


def retention_curve(results: Results) -> pd.DataFrame:
    """Tokens alive after each layer over tokens at input, as the reducer schedules it and as it was observed.

    over `all`: all texts at full depth, tau empty. over `running`, for each operating point at which texts may leave:
    those still running, which at a layer that has an exit are those that did not leave there, since the exit comes
    before the removal.
    """
    rows = []
    for system, traces in results.traces.items():
        alive = np.concatenate([trace.alive / trace.lengths[:, None] for trace in traces])  # (N * seeds, L)
        layers = np.arange(1, alive.shape[1] + 1)
        scheduled = scheduled_retention(traces[0].shape)
        curves: list[tuple[str, float | None, npt.NDArray[np.bool_]]] = [("all", None, np.ones_like(alive, dtype=bool))]
        for (name, tau), found in results.replays.items():
            if name == system and results.study.systems[system].exits.rule:
                depth = np.concatenate([one.depth for one in found])[:, None]
                curves.append(("running", tau, (depth > layers) | (depth == layers[-1])))
        for over, tau, live in curves:
            counts = live.sum(axis=0)
            observed = np.where(counts > 0, (alive * live).sum(axis=0) / np.maximum(counts, 1), np.nan)
            rows.append(
                pd.DataFrame(
                    {
                        "task": results.task,
                        "system": system,
                        "tau": np.nan if tau is None else tau,
                        "over": over,
                        "layer": layers,
                        "scheduled": scheduled,
                        "observed": observed,
                        "n": counts,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def scheduled_retention(shape: Mapping[str, Any]) -> Floats:
    """What a fixed ratio p leaves after each layer, (L,): the product of 1 - p over the removals so far.

    NaN for a reducer that learns how many tokens to keep.
    """
    reducer = shape["reducer"]
    layers = np.arange(1, shape["layers"] + 1)
    removals = np.isin(layers, reducer.get("after", [])).cumsum()
    if reducer["kind"] != "none" and "ratio" not in reducer:
        return np.full(len(layers), np.nan)
    kept: Floats = (1.0 - float(reducer.get("ratio", 0.0))) ** removals
    return kept


def length_curve(results: Results) -> pd.DataFrame:
    """Retention at the answer against the length of the input, in bins [low, high) of about as many texts each."""
    rows = []
    for (system, tau), found in results.replays.items():
        lengths = np.concatenate([trace.lengths for trace in results.traces[system]])
        retention = np.concatenate([one.retention for one in found])
        edges = length_edges(lengths)
        number = np.searchsorted(edges, lengths, side="right") - 1
        counts = np.bincount(number)
        rows.append(
            pd.DataFrame(
                {
                    "task": results.task,
                    "system": system,
                    "tau": np.nan if tau is None else tau,
                    "chosen": results.is_chosen((system, tau)),
                    "low": edges[:-1],
                    "high": edges[1:],
                    "length_mean": np.bincount(number, lengths) / counts,
                    "retention": np.bincount(number, retention) / counts,
                    "n": counts,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def length_edges(lengths: npt.NDArray[np.integer], bins: int = LENGTH_BINS) -> npt.NDArray[np.int64]:
    """Edges of at most `bins` quantile bins; each begins at a length that occurs, so that none is empty."""
    begins = np.quantile(lengths, np.arange(bins) / bins, method="lower")
    return np.append(np.unique(begins), lengths.max() + 1).astype(np.int64)


def reliability_curve(results: Results) -> pd.DataFrame:
    """The reliability diagram of every exit on the dev split, before and after calibration, seeds pooled."""
    rows = [
        {"system": system, "exit": one["exit"], "stage": one["stage"], **each}
        for system, calibrations in results.calibrations.items()
        for calibration in calibrations
        for one in calibration["exits"]
        if one["split"] == "dev"
        for each in one["reliability"]
    ]
    table = pd.DataFrame(rows).astype({"confidence": "float64", "accuracy": "float64"})
    sums = table[["confidence", "accuracy"]].mul(table["n"], axis=0).fillna(0.0).assign(n=table["n"])
    keys = ["system", "exit", "stage", "bin", "low", "high"]
    pooled = sums.groupby([table[key] for key in keys], sort=False).sum().reset_index()
    for column in ("confidence", "accuracy"):
        pooled[column] = pooled[column] / pooled["n"].where(pooled["n"] > 0)
    return pooled.assign(task=results.task)[["task", *keys, "confidence", "accuracy", "n"]]


CURVES: dict[str, Callable[[Results], pd.DataFrame]] = {
    "exits": exit_curve,
    "retention": retention_curve,
    "lengths": length_curve,
    "reliability": reliability_curve,
    "cost": cost_curve,
}
