"""Time all taggers of a task, at all their operating points, in turn over the same sentences."""

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

    from eat.files import only_one, write_json, write_table
    from eat.study.kinds import tagging_study_of_json
    from eat.study.tagging_paths import TaggingPaths
    from eat.tagging.timing import time_taggers

    study = tagging_study_of_json(arguments.study)
    # another study may run in this folder
    with only_one(TaggingPaths(study.study).clock(platform.node()), "measures time in this folder"):
        calls, state = time_taggers(study, arguments.task)
    write_table(arguments.out, calls)
    write_json(arguments.state, state)


if __name__ == "__main__":
    run(main)
