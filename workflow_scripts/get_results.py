"""Put results of a revision into a folder, without changing the current results.

A revision is a commit, branch or tag, or the name of an experiment. DVC keeps the results that its dvc.lock names. A
revision without dvc.lock has at most its published tables, docs/results/{study}.csv: rows of summary.csv.
"""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision")
    parser.add_argument("--results", required=True, type=Path, help="the folder of the study's results")
    parser.add_argument("--files", required=True, nargs="+", help="the files, as patterns below that folder")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()

    from eat.errors import EatError
    from eat.progress import counted

    kept = kept_files(arguments.revision)
    root = arguments.results.as_posix()
    if not kept.exists("dvc.lock"):
        get_published(kept, arguments.revision, arguments.results.name, arguments.out / "summary.csv")
        return
    below = [path for path in kept.find(root) if not path.startswith(".")] if kept.exists(root) else []
    names = [Path(path).relative_to(root).as_posix() for path in below]
    wanted = [name for name in names if any(fnmatchcase(name, pattern) for pattern in arguments.files)]
    if not wanted:
        raise EatError(
            f"{arguments.revision}: dvc.lock of this revision has no results in {root}; the results of this revision "
            "may not have been recorded"
        )
    for name in counted("fetched", wanted, "files"):
        target = arguments.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            kept.get_file(f"{root}/{name}", str(target))
        except (OSError, ValueError) as error:
            raise EatError(
                f"{arguments.revision}: {root}/{name} is not in DVC's cache ({str(error).splitlines()[0]}); run "
                "dvc fetch --all-commits first"
            ) from None


def get_published(kept: Any, revision: str, study: str, target: Path) -> None:
    """Write the published rows of a study's summary to `target`. Raises `EatError` if the revision has none."""
    from eat.errors import EatError

    published = f"docs/results/{study}.csv"
    if not kept.exists(published):
        raise EatError(
            f"{revision}: has neither dvc.lock, which names recorded results, nor {published}; compare a revision that "
            "has one of them"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    kept.get_file(published, str(target))


def kept_files(revision: str) -> Any:
    """The files of a revision, from DVC and git. Raises `EatError` if there is no such revision."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    from eat.errors import EatError

    kept = DVCFileSystem(".", rev=revision)
    try:
        _ = kept.repo  # a revision is looked up when it is first used
    except DvcException as error:
        raise EatError(f"{revision}: {' '.join(str(error).split())}") from None
    return kept


if __name__ == "__main__":
    run(main)
