"""Keep DVC and Snakemake of one mind: `record` after a run, `sync` after a checkout or pull, `repair` lost records.

record: put the results into DVC's cache and `dvc.lock`, if and only if every one is current.
sync: put the results of the commit that is checked out in place, with Snakemake's records of how they were made.
repair: make records anew where they were lost: from `results/{study}/records.json`, for results that are as they were
when it was written; or, where `dvc.lock` knows the results, if and only if DVC says that every one is current.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from eat.config import load_study
from eat.errors import EatError, listed
from eat.files import read_json, sha256_of
from eat.paths import StudyPaths
from workflow_scripts._command import run
from workflow_scripts._records import is_versioned, mark_incomplete, marked_incomplete, read_records, restore_records
from workflow_scripts._sources import ROOT
from workflow_scripts.write_dvc_yaml import dvc_yaml, plan

CONFIG = Path("config/config.yaml")
OLD_DATE = 946684800.0
"""2000-01-01: every source is newer than a result of this date, and is therefore compared by its content."""

SLACK_SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = {"record": record, "sync": sync, "repair": repair}
    parser.add_argument("action", choices=actions)
    parser.add_argument("--config", type=Path, default=CONFIG, help="with repair: the study, where dvc.lock has it not")
    arguments = parser.parse_args()
    if arguments.action == "repair" and not is_versioned(_paths(arguments.config)):
        print(restore(arguments.config))
        return
    if arguments.config != CONFIG:
        raise EatError(f"--config is {arguments.config}, but DVC versions the study of {CONFIG} alone; leave it out")
    _require_repository()
    print(actions[arguments.action]())


def record() -> str:
    """Commit the results to DVC. Raises `EatError` where one is stale or was changed after its job."""
    _require_current_dvc_yaml()
    planned = _planned_rules()
    if planned:
        raise EatError(f"not recorded: these rules would run again: {listed(planned)}; run snakemake --cores all first")
    changed = _changed_by_hand()
    if changed:
        raise EatError(
            f"not recorded: changed after the job that made it: {listed(changed[:3])}; delete it and run again"
        )
    _dvc("commit", "--force", "--no-relink")
    return "recorded: dvc.lock holds the results; keep it with git add dvc.lock && git commit, send data with dvc push"


def sync() -> str:
    """Check the results out and restore their records. Raises `EatError` where DVC has no results of this commit."""
    outputs = _locked_outputs()
    _dvc("checkout", "--force")
    missing = [path for path in outputs if not Path(path).exists()]
    if missing:
        raise EatError(f"{len(missing)} results are not in DVC's cache, such as {missing[0]}; run dvc pull first")
    records = _paths().records
    _paths().pdf.unlink(missing_ok=True)  # that of another commit's report
    for path in outputs:
        os.utime(path, (OLD_DATE, OLD_DATE))
    restore_records({output: entry["record"] for output, entry in read_json(records).items()})
    _record_the_records(records, CONFIG)
    return f"in place: {len(outputs)} results of this commit and their records; snakemake -n says what is stale"


def repair() -> str:
    """Make Snakemake's records anew. Raises `EatError` where DVC says that a result is not current."""
    _require_current_dvc_yaml(records_are_lost=True)
    outputs = _locked_outputs()
    if len(read_records(_paths().study)) >= len(outputs) - 1:
        return "nothing to repair: Snakemake has its records"
    dirty = _dirty_stages()
    if dirty:
        raise EatError(
            f"not repaired: DVC says that {listed(dirty)} is not current, and new records would hide it; undo the "
            "change and repair, or delete the results and run again"
        )
    _snakemake("--cores", "1", "--touch", "--forceall", records_are_lost=True)
    _dvc("commit", "--force", "--no-relink")
    return "repaired: Snakemake has records of all results again"


