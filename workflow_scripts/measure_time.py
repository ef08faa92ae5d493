"""Time all systems of a task, at all their thresholds, in turn over the same texts."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's configuration, as JSON")
    parser.add_argument("--task", required=True)
    parser.add_argument("--out", required=True, type=Path, help="the Parquet file of all calls")
    parser.add_argument("--state", required=True, type=Path, help="the JSON file on the machine and the comparison")
    arguments = parser.parse_args()

    from eat.config import Study
    from eat.files import read_json, write_json, write_table
    from eat.operating_points import temperatures_of
    from eat.paths import StudyPaths
    from eat.timing import TimedSystem, time_task

    study = Study.model_validate_json(arguments.study)
    paths, task = StudyPaths(study.study), arguments.task
    systems = [
        TimedSystem(
            system,
            seed,
            paths.model(study.trained_task(task), trained, seed, stage),
            paths.trace(task, system, seed, "dev"),
            temperatures_of(read_json(paths.calibration(task, system, seed))),
        )
        for seed in study.seeds
        for system in study.systems
        for trained, stage in [study.model_of(system)]
    ]
    result = time_task(study, task, systems, paths.split(task, "dev"))
    write_table(arguments.out, result.calls)
    write_json(arguments.state, result.state)


if __name__ == "__main__":
    run(main)
