"""Time all systems of a task, at all their thresholds, in turn over the same texts."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's configuration, as JSON")
    parser.add_argument("--task", required=True)
    parser.add_argument("--out", required=True, type=Path, help="the Parquet file of all calls")
    parser.add_argument("--state", required=True, type=Path, help="the JSON file on the machine and the comparison")
    arguments = parser.parse_args()

    from eat.files import only_one, read_json, write_json, write_table
    from eat.results.calibrated import promised_of, temperatures_of
    from eat.study.loading import study_of_json
    from eat.study.paths import StudyPaths
    from eat.timing.clock import time_task
    from eat.timing.entries import TimedSystem

    study = study_of_json(arguments.study)
    paths, task = StudyPaths(study.study), arguments.task
    systems = [
        TimedSystem(
            system,
            seed,
            [paths.model(study.trained_task(task), trained, seed, stage) for trained, stage in study.models_of(system)],
            paths.trace(task, system, seed, "dev"),
            temperatures_of(calibration),
            promised_of(calibration),
        )
        for seed in study.seeds
        for system in study.systems
        for calibration in [read_json(paths.calibration(task, system, seed))]
    ]
    # another study may run in this folder; on a cluster the clocks of other machines do not disturb this one
    with only_one(paths.clock(platform.node()), "measures time in this folder"):
        result = time_task(study, task, systems, paths.split(task, "dev"))
    write_table(arguments.out, result.calls)
    write_json(arguments.state, result.state)


if __name__ == "__main__":
    run(main)
