"""Read a task's tagged sentences, check them, and divide them into train, calibration and dev."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.progress import Progress
from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, help="the task's name")
    parser.add_argument("--spec", required=True, help="the task's entry of the configuration, as JSON")
    parser.add_argument("--backbones", required=True, type=Path, nargs="+", help="the folders of the backbones")
    parser.add_argument("--out", required=True, type=Path, help="the folder of the task's splits")
    arguments = parser.parse_args()

    from pydantic import TypeAdapter

    from eat.study.specs.spec import parsed
    from eat.study.tagging import TaggingTask
    from eat.tagging.prepare import prepare_sentences

    task = parsed(TypeAdapter(TaggingTask), arguments.spec, "--spec", ("tasks", arguments.task))
    with Progress("dividing the sentences", name=arguments.task):
        prepare_sentences(arguments.task, task, arguments.out, arguments.backbones)


if __name__ == "__main__":
    run(main)
