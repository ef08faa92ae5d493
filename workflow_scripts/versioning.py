"""Keep DVC and Snakemake consistent: `record` after a run, `sync` after a checkout or pull, `repair` lost records.

record: put the results into DVC's cache and `dvc.lock`, if and only if every one is current.
sync: restore the results of the commit that is checked out, with Snakemake's records.
repair: recreate lost records: from `results/{study}/records.json`, for results that are unchanged since it was
written; or, if `dvc.lock` contains the results, if and only if DVC reports that all are current. It takes Snakemake's
`--configfile` and `--config`, which define the study.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from eat.errors import EatError, listed
from eat.files import read_json, sha256_of
from eat.interrupts import output_of
from eat.progress import counted
from eat.study.kinds import load_any_study
from eat.study.loading import load_study, read_mapping
from eat.study.paths import StudyPaths
from eat.study.study import Study
from eat.study.tagging import TaggingStudy
from workflow_scripts._command import run
from workflow_scripts._records import (
    files_of,
    is_versioned,
    mark_incomplete,
    marked_incomplete,
    read_records,
    restore_records,
    snakemake,
    without_record,
)
from workflow_scripts._sources import ROOT
from workflow_scripts.write_dvc_yaml import dvc_yaml, plan

CONFIG = Path("config/config.yaml")
OLD_DATE = 946684800.0
"""2000-01-01: every source is newer than a result of this date, and is therefore compared by its content."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = {"record": record, "sync": sync, "repair": repair}
    parser.add_argument("action", choices=actions)
    for option, value in {"--configfile": "FILE", "--config": "KEY=VALUE"}.items():
        parser.add_argument(
            option, nargs="+", action="extend", default=[], metavar=value, help="for repair: as given to snakemake"
        )
    arguments = parser.parse_args()
    files, overrides = arguments.configfile, arguments.config
    given = [*(["--configfile", *files] if files else []), *(["--config", *overrides] if overrides else [])]
    if arguments.action == "repair":
        paths = StudyPaths(configured_study(files, overrides).study)
        if given or not is_versioned(paths):
            print(restore(paths, given))
            return
    if given:
        raise EatError(f"DVC versions only the study of {CONFIG}; omit {shlex.join(given)}")
    _require_repository()
    print(actions[arguments.action]())


def record() -> str:
    """Commit the results to DVC. Raises `EatError` if a result is stale or was changed after its job."""
    _require_current_dvc_yaml()
    rows = plan([])
    planned = _planned_rules(rows)
    if planned:
        raise EatError(f"not recorded: these rules would run again: {listed(planned)}; run snakemake --cores all first")
    changed = _changed_by_hand()
    if changed:
        raise EatError(
            f"not recorded: changed after the job that made it: {listed(changed[:3])}; delete it and run again"
        )
    replaced = _replaced_inputs({row["output_file"] for row in rows})
    if replaced:
        raise EatError(f"not recorded: {replaced[0]}; delete the result and run snakemake --cores all again")
    _dvc("commit", "--force", "--no-relink")
    return (
        "recorded: dvc.lock has the results; keep it with git add dvc.lock && git commit, upload the data with dvc push"
    )


def sync() -> str:
    """Check out the results and restore their records. Raises `EatError` if DVC has no results of this commit."""
    outputs = _locked_outputs()
    _dvc("checkout", "--force")
    missing = [path for path in outputs if not Path(path).exists()]
    if missing:
        raise EatError(f"{len(missing)} results are not in DVC's cache, such as {missing[0]}; run dvc pull first")
    records = _paths().records
    _paths().pdf.unlink(missing_ok=True)  # from another commit's report
    for path in outputs:
        os.utime(path, (OLD_DATE, OLD_DATE))
    restore_records({output: entry["record"] for output, entry in read_json(records).items()})
    _record_the_records(records)
    # files that DVC does not version were made from other results
    mark_incomplete(set(files_of(_paths())) - set(outputs))
    return f"in place: {len(outputs)} results of this commit and their records; snakemake -n shows what is stale"


def repair() -> str:
    """Recreate Snakemake's records. Raises `EatError` if DVC reports that a result is not current."""
    _require_current_dvc_yaml(records_are_lost=True)
    outputs = _locked_outputs()
    if not without_record(_paths(), outputs):
        return "nothing to repair: Snakemake has its records"
    dirty = sorted(json.loads(_dvc("status", "--json") or "{}"))
    if dirty:
        raise EatError(
            f"not repaired: DVC reports that {listed(dirty)} is not current, and new records would hide it; undo the "
            "change and repair, or delete the results and run again"
        )
    snakemake("--touch", "--forceall", "--cores", "1")
    mark_incomplete(without_record(_paths(), files_of(_paths())))
    _dvc("commit", "--force", "--no-relink")
    return "repaired: Snakemake has records of all results again"


