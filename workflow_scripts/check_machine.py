"""Try the devices and precisions of a study on this machine, before it trains anything."""

from __future__ import annotations

import argparse
import sys

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's configuration, as JSON")
    arguments = parser.parse_args()

    from eat.engines.requirements import require_machine
    from eat.study.loading import study_of_json

    for note in require_machine(study_of_json(arguments.study)):
        print(note, file=sys.stderr)


if __name__ == "__main__":
    run(main)
