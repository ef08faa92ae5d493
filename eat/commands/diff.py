"""`eat diff`: compare the results of two revisions."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from eat.errors import EatError
from eat.interrupts import output_of

if TYPE_CHECKING:
    from eat.compare.states import State

HELP = "compare the results of two revisions"
DESCRIPTION = (
    "Compare the results of two revisions, run in the project's folder: which numbers changed and whether noise "
    "explains it, which rules were rerun and why. Prints Markdown, and writes it together with a page of frontiers."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "before",
        metavar="REV_A",
        help="a commit, branch, tag or experiment, whose results DVC keeps or docs/results publishes",
    )
    parser.add_argument("after", metavar="REV_B", nargs="?", help="another; left out: the current results")
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"), help="the study")
    parser.add_argument("--templates", type=Path, default=Path("report"), help="the folder of the page's template")
    parser.add_argument("--out", type=Path, default=Path("results/diff"), help="the folder of the comparison")


def run(options: argparse.Namespace) -> None:
    """Compare two states; each comes from the workflow's command, or is the current state of the results."""
    from eat.compare.render import compare
    from eat.compare.states import read_state
    from eat.study.loading import load_study
    from eat.study.paths import StudyPaths

    study = load_study(options.config)
    results = StudyPaths(study.study).results

    def state_of(revision: str | None, folder: Path) -> State:
        if revision is None:
            return read_state("the current results", results)
        _get_results(revision, results, folder)
        return read_state(revision, folder)

    with tempfile.TemporaryDirectory(prefix="eat-diff-") as folder:
        before = state_of(options.before, Path(folder) / "before")
        after = state_of(options.after, Path(folder) / "after")
    print(compare(before, after, study.reference, options.templates, options.out))
    print(f"Written to {options.out}.")


def _get_results(revision: str, results: Path, folder: Path) -> None:
    """Get the results of a revision into `folder` with the project's workflow, which can find them."""
    from eat.compare.states import FILES

    command = [sys.executable, "-m", "workflow_scripts.get_results", "--results", str(results), "--out", str(folder)]
    done = output_of([*command, "--files", *FILES, "--", revision], f"getting the results of {revision}")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise EatError(f"the results of {revision} were not found: {lines[-1].removeprefix('error: ')}")
