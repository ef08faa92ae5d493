"""Write the summary of a tagging study."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's configuration, as JSON")
    parser.add_argument("--out", required=True, type=Path, help="the CSV file to write")
    arguments = parser.parse_args()

    from eat.files import write_table
    from eat.study.kinds import tagging_study_of_json
    from eat.tagging.summary import summary

    write_table(arguments.out, summary(tagging_study_of_json(arguments.study)))


if __name__ == "__main__":
    run(main)
