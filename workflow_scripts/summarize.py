"""Put accuracy, calibration, operating points and times of a study into its summary tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's configuration, as JSON")
    parser.add_argument("--out", required=True, type=Path, help="the folder of the study's results")
    arguments = parser.parse_args()

    from eat.study.loading import study_of_json
    from eat.summarize.buckets import bucket_rows
    from eat.summarize.promises import promise_rows
    from eat.summarize.summary import summarize
    from eat.summarize.task_results import TaskInputs

    study = study_of_json(arguments.study)
    inputs = {task: TaskInputs.of(study, task) for task in study.tasks}
    summarize(study, inputs, arguments.out, {"buckets": bucket_rows, "promises": promise_rows})


if __name__ == "__main__":
    run(main)
