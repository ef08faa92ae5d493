"""Write `dvc.yaml` from Snakemake's own plan: a stage for each phase, with its inputs, outputs and parameters.

The outputs are those of the rules, and a phase reads the inputs of its rules. `--check` tests whether the file is
current.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from eat.errors import EatError
from eat.files import write_text
from eat.prepare.backbones import given_files
from eat.prepare.sources.registry import reader_of
from eat.study.keys import matching
from eat.study.kinds import load_any_study
from eat.study.loading import read_mapping
from eat.study.study import Study
from eat.study.tagging import TaggingStudy
from eat.tagging.checks import files_of_task
from workflow_scripts._command import run
from workflow_scripts._phases import PHASES, TAGGING_PHASES, phase_of, phases_of
from workflow_scripts._records import snakemake

HEAD = """# The workflow's phases for DVC: `dvc repro`, `dvc status`, `dvc exp run`; see docs/versioning.md.
# Written by `python -m workflow_scripts.write_dvc_yaml`; a test holds it to the rules.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"), help="the study DVC versions")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if dvc.yaml is not current")
    arguments = parser.parse_args()
    text = dvc_yaml(arguments.config)
    if not arguments.check:
        write_text("dvc.yaml", text)
    elif not Path("dvc.yaml").is_file() or Path("dvc.yaml").read_text(encoding="utf-8") != text:
        raise EatError("dvc.yaml does not match the rules; run python -m workflow_scripts.write_dvc_yaml and commit it")


def dvc_yaml(config: Path, records_are_lost: bool = False) -> str:
    """The text of `dvc.yaml` for a study. records_are_lost: see `plan`."""
    config = Path(os.path.relpath(config))  # dvc.yaml is versioned, so it must not contain folders of this machine
    study = read_mapping(config)
    outputs: dict[str, set[str]] = defaultdict(set)
    for row in plan(["--configfile", str(config)], records_are_lost):
        made_in = phase_of(row["rule"])
        if made_in is not None:
            outputs[made_in].add(row["output_file"])
    earlier = phases_read(["--configfile", str(config)], records_are_lost)
    stages = {}
    whole = load_any_study(study)
    for name, phase in phases_of(whole).items():
        workflow = {"Snakefile", "rules/common.smk", "rules/inputs.smk", f"rules/{name}.smk", *phase.files}
        read = {path for other in earlier[name] for path in outputs[other]}
        given = _given_files(whole) if name in ("prepare", "tagging") else set()
        stages[name] = {
            "cmd": f"python -m workflow_scripts.run_phase {name} --config {config}",
            "deps": sorted(workflow | phase.sources() | read | given),
            "params": [{str(config): sorted({*matching(study, phase.keys)})}],
            **_outs(sorted(outputs[name])),
        }
    return HEAD + yaml.safe_dump({"stages": stages}, sort_keys=False, width=120, allow_unicode=True)


def _given_files(study: Study | TaggingStudy) -> set[str]:
    """The user's files, which can change."""
    if isinstance(study, TaggingStudy):
        texts = {str(file) for name, task in study.tasks.items() for file in files_of_task(name, task)}
    else:
        texts = {str(file) for task in study.tasks.values() for file in reader_of(task.source, study.glue_dir).files()}
    return texts | {str(file) for backbone in study.backbones.values() for file in given_files(backbone)}


def _outs(paths: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Outputs by DVC's treatment of them. None is removed before its stage, since Snakemake decides what is remade."""
    kept = {"persist": True}
    metrics = [path for path in paths if Path(path).name == "metrics.json"]
    plots = [path for path in paths if Path(path).parent.name == "curves"]
    others = [path for path in paths if path not in metrics and path not in plots]
    sections: dict[str, list[dict[str, Any]]] = {"outs": [{path: kept} for path in others]}
    if metrics:
        sections["metrics"] = [{path: kept} for path in metrics]
    if plots:
        sections["plots"] = [{path: kept | _axes(Path(path).stem)} for path in plots]
    return sections


def _axes(curve: str) -> dict[str, str]:
    """The axes of a curve for `dvc plots`."""
    x, y = {
        "exits": ("exit", "fraction"),
        "retention": ("layer", "observed"),
        "lengths": ("length_mean", "retention"),
        "reliability": ("confidence", "accuracy"),
        "cost": ("observed_ms", "predicted_ms"),
    }[curve]
    return {"x": x, "y": y, "template": "scatter"}


def plan(given: Sequence[str], records_are_lost: bool = False) -> list[dict[str, str]]:
    """Snakemake's list of every output with its rule, its inputs, and whether it would be made again.

    given: Snakemake's options that configure the study. records_are_lost: continue if results have no records; stale
    results are then not detected.
    """
    rows, _ = snakemake("--detailed-summary", *given, records_are_lost=records_are_lost)
    return list(csv.DictReader(io.StringIO(rows), delimiter="\t"))


def phases_read(given: Sequence[str], records_are_lost: bool = False) -> dict[str, set[str]]:
    """Phase -> the other phases whose outputs its rules read, by Snakemake's graph of rules; arguments as `plan`."""
    graph, _ = snakemake("--rulegraph", *given, records_are_lost=records_are_lost)
    rules = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    found: dict[str, set[str]] = {name: set() for name in (*PHASES, *TAGGING_PHASES)}
    for number, reader in re.findall(r"(\d+) -> (\d+)", graph):
        made_by, read_by = phase_of(rules[number]), phase_of(rules[reader])
        if made_by is not None and read_by is not None and made_by != read_by:
            found[read_by].add(made_by)
    return found


if __name__ == "__main__":
    run(main)
