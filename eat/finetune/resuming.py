"""Selection of the checkpoint from which a run resumes: the newest complete and undamaged one."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from eat.errors import DamagedFile
from eat.files import read_json, sha256_of

COMPLETE = "complete"
"""A file that is written last into a checkpoint's folder, with the sha256 of each other file."""

KEPT = 2
"""The number of checkpoints kept: the newest, and one in case the newest is damaged."""


class MarkComplete(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint as complete when it is written, and then removes old ones.

    Files are not flushed to disk, which would take seconds per gigabyte: damage by a power loss is detected by the
    digests in the mark, and costs the steps since the previous checkpoint.
    """

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the mark into the newest checkpoint."""
        folder = Path(args.output_dir)
        newest = checkpoint_of(folder, state.global_step)
        files = sorted(path.name for path in newest.iterdir())
        digests = {name: sha256_of(newest / name) for name in files}
        (newest / COMPLETE).write_text(json.dumps({"files": digests}), encoding="utf-8")
        for old in _checkpoints(folder)[KEPT:]:
            shutil.rmtree(old)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint below `folder`, or `None`.

    Incomplete and damaged ones are skipped, with a line on stderr that gives the reason.
    """
    for checkpoint in _checkpoints(folder):
        reason = _damage(checkpoint)
        if reason is None:
            return checkpoint
        print(f"skipping {checkpoint}: {reason}", file=sys.stderr, flush=True)
    return None


def _checkpoints(folder: Path) -> list[Path]:
    """All checkpoints below `folder`, the newest first."""
    return sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step at which a checkpoint was written."""
    return int(checkpoint.name.split("-")[1])


def checkpoint_of(folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return folder / f"checkpoint-{step}"


def _damage(checkpoint: Path) -> str | None:
    """The fault of a checkpoint, or `None` if it is complete."""
    mark = checkpoint / COMPLETE
    if not mark.exists():
        return "it is incomplete"
    try:
        files = read_json(mark)["files"]
    except DamagedFile:
        return f"its mark {COMPLETE} is damaged"
    for name, expected in files.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if sha256_of(checkpoint / name) != expected:
            return f"{name} differs from what was written"
    return None


def remove_newer(folder: Path, whole: Path | None) -> None:
    """Remove the checkpoints that were skipped: the run repeats their steps and writes folders of the same names."""
    for checkpoint in _checkpoints(folder):
        if whole is None or step_of(checkpoint) > step_of(whole):
            shutil.rmtree(checkpoint)