def restore(config: Path) -> str:
    """Restore Snakemake's records from the file that the last full run left, without DVC.

    A record is restored where the result is, byte for byte, the one it speaks of. Any other result without a record is
    marked, and Snakemake makes it again. Raises `EatError` where there is no such file.
    """
    paths = _paths(config)
    has = read_records(paths.study)
    outputs = {row["output_file"] for row in plan(config, records_are_lost=True)} - {"-"}
    lost = sorted(output for output in outputs - has.keys() if Path(output).is_file())
    if not lost:
        return "nothing to repair: Snakemake has its records"
    if not paths.records.is_file():
        raise EatError(
            f"not repaired: there is neither a dvc.lock nor {paths.records}, so nobody knows how {len(lost)} results "
            f"were made; delete {paths.results}, or move it away, and run again"
        )
    known = {output: entry for output, entry in read_json(paths.records).items() if output in lost}
    whole = [output for output, entry in known.items() if sha256_of(output) == entry["sha256"]]
    for output in whole:
        os.utime(output, (OLD_DATE, OLD_DATE))
    restore_records({output: known[output]["record"] for output in whole})
    others = [output for output in lost if output not in whole and output != str(paths.records)]
    if others:
        mark_incomplete([*others, str(paths.records)])
        return (
            f"repaired: records of {len(whole)} results; {len(others)} are not as they were recorded and are made "
            f"again, such as {others[0]}: run snakemake"
        )
    _record_the_records(paths.records, config)
    return f"repaired: records of {len(whole)} results; snakemake -n says what is stale"


def _record_the_records(records: Path, config: Path) -> None:
    """Let Snakemake record the file of the records, which cannot hold the record of itself."""
    os.utime(records, (OLD_DATE, OLD_DATE))  # older than its inputs, or there would be nothing to touch
    _snakemake(
        "--cores", "1", "--configfile", str(config), "--touch", "--allowed-rules", "record", "--", str(records)
    )  # fmt: skip
    os.utime(records, (OLD_DATE, OLD_DATE))


def _paths(config: Path = CONFIG) -> StudyPaths:
    return StudyPaths(load_study(config).study)


def _require_repository() -> None:
    if not Path(".git").exists():
        raise EatError("not under git, so there is nothing to version; the workflow itself runs without")
    if not Path(".dvc").is_dir():
        raise EatError("not a DVC repository; run dvc init, and dvc remote add where results are to be shared")


def _require_current_dvc_yaml(records_are_lost: bool = False) -> None:
    current = dvc_yaml(CONFIG, records_are_lost)
    if not Path("dvc.yaml").is_file() or Path("dvc.yaml").read_text(encoding="utf-8") != current:
        raise EatError("dvc.yaml is not what the rules say; run python -m workflow_scripts.write_dvc_yaml first")


def _planned_rules() -> list[str]:
    """The rules that Snakemake would run now, in the order of the plan; its list leaves out what is marked."""
    marked = marked_incomplete()
    return list(
        dict.fromkeys(row["rule"] for row in plan(CONFIG) if row["plan"] != "no update" or row["output_file"] in marked)
    )


def _changed_by_hand() -> list[str]:
    """Results that differ from what DVC last recorded, and are newer than the job that made them."""
    records = read_records(_paths().study)
    locked = _locked_digests()
    late = [
        path
        for path, made in records.items()
        if Path(path).exists() and Path(path).stat().st_mtime > made["endtime"] + SLACK_SECONDS
    ]
    return [path for path in late if locked.get(path) != _md5(Path(path))]


def _md5(path: Path) -> str:
    """The digest by which DVC names a file's content."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _locked_digests() -> dict[str, str]:
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.is_file() else {}
    return {out["path"]: str(out.get("md5")) for stage in stages.values() for out in stage.get("outs", [])}


def _locked_outputs() -> list[str]:
    digests = _locked_digests()
    if not digests:
        raise EatError("there is no dvc.lock, so no results of this commit are known; run snakemake --cores all")
    return sorted(digests)


def _dirty_stages() -> list[str]:
    done = _run(["dvc", "status", "--json"])
    return sorted(json.loads(done.stdout or "{}"))


def _snakemake(*arguments: str, records_are_lost: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | ({"EAT_RECORDS_ARE_LOST": "1"} if records_are_lost else {}),
    )
    if done.returncode != 0:
        raise EatError(f"snakemake failed: {' '.join((done.stdout + done.stderr).split()[-60:])}")
    return done


def _dvc(*arguments: str) -> None:
    _run(["dvc", *arguments])


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[Any]:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EatError(f"{' '.join(command)} failed: {' '.join(done.stderr.split()[-60:])}")
    return done


if __name__ == "__main__":
    run(main)
