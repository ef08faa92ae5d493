"""Run one phase of a study: the command of its DVC stage.

Snakemake decides which outputs of the phase are made again. A workspace that DVC has just made for an experiment
(`dvc exp run --temp` or `--queue`) has results, but no records of Snakemake: they are restored first. The profile is
that of SNAKEMAKE_PROFILE, so that `SNAKEMAKE_PROFILE=PROFILE dvc repro` runs every phase with that profile.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import yaml

from eat.errors import EatError, listed
from eat.study.kinds import load_any_study
from eat.study.paths import StudyPaths
from workflow_scripts._command import run
from workflow_scripts._phases import PHASES, phases_of
from workflow_scripts._records import read_records
from workflow_scripts.versioning import restore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", help=f"one of {listed(PHASES)}")
    parser.add_argument("--config", required=True, type=Path, help="the study")
    arguments = parser.parse_args()
    study = load_any_study(arguments.config)
    phases = phases_of(study)
    if arguments.phase not in phases:
        raise EatError(f"no phase {arguments.phase!r}; known: {listed(phases)}")
    paths = StudyPaths(study.study)
    if paths.records.is_file() and not read_records(paths.study):
        # restores records of unchanged results; any other result is made again
        print(restore(paths, ["--configfile", str(arguments.config)]))
    rules = phases[arguments.phase].rules
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--configfile", str(arguments.config)]
    sys.stdout.flush()
    # replaces this process, so that signals reach Snakemake itself, which then removes its lock
    os.execv(command[0], [*command, "--allowed-rules", *rules, "--", *outputs_of(arguments.phase)])


def outputs_of(phase: str) -> list[str]:
    """The outputs of the phase's stage in `dvc.yaml`, which DVC adds when the stage has ended."""
    stage = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"][phase]
    return [path for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, []) for path in entry]


if __name__ == "__main__":
    run(main)
