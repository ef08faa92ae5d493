"""A trained study, as analyses beside the workflow read it: its systems on one task, with the weights of one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from eat.engines.devices import resolve_device
from eat.engines.engine import LoadedModel
from eat.engines.registry import engine_of, require_usable
from eat.errors import EatError, listed
from eat.export.study_row import Place, StudyRow
from eat.files import read_json, require_place
from eat.model.tokenizer import load_tokenizer
from eat.study.loading import load_study
from eat.study.paths import StudyPaths
from eat.study.study import Study


@dataclass(frozen=True)
class TrainedOptions:
    """What is analysed, and where to.

    config: the study's configuration. to: the folder to write. task: default: the only one. seed: default: the study's
    first. systems: default: all that the analysis is about.
    """

    config: Path
    to: Path
    task: str | None = None
    seed: int | None = None
    systems: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.to.exists() and (not self.to.is_dir() or any(self.to.iterdir())):
            raise EatError(f"{self.to}: exists; give a new folder with --to")
        require_place(self.to)


@dataclass(frozen=True)
class TrainedStudy:
    """A task and a seed of a study that has run in the current folder. config: the file of its configuration."""

    study: Study
    task: str
    seed: int
    config: Path

    @classmethod
    def of(cls, options: TrainedOptions) -> Self:
        """Raises `EatError` if the study has no such task, seed or system, or several tasks and none was named."""
        study = load_study(options.config)
        name = options.task
        if name is None and len(study.tasks) > 1:
            raise EatError(f"{options.config}: has several tasks; give one with --task: {listed(study.tasks)}")
        task = next(iter(study.tasks)) if name is None else name
        if task not in study.tasks:
            raise EatError(f"--task: found {task!r}; the tasks of {options.config}: {listed(study.tasks)}")
        if study.trained_task(task) != task:
            raise EatError(f"--task: {task!r} runs the models of another task; give {study.trained_task(task)!r}")
        seed = study.seeds[0] if options.seed is None else options.seed
        if seed not in study.seeds:
            raise EatError(f"--seed: found {seed}; the seeds of {options.config}: {listed(study.seeds)}")
        for system in options.systems:
            if system not in study.systems:
                raise EatError(f"--system: found {system!r}; the systems of {options.config}: {listed(study.systems)}")
        return cls(study, task, seed, options.config)

    @property
    def paths(self) -> StudyPaths:
        """The files of the study."""
        return StudyPaths(self.study.study)

    @property
    def labels(self) -> list[str]:
        """The labels of the task, in order."""
        return list(read_json(self.paths.card(self.task))["labels"])

    @property
    def max_length(self) -> int:
        """The tokens of the longest text."""
        return self.study.tasks[self.task].max_length

    def row(self, system: str) -> StudyRow:
        """A system with its weights. Raises `EatError` if they are missing."""
        trained, stage = self.study.models_of(system)[0]
        row = StudyRow.of(
            Place(self.paths.results, self.study.study, self.task, trained, self.seed, stage), self.study, system
        )
        for folder in row.folders:
            if not (folder / "model.safetensors").is_file():
                raise EatError(
                    f"{folder}: no trained model of {system}; run the study first: "
                    f"snakemake --cores all --configfile {self.config}"
                )
        return row

    def loaded(self, row: StudyRow) -> tuple[LoadedModel, Tokenizer]:
        """The model of a system in its own engine and precision on the CPU, and its tokenizer.

        Raises `EatError` if it cannot run so here, or answers other labels than those of the task.
        """
        device = resolve_device("cpu")
        require_usable(row.parts.engine, row.parts.precision, device)
        model = engine_of(row.parts.engine).load(row.folders, row.parts, device)
        if model.labels != self.labels:
            raise EatError(f"{row.folders[0]}: answers {listed(model.labels)}, but the text has {listed(self.labels)}")
        return model, load_tokenizer(row.folders[0])
