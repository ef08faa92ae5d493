"""Render a study's report, as LaTeX and as one HTML page, with its provenance."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workflow_scripts._command import run
from workflow_scripts._provenance import commit_state
from workflow_scripts._records import read_records

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pandas", "snakemake")

SHORTEST_SECONDS = 0.01
"""A record of a shorter job was recreated for an existing result (`make repair`) and has no duration."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the study's configuration, as JSON")
    parser.add_argument("--figures", required=True, help="name, `of` and place of each figure, as JSON")
    parser.add_argument("--command", required=True, help="the command that rebuilds the study")
    parser.add_argument("--configfiles", nargs="*", default=[], type=Path, help="the study's configuration files")
    parser.add_argument("--templates", required=True, type=Path)
    parser.add_argument("--gpu", type=Path, help="the table of a run on a GPU, of `workflow_scripts.gpu_results`")
    parser.add_argument("--out", required=True, type=Path, help="the folder of the report")
    arguments = parser.parse_args()

    import eat
    from eat.files import read_json, sha256_of
    from eat.report.figures import placement
    from eat.report.render import render_report
    from eat.study.loading import study_of_json
    from eat.study.paths import StudyPaths

    study = study_of_json(arguments.study)
    paths = StudyPaths(study.study)
    commit, differing = commit_state([*arguments.configfiles, *inputs_from_outside(study.study)])
    provenance = {
        "commit": commit,
        "differing": differing,
        "date": ", ".join(sorted({read_json(paths.timing_state(task))["date"] for task in study.tasks})),
        "command": arguments.command,
        "pdf_command": f"{arguments.command} -- render_pdf",
        "reference": study.reference,
        "seeds": study.seeds,
        "environment": environment(),
        "ablation": study.ablation is not None,
        "importance": study.importance_texts is not None,
        "triage": study.has_triage,
        "lock": sha256_of("dvc.lock")[:16] if Path("dvc.lock").is_file() else "",
        "durations": durations(study.study),
        "versions": {"eat": eat.__version__} | {package: version(package) for package in PACKAGES},
    }
    paths.pdf.unlink(missing_ok=True)  # that of an earlier report
    render_report(
        study.study,
        study.titles(),
        paths.results,
        paths.data,
        arguments.templates,
        provenance,
        arguments.out,
        placement(json.loads(arguments.figures)),
        arguments.gpu,
    )


def durations(study: str) -> list[dict[str, Any]]:
    """The duration of the jobs of each rule from Snakemake's records, in the order the rules began."""
    jobs: dict[str, dict[str, tuple[float, float]]] = {}
    for record in read_records(study).values():
        begin, end = record["starttime"], record["endtime"]
        if end - begin > SHORTEST_SECONDS:
            # the outputs of one job share its log
            jobs.setdefault(record["rule"], {})[str(record["log"])] = (begin, end)
    first = sorted(jobs, key=lambda rule: min(jobs[rule].values()))
    seconds = {rule: [end - start for start, end in jobs[rule].values()] for rule in first}
    return [
        {"rule": rule, "jobs": len(times), "seconds": sum(times), "longest": max(times)}
        for rule, times in seconds.items()
    ]


def inputs_from_outside(study: str) -> list[str]:
    """The input files of jobs in Snakemake's records that are not results themselves."""
    records = read_records(study)
    return sorted({path for record in records.values() for path in record["input"] or []} - records.keys())


def environment() -> str:
    """The documented environment in which this command runs (see docs/environments.md)."""
    if os.environ.get("APPTAINER_CONTAINER") or Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "a container"
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return "a conda environment"
    return "a virtual environment" if sys.prefix != sys.base_prefix else "the Python of the machine"


if __name__ == "__main__":
    run(main)
