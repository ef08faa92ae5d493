"""The configuration of a search: one study that grows by a row per trial, so that trials share what is trained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eat.errors import EatError, listed
from eat.prepare.backbones import known_depths
from eat.study.depths import depths_of
from eat.study.loading import load_study
from eat.study.study import Study
from eat.tune.options import Point
from eat.tune.space import VARIANTS, Candidate

FEW, FULL = "few", "heads"
"""The stages of the heads: after the first a trial may be pruned."""

FEW_EPOCHS, MORE_EPOCHS = 3, 17
"""Together those of `adapt-6`."""

TUNED = "tuned"
"""The name of the best row in its configuration."""

LEFT_OUT = ("ablation", "importance_texts")
"""Keys of a study that are about rows which a search does not have."""


@dataclass(frozen=True)
class Base:
    """The study that a search starts from.

    given: its keys as the user wrote them. study: the same, validated. name: of the study with the trials. layers: of
    the reference. beside: the hand-made rows that the best row is compared with.
    """

    given: Mapping[str, Any]
    study: Study
    task: str
    name: str
    layers: int
    beside: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The dense system, whose layers the heads read."""
        return self.study.reference

    @property
    def seed(self) -> int:
        """The seed with which everything is trained."""
        return self.study.seeds[0]

    def kept(self) -> list[str]:
        """The rows of the study that stay: the reference, those beside, and the systems that these need."""
        found: dict[str, None] = {}

        def visit(name: str) -> None:
            for parent in self.study.parents(name):
                visit(parent)
            found[name] = None

        for name in (self.reference, *self.beside):
            visit(name)
        return [name for name in found if name in self.given["systems"]]


def base_of(given: Mapping[str, Any], task: str | None, name: str | None, beside: Iterable[str] | None) -> Base:
    """The base of a search from the keys of a configuration.

    task: `None` if the study has only one. name: of the study with the trials; default: the study's with `-tune`.
    beside: rows; default: `adapt-6` and `adapt-6-int8`, where the study has them. Raises `EatError` if there is no such
    task or row, or the study cannot be searched.
    """
    study = load_study(given)
    if task is None:
        if len(study.tasks) > 1:
            raise EatError(f"--task: missing; the study has the tasks {listed(study.tasks)}: name one")
        (task,) = study.tasks
    if task not in study.tasks:
        raise EatError(f"--task: found {task!r}; the study has {listed(study.tasks)}")
    if study.tasks[task].models_of is not None:
        raise EatError(f"--task: {task} runs the models of {study.tasks[task].models_of}; name that task")
    name = f"{study.study}-tune" if name is None else name
    if name == study.study:
        raise EatError(f"--name: {name!r} is the study itself; give the trials another name")
    rows = [row for row in ("adapt-6", "adapt-6-int8") if row in study.systems] if beside is None else [*beside]
    if unknown := [row for row in rows if row not in study.systems]:
        raise EatError(f"--beside: {listed(unknown)} is no system of the study; it has {listed(study.systems)}")
    if TUNED in study.systems:
        raise EatError(f"the study has a system {TUNED!r}, which is the name of the best row; rename it")
    layers = depths_of(study, known_depths(study.backbones))[study.reference]
    if layers is None:
        backbone = study.systems[study.reference].backbone
        raise EatError(
            f"the layers of the backbone {backbone} are not known yet; run the study once, or name a folder with it"
        )
    if layers < 2:
        raise EatError(f"{study.reference} has {layers} layer; a text cannot exit before it")
    base = Base(given, study, task, name, layers, tuple(rows))
    load_study(growing(base, []))
    return base


def growing(base: Base, candidates: Iterable[Candidate], full: Collection[str] = ()) -> dict[str, Any]:
    """The configuration with these candidates. full: the heads that are trained to the end."""
    systems = _kept_rows(base)
    for candidate in candidates:
        systems[candidate.parent] = parent_row(base, candidate, candidate.parent in full)
        systems[candidate.row] = trial_row(candidate)
    return _with_systems(base, systems)


def best_configuration(base: Base, candidate: Candidate, point: Point) -> dict[str, Any]:
    """The configuration with the best row beside the reference and the hand-made rows."""
    systems = _kept_rows(base)
    systems[candidate.parent] = parent_row(base, candidate, True)
    systems[TUNED] = trial_row(candidate, point.tau)
    return _with_systems(base, systems)


def parent_row(base: Base, candidate: Candidate, is_full: bool) -> dict[str, Any]:
    """The row that trains heads after every layer of the frozen reference, which teaches them."""
    reference = base.study.systems[base.reference]
    layers = list(range(1, base.layers))
    has_more = bool(base.study.tasks[base.task].unlabelled)
    first = {
        "from": base.reference,
        "learning_rate": 1.0e-3,
        "train_heads": layers,
        **({"texts": "all"} if has_more else {}),
        # not `self`: what is removed changes full depth, too
        "distill": {"teacher": base.reference, "mu": 1.0, "temperature": 2.0, "onto": "all", "labels": 0.0},
    }
    later = {key: value for key, value in first.items() if key != "from"}
    recipe = [{"name": FEW, **first, "epochs": FEW_EPOCHS}]
    if is_full:
        recipe.append({"name": FULL, **later, "epochs": MORE_EPOCHS})
    return {
        "backbone": reference.backbone,
        "last_head": reference.last_head,
        "reducer": candidate.reducer_row(),
        "exits": {"after": layers, "read": candidate.read, "head": candidate.head},
        "recipe": recipe,
    }


def trial_row(candidate: Candidate, tau: float = 0.9) -> dict[str, Any]:
    """The row of a candidate, which runs the weights of its parent."""
    engine, precision = VARIANTS[candidate.variant]
    exits: dict[str, Any] = {"after": list(candidate.exits)}
    if candidate.exits:
        exits |= {"rule": ["confidence"], "tau": [tau]}
    return {
        "weights_of": candidate.parent,
        "engine": engine,
        "precision": precision,
        # thresholds were chosen on probabilities that no temperature was fitted to
        "calibration": "raw",
        "exits": exits,
    }


def _kept_rows(base: Base) -> dict[str, Any]:
    given = base.given["systems"]
    return {name: given[name] for name in base.kept()}


def _with_systems(base: Base, systems: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in base.given.items() if key not in LEFT_OUT}
    return found | {
        "study": base.name,
        "seeds": [base.seed],
        "tasks": {base.task: base.given["tasks"][base.task]},
        "systems": dict(systems),
    }
