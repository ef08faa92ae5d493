"""Checks that the sections of a study are consistent: names in one section must exist in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eat.errors import listed
from eat.study.recipes import SELF

if TYPE_CHECKING:
    from eat.study.study import Study
    from eat.study.systems import System


def check_sections(study: Study) -> None:
    """Refuse a study with inconsistent sections. Raises `ValueError` that names the key and what is allowed."""
    if study.reference not in study.systems:
        raise ValueError(f"reference {study.reference!r} is not a system; known: {listed(study.systems)}")
    if not study.systems[study.reference].is_dense:
        raise ValueError(f"reference {study.reference!r} is not dense; name one without reducer, window or rule")
    head, read = study.systems[study.reference].last_head, study.systems[study.reference].exits.read
    if head == "linear" or read != "cls":
        raise ValueError(
            f"reference {study.reference!r} has `last_head: {head}` and `read: {read}`; "
            "its stock export needs last_head bert or distilbert, and read cls"
        )
    if study.systems[study.reference].width != 1.0:
        raise ValueError(f"reference {study.reference!r} has a width below 1; its stock export needs all heads")
    if study.systems[study.reference].engine != "torch":
        engine = study.systems[study.reference].engine
        raise ValueError(f"reference {study.reference!r} runs in the engine {engine}; it needs `engine: torch`")
    _check_tasks(study)
    _check_devices(study)
    _check_gpus(study)
    for name, system in study.systems.items():
        if name in ("backbone", SELF):
            raise ValueError(f"systems.{name}: the name is reserved; choose another")
        if system.backbone not in study.backbones:
            raise ValueError(
                f"systems.{name}.backbone: {system.backbone!r} is not a backbone; known: {listed(study.backbones)}"
            )
        _check_stages(study, name, system)
        if system.weights_of is not None:
            _check_inherited(study, name, system)
        if system.cascade is not None:
            _check_cascade(study, name, system)
        _check_promise(study, name, system)
        _check_costs(study, name, system)
    _refuse_cycles(study)
    _check_ablation(study)


def _check_stages(study: Study, name: str, system: System) -> None:
    """Refuse a stage with unknown initial weights or teacher, or with unlabelled texts that no task has."""
    for index, stage in enumerate(system.recipe):
        allowed = [
            "backbone",
            *(s.name for s in system.recipe[:index]),
            *(s for s, row in study.systems.items() if s != name and row.trains),
        ]
        if stage.start_from is not None and stage.start_from not in allowed:
            raise ValueError(
                f"systems.{name}.recipe.{index}.from: {stage.start_from!r} is unknown; allowed: {listed(allowed)}"
            )
        if stage.texts == "all" and not any(task.unlabelled for task in study.tasks.values()):
            raise ValueError(
                f"systems.{name}.recipe.{index}.texts: all, but no task has `unlabelled`; name texts there"
            )
        if stage.teacher is not None and stage.teacher not in study.systems:
            raise ValueError(
                f"systems.{name}.recipe.{index}.distill.teacher: {stage.teacher!r} is not a system; "
                f"known: {listed(study.systems)}"
            )
        whole = [
            other
            for other, row in study.systems.items()
            if row.trains and row.reducer.kind == "none" and row.attention.kind == "dense"
        ]
        if stage.layers_of is not None and stage.layers_of not in whole:
            raise ValueError(
                f"systems.{name}.recipe.{index}.distill.layers: {stage.layers_of!r} trains no weights here, or does "
                f"not compute all tokens and pairs; known: {listed(whole)}"
            )


def _check_tasks(study: Study) -> None:
    """Refuse a task that runs models of a task without training, or with longer text, or sets epochs of no stage."""
    trained = [name for name, task in study.tasks.items() if task.models_of is None]
    titles = study.titles()
    for name, task in study.tasks.items():
        if task.title is not None and list(titles.values()).count(task.title) > 1:
            raise ValueError(f"tasks.{name}.title: {task.title!r} is the title of another task; choose another")
        if task.models_of is not None and task.models_of not in trained:
            raise ValueError(
                f"tasks.{name}.models_of: {task.models_of!r} trains no models here; known: {listed(trained)}"
            )
        stages = list(dict.fromkeys(stage for system in study.systems for stage in study.stage_names(system)))
        unknown = [stage for stage in task.epochs if stage not in stages]
        if unknown:
            raise ValueError(f"tasks.{name}.epochs: {listed(unknown)} is no stage; known: {listed(stages)}")
        longest = study.tasks[study.trained_task(name)].max_length
        if task.max_length > longest:
            raise ValueError(f"tasks.{name}.max_length: found {task.max_length}; {task.models_of} has {longest}")


def _check_devices(study: Study) -> None:
    """Refuse a trace on another device than the timing, whose answers are compared with it.

    `auto` is known only on a machine: `eat.engines.requirements` and the clock check it there.
    """
    traced, timed = study.trace.device, study.timing.device
    if traced not in (None, "auto", timed) and timed != "auto":
        raise ValueError(
            f"trace.device: found {traced!r}, but timing.device is {timed!r}; timed answers are compared with those of "
            "the trace: omit trace.device, or set both to one device"
        )


def _check_gpus(study: Study) -> None:
    """Refuse stages and batches that several processes cannot share."""
    gpus = study.training.gpus
    if gpus == 1:
        return
    for name, task in study.tasks.items():
        if task.batch_size is not None and task.batch_size < gpus:
            raise ValueError(
                f"tasks.{name}.batch_size: found {task.batch_size}, but training.gpus is {gpus}, and each GPU trains "
                "on a share of the batch: set training.gpus to at most the batch size"
            )
    for name, system in study.systems.items():
        for index, stage in enumerate(system.recipe):
            reasons = {
                "removal: soft": stage.removal == "soft" and "the loss of a reducer is about the whole batch",
                f"layer_drop: {stage.layer_drop:g}": stage.layer_drop > 0 and "one draw decides for the whole batch",
            }
            for what, reason in reasons.items():
                if reason:
                    raise ValueError(
                        f"systems.{name}.recipe.{index}: {what} with training.gpus: {gpus}; {reason}, which several "
                        "processes do not share: set training.gpus to 1"
                    )


def _check_inherited(study: Study, name: str, system: System) -> None:
    """Refuse parts that do not fit the weights of the other system."""
    base = study.systems[str(system.weights_of)]
    for key in ("backbone", "layers", "last_head"):
        if getattr(system, key) != getattr(base, key):
            raise ValueError(f"systems.{name}.{key}: differs from {system.weights_of}, whose weights it runs")
    learned = system.reducer.learns
    if learned and (system.reducer.kind, system.reducer.after) != (base.reducer.kind, base.reducer.after):
        raise ValueError(
            f"systems.{name}.reducer: {system.reducer.kind} after {listed(system.reducer.after)}, which learns; "
            f"{system.weights_of} has learned {base.reducer.kind} after [{listed(base.reducer.after)}]"
        )
    widths = base.recipe[-1].widths
    if system.width != 1.0 and (widths is None or system.width not in widths.train):
        known = "its full width alone" if widths is None else f"the widths {listed(widths.train)}"
        raise ValueError(
            f"systems.{name}.width: found {system.width:g}; {system.weights_of} was trained at {known}: use one of "
            "them, or add it to `widths` of its last stage"
        )
    untrained = [depth for depth in system.exits.after if depth not in base.exits.after]
    if untrained or (system.exits.read, system.exits.head) != (base.exits.read, base.exits.head):
        raise ValueError(
            f"systems.{name}.exits: after {listed(system.exits.after)}, read {system.exits.read}; the heads of "
            f"{system.weights_of} are after {listed(base.exits.after)} and read {base.exits.read}"
        )


def _check_cascade(study: Study, name: str, system: System) -> None:
    """Refuse a cascade of systems that are not trained or not dense, without a rule, or with its own parts."""
    dense = [other for other, row in study.systems.items() if (row.trains or row.width < 1.0) and row.is_dense]
    unknown = [member for member in system.cascade or [] if member not in dense]
    if unknown:
        raise ValueError(
            f"systems.{name}.cascade: {listed(unknown)} trains no weights here and is no width of such a system, or is "
            f"not dense; known: {listed(dense)}"
        )
    if not system.exits.rule:
        raise ValueError(
            f"systems.{name}.exits.rule: a cascade without a rule would use only its last system; give a rule"
        )
    if system.reducer.kind != "none" or system.attention.kind != "dense":
        raise ValueError(f"systems.{name}: a cascade runs dense systems; omit reducer and attention")


def _check_promise(study: Study, name: str, system: System) -> None:
    """Refuse a promise that cannot be shown with the given number of calibration texts."""
    if not system.exits.promises:
        return
    from eat.statistics import examples_needed

    exits = system.exits
    key, promise = ("choose", exits.choose) if exits.promise is None else ("promise", exits.promise)
    needed = examples_needed(promise.epsilon, promise.delta)
    if key == "choose" and exits.choose.thresholds == "per_exit":
        needed *= 2  # one half of the texts is for learning the candidates
    for task, options in study.tasks.items():
        given = options.calibration_examples
        if given is not None and given < needed:
            raise ValueError(
                f"systems.{name}.exits.{key}: epsilon {promise.epsilon:g} at delta {promise.delta:g} needs at "
                f"least {needed} calibration texts, but tasks.{task}.calibration_examples is {given}"
            )


def _check_costs(study: Study, name: str, system: System) -> None:
    """Refuse a choice by cost where mistakes have no cost."""
    without = [task for task, options in study.tasks.items() if options.triage is None]
    if system.exits.choose.by == "cost" and without:
        raise ValueError(
            f"systems.{name}.exits.choose: by cost, but tasks.{without[0]} does not say what mistakes cost; give it "
            "`triage`, or choose otherwise"
        )


def _check_ablation(study: Study) -> None:
    """Refuse variants that do not match the ablation's kind."""
    ablation = study.ablation
    if ablation is None:
        return
    named = [("base", ablation.base), *((f"variants.{i}", name) for i, name in enumerate(ablation.variants))]
    for key, name in named:
        if name not in study.systems:
            raise ValueError(f"ablation.{key}: {name!r} is not a system; known: {listed(study.systems)}")
    base = study.systems[ablation.base]
    for key, name in named[1:]:
        row = study.systems[name]
        if name in (study.reference, ablation.base):
            raise ValueError(f"ablation.{key}: {name!r} is the reference or the base, which are always included")
        if ablation.kind == "switched_off" and row.weights_of != ablation.base:
            raise ValueError(
                f"ablation.{key}: {name!r} needs `weights_of: {ablation.base}`, since nothing is retrained"
            )
        # temperatures are not weights: the same training with another calibration counts as the retrained system
        same = {"weights_of": None, "recipe": base.recipe, "calibration": base.calibration}
        if ablation.kind == "retrained" and row.weights_of is not None and row.model_copy(update=same) != base:
            raise ValueError(f"ablation.{key}: {name!r} runs the weights of {row.weights_of}; give it a recipe")


def _refuse_cycles(study: Study) -> None:
    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ValueError(f"systems depend on each other in a cycle: {' -> '.join((*path, name))}")
        for parent in study.parents(name):
            visit(parent, (*path, name))

    for name in study.systems:
        visit(name, ())
