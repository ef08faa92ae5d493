"""Checks of a tagging study that need its files or its backbones' sizes, before anything is computed."""

from __future__ import annotations

from pathlib import Path

from eat.errors import EatError
from eat.prepare.backbones import known_sizes
from eat.study.tagging import TaggingStudy, TaggingTask


def check_tagging(study: TaggingStudy) -> None:
    """Refuse an exit or a `max_length` beyond a backbone whose sizes are known. Raises `EatError`."""
    sizes = known_sizes(study.backbones)
    for name, row in study.systems.items():
        known = sizes.get(row.backbone)
        if known is None:
            continue
        if row.exits.after and max(row.exits.after) >= known.layers:
            raise EatError(
                f"systems.{name}.exits.after: found {max(row.exits.after)}; the backbone {row.backbone} has "
                f"{known.layers} layers, and the last always has a head: name earlier ones"
            )
        for task, options in study.tasks.items():
            if options.max_length > known.positions:
                raise EatError(
                    f"tasks.{task}.max_length: found {options.max_length}; the backbone {row.backbone} has "
                    f"{known.positions} positions"
                )


def files_of_task(name: str, task: TaggingTask) -> list[Path]:
    """The files of a task's sentences. Raises `EatError` for one that does not exist."""
    found = {"path": Path(task.source.path), "dev_path": Path(task.source.dev_path)}
    for key, path in found.items():
        if not path.is_file():
            raise EatError(f"tasks.{name}.source.{key}: {path}: no such file; put it there, or correct the path")
    return list(found.values())