def restore(paths: StudyPaths, given: Sequence[str]) -> str:
    """Restore Snakemake's records from the file of the last full run, without DVC.

    A record is restored if its result is unchanged. Any other result without a record is marked, and Snakemake makes it
    again. given: Snakemake's options that configure the study. Raises `EatError` if no
    result has a record and there is no such file.
    """
    outputs = {row["output_file"] for row in plan(given, records_are_lost=True)}
    files = files_of(paths)
    lost = without_record(paths, files)
    known = read_json(paths.records) if paths.records.is_file() else {}
    # other files are not results, or were made on demand
    named = [file for file in lost if file in outputs or file in known]
    if not named:
        mark_incomplete(lost)
        return "nothing to repair: Snakemake has its records"
    if not known and not read_records(paths.study):
        raise EatError(
            f"not repaired: there is neither a dvc.lock nor {paths.records}, so it is unknown how {len(named)} results "
            f"were made; delete {paths.data} and {paths.results}, or move them away, and run again"
        )
    compared = counted("compared", named, "results")
    whole = [file for file in compared if file in known and sha256_of(file) == known[file]["sha256"]]
    for file in whole:
        os.utime(file, (OLD_DATE, OLD_DATE))
    restore_records({file: known[file]["record"] for file in whole})
    mark_incomplete(set(lost) - set(whole) - {str(paths.records)})
    others = [file for file in named if file not in whole and file != str(paths.records)]
    if others:
        mark_incomplete([str(paths.records)])
        return (
            f"repaired: records of {len(whole)} results; {len(others)} differ from their records and are made "
            f"again, such as {others[0]}, by {shlex.join(['snakemake', '--cores', 'all', *given])}"
        )
    _record_the_records(paths.records, given)
    return f"repaired: records of {len(whole)} results; {shlex.join(['snakemake', '-n', *given])} shows what is stale"


def _record_the_records(records: Path, given: Sequence[str] = ()) -> None:
    """Let Snakemake record the file of the records, which cannot contain its own record."""
    os.utime(records, (OLD_DATE, OLD_DATE))  # older than its inputs, or there would be nothing to touch
    snakemake("--touch", "--cores", "1", *given, "--allowed-rules", "record", "--", str(records))
    os.utime(records, (OLD_DATE, OLD_DATE))


def configured_study(files: Sequence[str], overrides: Sequence[str]) -> Study | TaggingStudy:
    """The study of `--configfile FILES --config OVERRIDES`, merged as by Snakemake.

    Raises `EatError` if a file or an override cannot be read, or the study is not valid.
    """
    from snakemake.cli import parse_config
    from snakemake.utils import update_config

    config: dict[str, Any] = {}
    for file in files:
        update_config(config, read_mapping(file))
    try:
        update_config(config, parse_config(overrides))
    except ValueError as error:
        raise EatError(f"--config {shlex.join(overrides)}: {error}; a file is given by --configfile FILE") from None
    if "study" in config:
        return load_any_study(config)
    # as in the Snakefile: the default is that of the working folder, else that of the project
    whole = dict(read_mapping(CONFIG if CONFIG.is_file() else ROOT / CONFIG))
    update_config(whole, config)
    return load_any_study(whole)


def _paths() -> StudyPaths:
    return StudyPaths(load_study(CONFIG).study)


def _require_repository() -> None:
    if not Path(".git").exists():
        raise EatError("not a git repository, so there is nothing to version; the workflow itself needs no git")
    if not Path(".dvc").is_dir():
        raise EatError("not a DVC repository; run dvc init, and dvc remote add if results are to be shared")


def _require_current_dvc_yaml(records_are_lost: bool = False) -> None:
    current = dvc_yaml(CONFIG, records_are_lost)
    if not Path("dvc.yaml").is_file() or Path("dvc.yaml").read_text(encoding="utf-8") != current:
        raise EatError("dvc.yaml does not match the rules; run python -m workflow_scripts.write_dvc_yaml first")


def _planned_rules(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The rules that Snakemake would run now, in the order of its plan, which does not include marked outputs."""
    marked = marked_incomplete()
    return list(
        dict.fromkeys(row["rule"] for row in rows if row["plan"] != "no update" or row["output_file"] in marked)
    )


def _changed_by_hand() -> list[str]:
    """Results that changed after the last full run collected their records."""
    gathered = read_json(_paths().records)
    compared = counted("compared", list(gathered.items()), "results")
    return [path for path, entry in compared if Path(path).is_file() and sha256_of(path) != entry["sha256"]]


def _replaced_inputs(outputs: Set[str]) -> list[str]:
    """The outputs that were made from other content than their inputs have now, from Snakemake's records.

    The plan shows such a result as current if only the content of an input changed.
    """
    sha256 = cache(sha256_of)
    return [
        f"{result} was made from another {path}"
        for result, record in read_records(_paths().study).items()
        for path, noted in (record.get("input_checksums") or {}).items()
        if result in outputs
        and Path(result).is_file()
        and Path(path).is_file()
        and sha256(path) != noted.removeprefix("sha256:")
    ]


def _locked_outputs() -> list[str]:
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.is_file() else {}
    outputs = sorted({out["path"] for stage in stages.values() for out in stage.get("outs", [])})
    if not outputs:
        raise EatError("there is no dvc.lock, so no results of this commit are known; run snakemake --cores all")
    return outputs


def _dvc(*arguments: str) -> str:
    """The output of a command of DVC."""
    done = output_of([sys.executable, "-m", "dvc", *arguments], f"dvc {' '.join(arguments)}")
    if done.returncode != 0:
        raise EatError(f"dvc {' '.join(arguments)} failed: {' '.join(done.stderr.split()[-60:])}")
    return done.stdout


if __name__ == "__main__":
    run(main)
