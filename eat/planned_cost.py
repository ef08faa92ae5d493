"""The estimated cost of a study, from that of a finished one: hours, cores and disk, rule by rule.

The finished study's benchmark files contain the duration of each job, and its traces the lengths of texts. The duration
of a planned job is its work, in units of work, times the finished study's pace. `ASSUMPTIONS` lists what is assumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from eat.errors import EatError, listed
from eat.files import read_json
from eat.prepare.backbones import known_depths
from eat.study.depths import depths_of
from eat.study.paths import StudyPaths
from eat.study.study import Study
from eat.study.systems import System
from eat.study.tasks import Task

ASSUMPTIONS = (
    "A unit of work is one token in one layer. The quadratic growth of attention is neglected.",
    "Every system counts with full length and depth; the pace includes the mean savings of pruning and exits.",
    "A text fills max_length, unless the finished study has a task of the same source and max_length.",
    "A stage that trains only heads has the pace of such stages in the finished study.",
    "The machine is that of the finished study, with one core per thread of a job. A GPU changes all hours.",
    "The duration of all other rules is that of the finished study, independent of the study's size.",
)
"""The assumptions of the estimate."""

OVERHEAD = "Each submitted job takes {seconds:g} s to start, and does not wait for others."


@dataclass(frozen=True)
class Job:
    """The cost of a job.

    kind: that of its pace: a rule, or `heads` for a stage that trains only heads. work: in units of that kind.
    """

    rule: str
    kind: str
    work: float
    threads: int


@dataclass(frozen=True)
class Cost:
    """The cost of all jobs of a rule."""

    rule: str
    jobs: int
    hours: float
    core_hours: float
    longest_hours: float


@dataclass(frozen=True)
class Size:
    """The disk space of a kind of file, in bytes."""

    what: str
    size: float


class Finished:
    """A study with results: the lengths of its texts, its pace, its sizes."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.paths = StudyPaths(study.study)
        self.benchmarks = self.paths.results / "benchmarks"
        if not self.benchmarks.is_dir():
            raise EatError(
                f"{self.benchmarks}: no such folder; run that study first, or give another one with --finished"
            )
        self.tokens = {task: self._tokens(task) for task in study.tasks}
        self.texts = {task: splits_of(self.paths, task) for task in study.tasks}

    def _tokens(self, task: str) -> float:
        trace = self.paths.trace(task, self.study.reference, self.study.seeds[0], "dev")
        if not trace.is_file():
            raise EatError(f"{trace}: no such file; finish the study {self.study.study} first")
        return float(pd.read_parquet(trace, columns=["length"])["length"].mean())

    def seconds(self, rule: str) -> float:
        """The total wall time of its jobs of a rule."""
        files = [*self.benchmarks.glob(f"{rule}.tsv"), *(self.benchmarks / rule).rglob("*.tsv")]
        return sum(_seconds(file) for file in files)

    def pace(self) -> dict[str, float]:
        """Seconds per unit of work, for each kind of job."""
        work: dict[str, float] = {}
        for job in jobs_of(self.study, self):
            work[job.kind] = work.get(job.kind, 0.0) + job.work
        heads = sum(
            _seconds(self.paths.benchmark("finetune", task, system, f"seed{seed}", stage.name))
            for task, options in self.study.tasks.items()
            if options.models_of is None
            for system in self.study.systems
            for seed in self.study.seeds
            for stage in self.study.systems[system].recipe
            if stage.train_heads is not None
        )
        taken = {kind: self.seconds(kind) for kind in work if kind != "heads"} | {"heads": heads}
        taken["finetune"] -= heads
        pace = {kind: taken[kind] / units for kind, units in work.items()}
        return {"heads": pace["finetune"], "trace_teacher": pace["trace"]} | pace

    def model_bytes(self, layers: int) -> float:
        """The size of a trained model: that of the smallest one with at least this many layers, else of the largest."""
        depths = layers_of(self.study)
        task = self.study.trained_task(next(iter(self.study.tasks)))
        sizes: dict[int, float] = {}
        for system, depth in depths.items():
            models = self.study.models_of(system)
            if len(models) > 1:  # a cascade has no weights of its own
                continue
            trained, stage = models[0]
            folder = self.paths.model(task, trained, self.study.seeds[0], stage)
            sizes[depth] = max(sizes.get(depth, 0.0), folder_bytes(folder))
        enough = [depth for depth in sizes if depth >= layers]
        return sizes[min(enough)] if enough else max(sizes.values())


def _seconds(benchmark: Path) -> float:
    if not benchmark.is_file():
        raise EatError(f"{benchmark}: no such file; run that job again, or give another finished study")
    return float(pd.read_csv(benchmark, sep="\t")["s"].sum())


