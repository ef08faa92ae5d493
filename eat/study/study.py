"""The configuration of a study: its tasks, its systems, training and measurement.

A *system* is a row: a backbone, its layers, a token reducer, an attention pattern, exits, a last head and a recipe. It
is never a class: every system is the packed encoder with these parts. The models refuse unknown keys, so that misspelt
options are errors. `eat.study.loading` reads a study; `eat.study.checks` refuses one with inconsistent sections.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from eat.errors import EatError, listed
from eat.model.options import Heads, Layers, Parts
from eat.study.ablation import Ablation
from eat.study.backbones import Backbone
from eat.study.calibration import Calibration
from eat.study.checks import check_sections
from eat.study.devices import Device
from eat.study.keys import kept
from eat.study.messages import joined
from eat.study.recipes import Annealing, Stage
from eat.study.specs.calibrate import CalibrationSpec, ExitSpec, OperatingSpec
from eat.study.specs.finetune import TrainingSpec
from eat.study.stock import STOCK_PREFIX, Rival
from eat.study.systems import System
from eat.study.tasks import Task
from eat.study.timing import Timing, Tracing
from eat.study.training import Optimization, Training
from eat.validation import Distinct, Name, OutsidePath, Strict, canonical_json

A_VIEW = "a view"
"""The context in which a view is validated (`Study.view`)."""


StudyName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=60,
        description="The study's name, part of data/{study}/ and results/{study}/.",
    ),
]


class Study(Strict):
    """The configuration of one run of the workflow."""

    study: StudyName
    seeds: Distinct[Annotated[int, Field(ge=0)]] = Field(default=[1], min_length=1)
    reference: Name = Field(description="The dense system in the role of BERT; speed-ups are over its stock export.")
    accuracy_budget: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        0.01,
        description="The largest loss of accuracy of a chosen threshold against the reference, on the calibration "
        "split.",
    )
    glue_dir: OutsidePath | None = Field(
        None,
        description="The folder of GLUE files, for sources of kind glue_dir; `--config glue_dir=FOLDER` overrides it.",
    )
    backbones: dict[Name, Backbone] = Field(min_length=1)
    tasks: dict[Name, Task] = Field(min_length=1)
    systems: dict[Name, System] = Field(min_length=1)
    training: Training = Training()
    calibration: Calibration = Calibration()
    trace: Tracing = Tracing()
    timing: Timing = Timing()
    importance_texts: int | None = Field(
        None,
        ge=8,
        description="Compare token scores with gradient saliency on this number of dev texts. Default: no comparison.",
    )
    ablation: Ablation | None = None

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, value: Any, info: ValidationInfo) -> Any:
        """Complete the rows that run another system's weights from that system's row, and add the dense rivals."""
        systems = value.get("systems") if isinstance(value, Mapping) else None
        if not isinstance(systems, Mapping):
            return value
        if info.context != A_VIEW:
            systems = {**systems, **_rivals(value, systems)}
        return {**value, "systems": {name: _inherited(name, row, systems) for name, row in systems.items()}}

    @model_validator(mode="after")
    def _sections_go_together(self, info: ValidationInfo) -> Self:
        # a view is a part of a study that was checked, such as a cascade without its rule
        if info.context != A_VIEW:
            check_sections(self)
        return self

    def parents(self, name: str) -> list[str]:
        """The systems that must be trained before `name`: whose weights it runs or starts from, and its teachers."""
        if not self.systems[name].trains:
            return list(dict.fromkeys(system for system, _ in self.models_of(name)))
        starts = [self.parent_of(name, stage) for stage in self.stage_names(name)]
        found = [start[0] for start in starts if start is not None and start[0] != name]
        found += [stage.teacher for stage in self.systems[name].recipe if stage.teacher is not None]
        return list(dict.fromkeys(found))

    def stage(self, system: str, stage: str) -> Stage:
        """A stage by name. Raises `EatError` if the system has none of that name."""
        for candidate in self.systems[system].recipe:
            if candidate.name == stage:
                return candidate
        raise EatError(f"system {system!r} has no stage {stage!r}; its stages: {listed(self.stage_names(system))}")

    def stage_names(self, system: str) -> list[str]:
        """The stages of a system in the order they are trained; none if it runs another's weights."""
        return [stage.name for stage in self.systems[system].recipe]

    def models_of(self, system: str) -> list[tuple[str, str]]:
        """The (system, stage) pairs whose weights a system runs: the last stage of its own recipe, or of the other's.

        A cascade has one for each of its systems, any other system exactly one.
        """
        runs = [self.systems[name].weights_of or name for name in self.systems[system].cascade or [system]]
        return [(trained, self.stage_names(trained)[-1]) for trained in runs]

    def titles(self) -> dict[str, str]:
        """The title of each task in the report."""
        return {name: task.title or name for name, task in self.tasks.items()}

    @property
    def has_triage(self) -> bool:
        """Whether the mistakes on some task have a cost."""
        return any(task.triage is not None for task in self.tasks.values())

    def trained_task(self, task: str) -> str:
        """The task whose models a task runs: itself, unless `models_of` is set."""
        return self.tasks[task].models_of or task

    @property
    def trace_device(self) -> Device:
        """The device on which systems are traced: `trace.device`, or that of the timing."""
        return self.trace.device or self.timing.device

    def parts(self, system: str) -> Parts:
        """The parts with which a system's weights are run."""
        row = self.systems[system]
        widths = [self.systems[member].width for member in row.cascade or []]
        return Parts(
            reducer=row.reducer,
            attention=row.attention,
            exits=row.exits.after,
            precision=row.precision,
            engine=row.engine,
            width=row.width,
            member_widths=[] if {*widths} <= {1.0} else widths,
        )

    def parent_of(self, system: str, stage: str) -> tuple[str, str] | None:
        """The (system, stage) whose weights a stage starts from; `None` for the backbone."""
        names = self.stage_names(system)
        index = names.index(stage)
        source = self.systems[system].recipe[index].start_from
        if source is None:
            source = names[index - 1] if index else "backbone"
        if source == "backbone":
            return None
        if source in names[:index]:
            return system, source
        return source, self.stage_names(source)[-1]

    def stretched(self, task: str, stage: Stage) -> Stage:
        """A stage for a task: with the task's epochs, and annealing over the same share of them."""
        options = self.tasks[task]
        epochs = options.epochs.get(stage.name, options.epochs_scale * stage.epochs)
        scale = epochs / stage.epochs
        anneal = stage.anneal and Annealing(
            start_epoch=scale * stage.anneal.start_epoch, end_epoch=scale * stage.anneal.end_epoch
        )
        return stage.model_copy(update={"epochs": epochs, "anneal": anneal})

    def training_splits(self, task: str, stage: Stage) -> list[str]:
        """The splits whose texts a stage of a task learns from."""
        learns_from_all = stage.texts == "all" and self.tasks[self.trained_task(task)].unlabelled
        return ["train", "unlabelled"] if learns_from_all else ["train"]

    def training_spec(self, task: str, system: str, stage: str) -> TrainingSpec:
        """Everything that determines a stage's weights besides data, parent and seed."""
        row = self.systems[system]
        chosen = self.stage(system, stage)
        rate = chosen.learning_rate or self.tasks[task].learning_rate or self.training.learning_rate
        batch_size = self.tasks[task].batch_size or self.training.batch_size
        # a later stage starts from this system's own layers, which were already selected
        is_first = self.stage_names(system)[0] == stage
        training = {name: getattr(self.training, name) for name in Optimization.model_fields}
        return TrainingSpec(
            max_length=self.tasks[task].max_length,
            layers=row.layers if is_first else Layers(),
            reducer=row.reducer,
            attention=row.attention,
            exits=Heads(after=row.exits.after, read=row.exits.read, head=row.exits.head),
            last_head=row.last_head,
            stage=self.stretched(task, chosen).model_copy(update={"learning_rate": rate}),
            training=Optimization(**training | {"learning_rate": rate, "batch_size": batch_size}),
        )

    def view(self, keys: Sequence[str], tasks: Sequence[str] | None = None) -> str:
        """The part of this study on which a job depends, as canonical JSON that is itself a valid study.

        keys: those that the job depends on (`eat.study.keys`); all others have their defaults. tasks: the tasks
        to keep, with those whose models they run. Default: all.
        """
        whole = self.plain()
        if tasks is not None:
            needed = {*tasks, *map(self.trained_task, tasks)}
            whole["tasks"] = {name: task for name, task in whole["tasks"].items() if name in needed}
        return canonical_json(Study.model_validate(kept(whole, keys), context=A_VIEW).plain())

    def calibration_of(self, system: str) -> Calibration:
        """The calibration of a system's exits."""
        return self.calibration.model_copy(update={"mode": self.systems[system].calibration or self.calibration.mode})

    def operating_spec(self, system: str) -> OperatingSpec:
        """The specification of a system's operating points: rule, thresholds, promise, choice, calibration."""
        exits, calibration = self.systems[system].exits, self.calibration_of(system)
        return OperatingSpec(
            rule=exits.rule,
            tau=exits.tau,
            patience=exits.patience,
            promise=exits.promise,
            choose=exits.choose,
            # temperatures must not be fitted on the texts on which the promise is tested
            calibration="raw" if exits.promises else calibration.mode,
            bins=calibration.bins,
        )

    def calibration_spec(self, system: str, task: str) -> CalibrationSpec:
        """The specification of the calibration: the temperatures, and the thresholds that keep a promise or a cost."""
        spec = self.operating_spec(system)
        found = CalibrationSpec(mode=spec.calibration, bins=spec.bins)
        if spec.promise is not None:
            return found.model_copy(update={name: getattr(spec, name) for name in ExitSpec.model_fields})
        if spec.choose.by == "cost":
            chosen = {"rule": spec.rule, "patience": spec.patience, "costs": self.tasks[task].costs}
            return found.model_copy(update={"choose": spec.choose, **chosen})
        return found.model_copy(update={"choose": spec.choose})


