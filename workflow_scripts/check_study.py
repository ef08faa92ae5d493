"""Read a study's configuration and files of one's own, and say what it consists of, or what is wrong with them."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.backbones import known_depths
from eat.config import FileSource, load_study
from eat.depths import check_depths
from eat.errors import listed
from eat.sources import source_files
from eat.splits import divided_text
from eat.suitability import check_folders, check_lengths
from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="a YAML file, such as config/config.yaml")
    arguments = parser.parse_args()
    study = load_study(arguments.config)
    check_depths(study, known_depths(study.backbones))
    check_lengths(study)
    check_folders(study)
    for name, task in study.tasks.items():
        source_files(task.source, study.glue_dir)
        if isinstance(task.source, FileSource):  # read within seconds, unlike GLUE, the hub's files and packages
            divided_text(name, task)
    print(f"study {study.study}, seeds {listed(study.seeds)}")
    print(f"tasks: {listed(study.tasks)}")
    print(f"systems: {listed(study.systems)}")


if __name__ == "__main__":
    run(main)
