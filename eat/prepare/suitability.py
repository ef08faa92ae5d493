"""Checks whether a study's backbones support its texts, before anything is fetched or trained."""

from __future__ import annotations

from pathlib import Path

from eat.errors import EatError
from eat.prepare.backbones import folder_backbone, known_sizes, require_usable
from eat.prepare.sources.registry import reader_of
from eat.study.backbones import FolderBackbone
from eat.study.study import Study


def needs_of(study: Study) -> tuple[int, bool]:
    """The longest text in tokens, and whether there are pairs of texts: every system runs every task."""
    tasks = study.tasks.values()
    return max(task.max_length for task in tasks), any(reader_of(task.source).has_pairs for task in tasks)


def check_lengths(study: Study) -> None:
    """Refuse a `max_length` beyond the positions of a backbone whose sizes are known. Raises `EatError`."""
    sizes = known_sizes(study.backbones)
    for backbone in _used(study):
        for name, task in study.tasks.items():
            if backbone in sizes and task.max_length > sizes[backbone].positions:
                raise EatError(
                    f"tasks.{name}.max_length: found {task.max_length}; the backbone {backbone} has "
                    f"{sizes[backbone].positions} positions"
                )


def check_folders(study: Study) -> None:
    """Refuse a folder whose files are not a backbone for the study's texts.

    Other backbones are checked in the same way when they are fetched. Raises as `fetch_backbone` does.
    """
    for name in _used(study):
        backbone = study.backbones[name]
        if isinstance(backbone, FolderBackbone):
            folder_backbone(Path(backbone.path))
            require_usable(Path(backbone.path), *needs_of(study))


def _used(study: Study) -> list[str]:
    """The backbones that a system starts from."""
    return list(dict.fromkeys(system.backbone for system in study.systems.values()))
