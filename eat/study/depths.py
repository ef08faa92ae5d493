"""The layers that a model takes from its parent, and checks that its exits and removals are within them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from eat.errors import EatError, listed

if TYPE_CHECKING:
    from eat.model.options import Layers
    from eat.study.recipes import Stage
    from eat.study.study import Study


def chosen_layers(layers: Layers, depth: int) -> list[int]:
    """The layer numbers taken from a model of `depth` layers. Raises `EatError` if it has fewer layers.

    A layer can be taken several times. It is then copied: the copies are trained independently.
    """
    if layers.first:
        numbers = list(range(1, layers.first + 1))
    elif layers.every:
        numbers = list(range(layers.every, depth + 1, layers.every))
    elif layers.stacked:
        numbers = list(range(1, depth + 1)) * layers.stacked
    else:
        numbers = layers.numbers or list(range(1, depth + 1))
    if not numbers or max(numbers) > depth:
        given = ", ".join(f"{key} {value}" for key, value in layers.plain().items() if value)
        raise EatError(f"layers: {given} of a model that has {depth}; use at most {depth}")
    return numbers


def mapped_layers(mapping: Mapping[int, int], student: int, teacher: int) -> dict[int, int]:
    """Layer of a student -> layer of its teacher, as given, or at equal distances.

    student, teacher: their numbers of layers. Raises `EatError` for a layer that one of them does not have, and if a
    mapping must be given.
    """
    for layer, source in mapping.items():
        if layer > student or source > teacher:
            raise EatError(f"mapping: found {layer}: {source}; the student has {student} layers, the teacher {teacher}")
    if not mapping and teacher % student:
        raise EatError(
            f"mapping: omitted, but the teacher has {teacher} layers, no multiple of the student's {student}; name the "
            "teacher's layer for those of the student's that learn"
        )
    return dict(mapping) or {layer: layer * teacher // student for layer in range(1, student + 1)}


def depths_of(study: Study, backbones: Mapping[str, int]) -> dict[str, int | None]:
    """The number of layers of each system, from its parent; `None` if the backbone's depth is not known yet.

    A cascade has the layers of all its systems.

    backbones: the depth of each backbone that is known already. Raises `EatError` that names the key if a system
    takes layers that its parent does not have.
    """

    @cache
    def depth_of(name: str) -> int | None:
        if not study.systems[name].trains:
            depths = [depth_of(trained) for trained, _ in study.models_of(name)]
            known = [depth for depth in depths if depth is not None]
            return sum(known) if len(known) == len(depths) else None
        parent = study.parent_of(name, study.stage_names(name)[0])
        start = backbones.get(study.systems[name].backbone) if parent is None else depth_of(parent[0])
        try:
            return None if start is None else len(chosen_layers(study.systems[name].layers, start))
        except EatError as error:
            raise EatError(f"systems.{name}.{error}") from None

    return {name: depth_of(name) for name in study.systems}


def check_depths(study: Study, backbones: Mapping[str, int]) -> None:
    """Refuse a removal, an exit or a weight after a layer that a system does not have.

    backbones: the depth of each backbone that is known already; systems on others are checked when they train. Raises
    `EatError` that names the key, what was found and what is allowed.
    """
    depths = depths_of(study, backbones)
    for name, system in study.systems.items():
        depth = depths[name]
        if depth is None:
            continue
        heads = sorted({*system.exits.after, depth})
        found: dict[str, list[int]] = {"reducer.after": list(system.reducer.after), "exits.after": system.exits.after}
        for key, layers in found.items():
            beyond = [layer for layer in layers if layer > depth]
            if beyond:
                raise EatError(f"systems.{name}.{key}: found layer {listed(beyond)}; the model has {depth} layers")
        if system.cascade is not None:
            _check_cascade(name, system.exits.after, [depths[member] or 0 for member in system.cascade])
        for index, stage in enumerate(system.recipe):
            _check_mapping(f"systems.{name}.recipe.{index}.distill.layers", stage, depth, depths)
            for key, layers in (("exit_weights", [*stage.exit_weights]), ("train_heads", stage.train_heads or [])):
                absent = [layer for layer in layers if layer not in heads]
                if absent:
                    raise EatError(
                        f"systems.{name}.recipe.{index}.{key}: found layer {listed(absent)}, which has no "
                        f"head; heads are after: {listed(heads)}"
                    )


def _check_mapping(key: str, stage: Stage, student: int, depths: Mapping[str, int | None]) -> None:
    """Check that a stage that learns from a teacher's layers maps layers that both have."""
    teacher = None if stage.layers_of is None else depths[stage.layers_of]
    if teacher is not None and stage.distill is not None and stage.distill.layers is not None:
        try:
            mapped_layers(stage.distill.layers.mapping, student, teacher)
        except EatError as error:
            raise EatError(f"{key}.{error}") from None


def _check_cascade(name: str, exits: list[int], members: list[int]) -> None:
    """Check that the exits of a cascade are the ends of all systems but the last; members: the layers of each."""
    ends = [sum(members[: index + 1]) for index in range(len(members) - 1)]
    if exits != ends:
        raise EatError(
            f"systems.{name}.exits.after: found [{listed(exits)}]; the systems of the cascade have "
            f"{listed(members)} layers, so it must be [{listed(ends)}]"
        )
