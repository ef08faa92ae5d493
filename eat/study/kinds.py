"""The kind of a study's tasks, and the reading of a study of any kind.

A task is a classification unless it has `kind: tagging`. The tasks of a study are all of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from eat.errors import EatError, listed
from eat.study.loading import read_mapping, validated
from eat.study.specs.spec import parsed
from eat.study.study import A_VIEW, Study
from eat.study.tagging import TaggingStudy

KINDS = ("classification", "tagging")


def load_any_study(source: Path | str | Mapping[str, Any]) -> Study | TaggingStudy:
    """Read a study of either kind from a YAML file or a dictionary.

    Raises `EatError` with one line per wrong key, and for tasks of two kinds or of an unknown one.
    """
    origin = "configuration" if isinstance(source, Mapping) else str(source)
    value = dict(source) if isinstance(source, Mapping) else read_mapping(source)
    if kind_of(value, origin) == "tagging":
        return validated(TaggingStudy, value, origin)
    tasks = value.get("tasks")
    if isinstance(tasks, Mapping):
        value["tasks"] = {name: _without_kind(task) for name, task in tasks.items()}
    return validated(Study, value, origin)


def tagging_study_of_json(text: str) -> TaggingStudy:
    """The study that a rule passes to its command. Raises `EatError` as `load_any_study` does."""
    return parsed(TypeAdapter(TaggingStudy), text, "--study", context=A_VIEW)


def kind_of(study: Mapping[str, Any], origin: str = "configuration") -> str:
    """The kind of the tasks of a configuration that is not yet validated.

    Raises `EatError` as `load_any_study` does.
    """
    tasks = study.get("tasks")
    entries = tasks if isinstance(tasks, Mapping) else {}
    kinds = {
        name: task.get("kind", KINDS[0]) if isinstance(task, Mapping) else KINDS[0] for name, task in entries.items()
    }
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise EatError(f"{origin}: tasks.{name}.kind: found {kind!r}; allowed: {listed(KINDS)}")
    if len({*kinds.values()}) > 1:
        shown = listed(f"{name}: {kind}" for name, kind in kinds.items())
        raise EatError(
            f"{origin}: tasks: found two kinds ({shown}); the tasks of a study are of one kind: make two studies"
        )
    return next(iter(kinds.values()), KINDS[0])


def _without_kind(task: Any) -> Any:
    """The entry of a classification task as `Study` knows it, so that its parameters stay what they were."""
    return {key: value for key, value in task.items() if key != "kind"} if isinstance(task, Mapping) else task
