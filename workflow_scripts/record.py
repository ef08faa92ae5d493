"""Collect Snakemake's records of a study's outputs in one file of the results."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.files import write_json
from workflow_scripts._command import run
from workflow_scripts._records import gather_records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's name")
    parser.add_argument("--out", required=True, type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    records = gather_records(arguments.study)
    write_json(arguments.out, {output: record for output, record in records.items() if output != str(arguments.out)})


if __name__ == "__main__":
    run(main)
