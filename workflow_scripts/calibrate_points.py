"""Replay every threshold of every system over the traces of a task, and choose one for each system."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's configuration, as JSON")
    parser.add_argument("--task", required=True)
    parser.add_argument("--out", required=True, type=Path, help="the Parquet file to write")
    arguments = parser.parse_args()

    from eat.calibrate.operating_points import task_operating_points
    from eat.files import write_table
    from eat.study.loading import study_of_json
    from eat.study.paths import StudyPaths

    study = study_of_json(arguments.study)
    paths, task = StudyPaths(study.study), arguments.task
    runs = [(system, seed) for system in study.systems for seed in study.seeds]
    traces = {run: {split: paths.trace(task, *run, split) for split in ("calibration", "dev")} for run in runs}
    calibrations = {run: paths.calibration(task, *run) for run in runs}
    write_table(arguments.out, task_operating_points(study, task, traces, calibrations))


if __name__ == "__main__":
    run(main)
