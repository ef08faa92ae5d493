"""Read a task's texts without labels, and drop those of its splits."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.prepare.unlabelled import prepare_unlabelled
from eat.study.specs.prepare import task_of_json
from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, help="the task's name")
    parser.add_argument("--spec", required=True, help="the task's entry of the configuration, as JSON")
    parser.add_argument("--out", required=True, type=Path, help="the folder of the task's splits")
    parser.add_argument("--glue-dir", help="the folder of GLUE files, if the task is read from it")
    arguments = parser.parse_args()
    task = task_of_json(arguments.task, arguments.spec)
    prepare_unlabelled(arguments.task, task, arguments.out, arguments.glue_dir)


if __name__ == "__main__":
    run(main)