def _rivals(study: Mapping[Any, Any], systems: Mapping[Any, Any]) -> dict[str, Any]:
    """The rows of the dense rivals that are traced like any other; mistakes are reported by the validation.

    Raises `ValueError` if another row has a reserved name.
    """
    timing, reference = study.get("timing"), study.get("reference")
    entries = timing.get("stock") if isinstance(timing, Mapping) else None
    found = {}
    if isinstance(entries, list) and isinstance(reference, str) and reference in systems:
        for entry in entries:
            with suppress(ValidationError):
                rival = Rival.model_validate(entry)
                if rival.engine != "stock":
                    found[rival.name] = rival.system(reference)
    for name, row in systems.items():
        # a study that was written out has these rows
        own = isinstance(row, Mapping) and found.get(name, {}).items() <= row.items() and name in found
        if str(name).startswith(STOCK_PREFIX) and not own:
            raise ValueError(f"systems.{joined([name])}: the name is reserved; choose another")
    return {name: row for name, row in found.items() if name not in systems}


def _inherited(name: Any, row: Any, systems: Mapping[Any, Any]) -> Any:
    """Complete a row with `weights_of` from the row it names; other mistakes are reported by the validation.

    A cascade takes backbone, layers and last head from its first system.

    Raises `ValueError` if that row trains no weights: otherwise other keys would be reported as missing.
    """
    if isinstance(row, Mapping) and isinstance(row.get("cascade"), list) and row["cascade"]:
        first = systems.get(row["cascade"][0]) if isinstance(row["cascade"][0], Hashable) else None
        if isinstance(first, Mapping) and isinstance(first.get("weights_of"), str):
            first = systems.get(first["weights_of"])
        shared = ("backbone", "layers", "last_head")
        taken = {key: first[key] for key in shared if key in first} if isinstance(first, Mapping) else {}
        return {**taken, "recipe": [], **row}
    if not isinstance(row, Mapping) or not isinstance(row.get("weights_of"), str):
        return row
    trained = [
        other
        for other, one in systems.items()
        if not (isinstance(one, Mapping) and (one.get("weights_of") or one.get("cascade")))
    ]
    if row["weights_of"] not in trained:
        raise ValueError(
            f"systems.{joined([name])}.weights_of: {row['weights_of']!r} trains no weights here; "
            f"known: {listed(joined([other]) for other in trained)}"
        )
    base = systems[row["weights_of"]]
    if not isinstance(base, Mapping):
        return row
    filled = {**base, "recipe": [], **row}
    if isinstance(base.get("exits"), Mapping) and isinstance(row.get("exits"), Mapping):
        filled["exits"] = {**base["exits"], **row["exits"]}
    return filled
