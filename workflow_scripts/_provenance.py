"""The commit of a run's code, and the files it could read that differ from the commit."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from workflow_scripts._sources import ROOT

READ = ("Snakefile", "rules", "workflow_scripts", "eat", "config", "profiles", "report", "envs")
"""The folders of the project that a run reads, besides modules at the top level, which Python finds first."""

NOT_VERSIONED = "not under version control"


def commit_state(others: Iterable[Path | str] = (), root: Path = ROOT) -> tuple[str, list[str]]:
    """The commit that is checked out in `root`, and the files that a run could read and that differ from it.

    These are changed, deleted or untracked, even if git ignores them. A path is relative to `root` if it lies there.
    others: files that the run read besides the project's own, such as a user's text. If there is no commit, a
    description is returned instead, and the list is empty.
    """
    root = root.resolve()
    if not (root / ".git").exists():
        return NOT_VERSIONED, []
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel").strip()).resolve() != root:
            return NOT_VERSIONED, []  # the project lies inside the repository of something else
    except FileNotFoundError:
        return "unknown, because git is not installed", []
    except subprocess.CalledProcessError:  # as of a repository that belongs to another user
        return "unknown, because git does not read this repository; git status shows why", []
    try:
        commit = _git(root, "rev-parse", "--verify", "HEAD").strip()
    except subprocess.CalledProcessError:
        return "none yet in this repository", []
    held = set(_git(root, "ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0")) - {""}
    read = {_relative(file, root) for file in (*_own_files(root), *map(Path, others))}
    return commit, sorted((_changed(root) & {file for file in held if _is_read(file)}) | (read - held))


def _changed(root: Path) -> set[str]:
    """The files of the commit that are changed or deleted: compared with a separate index, which hides none."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        _git(root, "read-tree", "HEAD", **index)
        return set(_git(root, "diff", "--name-only", "--no-renames", "-z", "HEAD", **index).split("\0")) - {""}


def _own_files(root: Path) -> list[Path]:
    """Every file in the folders that a run reads, and every module at the top level; hidden files are left out."""
    found = [file for name in READ for file in (root / name, *(root / name).rglob("*"))]
    parts = {file: file.relative_to(root).parts for file in (*found, *root.glob("*.py")) if file.is_file()}
    return [file for file in parts if not any(part == "__pycache__" or part.startswith(".") for part in parts[file])]


def _is_read(file: str) -> bool:
    return file.split("/", maxsplit=1)[0] in READ or ("/" not in file and file.endswith(".py"))


def _relative(file: Path, root: Path) -> str:
    whole = file.parent.resolve() / file.name
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(file)


def _git(root: Path, *arguments: str, **variables: str) -> str:
    # variables such as GIT_DIR, which a hook sets, could refer to another repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environment | {"LC_ALL": "C"} | variables,
    )
    return done.stdout
