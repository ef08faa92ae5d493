"""The model that a command is given, checked without a heavy library."""

from __future__ import annotations

from pathlib import Path

from eat.errors import EatError


def require_folder(model: Path) -> None:
    """Refuse a model that is no folder. Raises `EatError`."""
    if not model.is_dir():
        raise EatError(f"{model}: no such folder; give a study's model folder or one of `save_pretrained`")


def require_folder_or_name(model: str) -> None:
    """Refuse a model that is neither a folder nor can be a name of the hub. Raises `EatError`."""
    if Path(model).is_dir():
        return
    if model.count("/") != 1 or model.startswith((".", "/", "~")) or model.endswith("/"):
        raise EatError(
            f"{model}: no such folder; give one that `save_pretrained` wrote, or a name of the hub: owner/name"
        )
