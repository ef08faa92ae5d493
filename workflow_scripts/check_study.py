"""Check a study's configuration and the user's files, and print a summary or the mistakes.

The precisions and devices of the study are tried on this machine. Of a user's file it prints the first rows as they
would be used, the labels with counts, and what looks wrong.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.errors import listed
from eat.prepare.backbones import known_depths
from eat.prepare.preview import preview
from eat.prepare.sources.looks import hinting
from eat.prepare.sources.registry import reader_of
from eat.prepare.splits import divided_text
from eat.prepare.suitability import check_folders, check_lengths
from eat.study.depths import check_depths
from eat.study.kinds import load_any_study
from eat.study.tagging import TaggingStudy
from eat.study.tasks import FileSource
from eat.tagging.checks import check_tagging
from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="a YAML file, such as config/config.yaml")
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="the study runs on other machines, such as a cluster's: do not try precisions here",
    )
    arguments = parser.parse_args()
    study = load_any_study(arguments.config)
    if isinstance(study, TaggingStudy):
        print_tagging(study)
        return
    check_depths(study, known_depths(study.backbones))
    check_lengths(study)
    check_folders(study)
    for name, task in study.tasks.items():
        reader = reader_of(task.source, study.glue_dir)
        files = reader.files()  # raises if files are missing
        if isinstance(task.source, FileSource):
            with hinting(Path(task.source.path), task.source, *files):
                divided_text(name, task)
        elif reader.is_quick:
            divided_text(name, task)
    notes = []
    if not arguments.elsewhere:
        from eat.engines.requirements import require_machine

        notes = require_machine(study)
    print(f"study {study.study}, seeds {listed(study.seeds)}")
    print(f"tasks: {listed(study.tasks)}")
    print(f"systems: {listed(study.systems)}")
    backbone = study.backbones[study.systems[study.reference].backbone]
    for task in study.tasks.values():
        if isinstance(task.source, FileSource):
            print("\n".join(preview(task.source, backbone, task.max_length).lines()))
    for note in notes:
        print(f"on this machine: {note}")


def print_tagging(study: TaggingStudy) -> None:
    """Check a study of sequence labelling and the user's files, and print a summary."""
    from eat.tagging.prepare import divided_sentences

    check_tagging(study)
    print(f"study {study.study}, seeds {listed(study.seeds)}")
    print(f"systems: {listed(study.systems)}")
    for name, task in study.tasks.items():
        _, card = divided_sentences(name, task)
        counts = listed(f"{card['sentences'][split]} {split}" for split in card["words"])
        print(f"task {name}: {counts} sentences; tags: {listed(card['tags'])}")


if __name__ == "__main__":
    run(main)