def splits_of(paths: StudyPaths, task: str) -> dict[str, int]:
    """The number of texts of each split of a prepared task, and of those without a label."""
    card = paths.card(task)
    if not card.is_file():
        raise EatError(f"{card}: no such file; make it with snakemake --until prepare_text")
    found = {split: int(count) for split, count in read_json(card)["splits"].items()}
    unlabelled = paths.split(task, "unlabelled").with_suffix(".json")
    return found | {"unlabelled": int(read_json(unlabelled)["texts"]) if unlabelled.is_file() else 0}


def layers_of(study: Study) -> dict[str, int]:
    """The number of layers of each system. Raises `EatError` if a backbone is not fetched yet."""
    depths = depths_of(study, known_depths(study.backbones))
    unknown = [study.systems[name].backbone for name, depth in depths.items() if depth is None]
    if unknown:
        raise EatError(f"backbone {listed(dict.fromkeys(unknown))} is not fetched yet, so its layers cannot be counted")
    return {name: depth for name, depth in depths.items() if depth is not None}


def texts_of(study: Study, task: str, finished: Finished) -> dict[str, int]:
    """The texts of each split: as prepared, else as configured, else as in the finished study."""
    planned = study.tasks[task]
    if StudyPaths(study.study).card(task).is_file():
        return splits_of(StudyPaths(study.study), task)
    given = {split: getattr(planned, f"{split}_examples") for split in ("train", "calibration", "dev", "unlabelled")}
    if not planned.unlabelled:
        given["unlabelled"] = 0
    if all(count is not None for count in given.values()):
        return {split: int(count) for split, count in given.items()}
    for name, other in finished.study.tasks.items():
        if other.source == planned.source and other.splits == planned.splits:
            same = {split: getattr(other, f"{split}_examples") for split in ("train", "calibration", "dev")}
            if same == {split: given[split] for split in same} and other.unlabelled == planned.unlabelled:
                return finished.texts[name]
    raise EatError(
        f"tasks.{task}: its number of texts is unknown; give train_examples, calibration_examples and "
        "dev_examples, or prepare it with snakemake --until prepare_text"
    )


def tokens_of(task: Task, finished: Finished) -> float:
    """The mean tokens of a text: those of the same text in the finished study, else `max_length`."""
    for name, other in finished.study.tasks.items():
        if other.source == task.source and other.max_length == task.max_length:
            return finished.tokens[name]
    return float(task.max_length)


def jobs_of(study: Study, finished: Finished) -> Iterator[Job]:
    """Every job whose time depends on the study."""
    depths = layers_of(study)
    for task, options in study.tasks.items():
        teaches: dict[str, set[str]] = {system: set() for system in study.systems}
        for row in study.systems.values():
            for stage in row.recipe:
                if stage.logits_of is not None:
                    teaches[stage.logits_of].update(study.training_splits(task, stage))
        texts, tokens = texts_of(study, task, finished), tokens_of(options, finished)
        held_out = texts["calibration"] + texts["dev"]
        for system, row in study.systems.items():
            for _ in study.seeds:
                per_text = tokens * depths[system]
                computed = per_text * width_of(study, system)
                for stage in row.recipe if options.models_of is None else []:
                    kind = "finetune" if stage.train_heads is None else "heads"
                    learned = sum(texts[split] for split in study.training_splits(task, stage))
                    draws = 1 if stage.policy is None else stage.policy.draws
                    passes = draws * learned * study.stretched(task, stage).epochs
                    # a teacher that runs beside the student only computes forward, a third of a step
                    beside = 0.0 if stage.layers_of is None else tokens * depths[stage.layers_of] / 3
                    widths = 1.0 if stage.widths is None else sum(stage.widths.train)
                    work = passes * (widths * per_text + beside)
                    yield Job("finetune", kind, work, study.training.threads * study.training.gpus)
                yield Job("trace", "trace", held_out * computed, study.training.threads)
                for split in teaches[system] if options.models_of is None else ():
                    yield Job("trace_teacher", "trace_teacher", texts[split] * computed, study.training.threads)
        runs = len(study.systems) * len(study.seeds)
        yield Job("find_operating_points", "find_operating_points", float(runs * held_out), 1)
        layers = sum(timed_layers(row, depths[name]) * width_of(study, name) for name, row in study.systems.items())
        layers += 3 * depths[study.reference] + (study.timing.deep_layers or 0)
        clock = study.timing
        there = min(clock.texts, texts["dev"])
        passed = clock.passes * min(there, clock.pass_texts or there)
        timed = sum(clock.repeats * there if size == 1 else passed for size in clock.batch_sizes)
        yield Job("measure_time", "measure_time", timed * tokens * layers * len(study.seeds), study.timing.threads)
    yield Job("summarize", "summarize", float(_dev_rows(study, finished)), 1)


