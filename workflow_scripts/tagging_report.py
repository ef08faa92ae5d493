"""Render the report of a tagging study, with its provenance."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run
from workflow_scripts._provenance import commit_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's configuration, as JSON")
    parser.add_argument("--command", required=True, help="the command that rebuilds the study")
    parser.add_argument("--configfiles", nargs="*", default=[], type=Path, help="the study's configuration files")
    parser.add_argument("--templates", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="the page")
    arguments = parser.parse_args()

    import eat
    from eat.errors import listed
    from eat.machine import versions
    from eat.study.kinds import tagging_study_of_json
    from eat.tagging.report import write_report

    study = tagging_study_of_json(arguments.study)
    files = [Path(path) for task in study.tasks.values() for path in (task.source.path, task.source.dev_path)]
    commit, differing = commit_state([*arguments.configfiles, *files])
    installed = versions(("torch", "transformers", "tokenizers", "numpy", "snakemake"))
    provenance = {
        "Command": arguments.command,
        "Commit": commit,
        "Files that differ from it": listed(differing),
        "Seeds": listed(study.seeds),
        "Versions": listed(f"{name} {found}" for name, found in ({"eat": eat.__version__} | installed).items()),
    }
    write_report(study, arguments.templates, provenance, arguments.out)


if __name__ == "__main__":
    run(main)
