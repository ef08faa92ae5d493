"""Choose an operating point for each tagger of a task on the calibration split."""

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

    from eat.files import write_table
    from eat.study.kinds import tagging_study_of_json
    from eat.tagging.points import chosen_points

    write_table(arguments.out, chosen_points(tagging_study_of_json(arguments.study), arguments.task))


if __name__ == "__main__":
    run(main)