def width_of(study: Study, system: str) -> float:
    """The share of the heads and neurons of a system's layers that it computes; in a cascade, the mean."""
    parts = study.parts(system)
    return sum(parts.member_widths) / len(parts.member_widths) if parts.member_widths else parts.width


def timed_layers(system: System, layers: int) -> int:
    """The layers of a system that are timed: all of them at every threshold."""
    exits = system.exits
    points = 1 if exits.promise is not None else max(1, len(exits.tau) + exits.choose.finds_thresholds)
    return layers * points


def _dev_rows(study: Study, finished: Finished) -> int:
    runs = len(study.systems) * len(study.seeds)
    return sum(runs * texts_of(study, task, finished)["dev"] for task in study.tasks)


def costs(study: Study, finished: Finished, planned: Mapping[str, int], overhead: float) -> list[Cost]:
    """The cost of each rule. planned: the number of jobs per rule in Snakemake's plan. overhead: seconds per job."""
    pace = finished.pace()
    rows = []
    jobs = [*jobs_of(study, finished)]
    for rule, count in planned.items():
        seconds = [(job.work * pace[job.kind] + overhead, job.threads) for job in jobs if job.rule == rule]
        if seconds and len(seconds) != count:
            raise EatError(
                f"{rule}: Snakemake plans {count} jobs, the study has {len(seconds)}; the estimate would be wrong"
            )
        if not seconds:
            done = _count(finished.benchmarks, rule)
            seconds = [(finished.seconds(rule) / max(done, 1) + overhead, 1)] * count
        hours = [value / 3600.0 for value, _ in seconds]
        cores = sum(value * threads for value, threads in seconds) / 3600.0
        rows.append(Cost(rule, count, sum(hours), cores, max(hours)))
    return rows


def _count(benchmarks: Path, rule: str) -> int:
    return len([*benchmarks.glob(f"{rule}.tsv"), *(benchmarks / rule).rglob("*.tsv")])


def sizes(study: Study, finished: Finished, jobs: int) -> list[Size]:
    """The disk space of the finished study. jobs: their number."""
    depths = layers_of(study)
    each = sum(task.models_of is None for task in study.tasks.values()) * len(study.seeds)
    models = sum(len(study.systems[name].recipe) * finished.model_bytes(depths[name]) for name in study.systems) * each
    texts = {task: texts_of(study, task, finished) for task in study.tasks}
    traced = sum(texts[task]["calibration"] + texts[task]["dev"] for task in study.tasks)
    before = sum(found["calibration"] + found["dev"] for found in finished.texts.values())
    traces = folder_bytes(finished.paths.results / "traces") / (before * _runs(finished.study)) * traced * _runs(study)
    tokens = {task: tokens_of(options, finished) for task, options in study.tasks.items()}
    stored = sum(folder_bytes(finished.paths.data / task) for task in finished.study.tasks)
    stored /= sum(sum(finished.texts[task].values()) * finished.tokens[task] for task in finished.study.tasks)
    data = stored * sum(sum(texts[task].values()) * tokens[task] for task in study.tasks)
    backbones = folder_bytes(finished.paths.data / "backbones") / len(finished.study.backbones) * len(study.backbones)
    kept = ("models", "traces", "checkpoints")
    rest = sum(folder_bytes(path) for path in finished.paths.results.iterdir() if path.name not in kept)
    done = len([*finished.benchmarks.rglob("*.tsv")])
    return [
        Size("models", models),
        Size("backbones and text", backbones + data),
        Size("traces", traces),
        Size("tables, figures, logs, records", rest / max(done, 1) * jobs),
    ]


def checkpoint_bytes(study: Study, finished: Finished) -> float:
    """The most disk space of a training: two checkpoints and a third being written, each with weights and moments."""
    return 3 * 3 * max(finished.model_bytes(depth) for depth in layers_of(study).values())


def timing_memory_bytes(study: Study, finished: Finished) -> float:
    """The weights in the memory of a timing job: every system of every seed, and three stock models per seed."""
    depths = layers_of(study)
    own = sum(finished.model_bytes(depth) for depth in depths.values())
    stock = finished.model_bytes(depths[study.reference]) * 2
    return (own + stock) * len(study.seeds)


def _runs(study: Study) -> int:
    return len(study.systems) * len(study.seeds)


def folder_bytes(folder: Path) -> float:
    """The size of all files below a folder."""
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def totals(rows: Iterable[Cost]) -> Cost:
    """The sum of all rules."""
    found = [*rows]
    return Cost(
        "all",
        sum(row.jobs for row in found),
        float(np.sum([row.hours for row in found])),
        float(np.sum([row.core_hours for row in found])),
        max(row.longest_hours for row in found),
    )
