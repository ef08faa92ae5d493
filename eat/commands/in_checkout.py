"""What the commands share that run a study: `eat` knows no Snakemake, so a script of the checkout runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from eat.children import Elsewhere
from eat.errors import EatError


def checkout() -> Path | None:
    """The folder of the project, in which studies run: the current one, or that of this package; `None` elsewhere."""
    for folder in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (folder / "Snakefile").is_file() and (folder / "workflow_scripts" / "train_file.py").is_file():
            return folder
    return None


def require_checkout(command: str, extras: str) -> Path:
    """The folder of the project. Raises `EatError` elsewhere. extras: what the command needs installed."""
    if (root := checkout()) is None:
        raise EatError(
            f"eat {command} runs Snakemake in a checkout of the project: clone its repository and install it with "
            f'pip install --editable ".[{extras}]"'
        )
    return root


def run_script(root: Path, script: str, arguments: Sequence[str], command: str, doing: str) -> None:
    """Run `workflow_scripts.SCRIPT` in the checkout. Raises `EatError` if it fails; its own lines say why."""
    sys.stdout.flush()
    called = [sys.executable, "-m", f"workflow_scripts.{script}", *arguments]
    with Elsewhere(doing), subprocess.Popen(called, cwd=root) as program:
        try:
            status = program.wait()
        except BaseException:
            program.terminate()
            # within the time after which the guard kills both
            program.wait()
            raise
    if status != 0:
        raise EatError(f"eat {command} did not end; see the lines above")
