"""Snakemake's records (`.snakemake/metadata/`): one for each output, with the parameters and inputs it was made from.

Without them Snakemake would miss a changed parameter in silence, so they travel with the results in one JSON file.
Beside them lie marks (`.snakemake/incomplete/`): a job has begun to make this output, and has not ended. With
`rerun-incomplete`, as in our profile, Snakemake makes marked outputs again.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eat.errors import DamagedFile
from eat.files import read_json, sha256_of, write_text
from eat.paths import StudyPaths
from workflow_scripts._sources import command_line

METADATA = Path(".snakemake/metadata")
MARKS = Path(".snakemake/incomplete")
NAME_MAX = 255


def read_records(study: str) -> dict[str, dict[str, Any]]:
    """The records of a study's outputs that Snakemake has now: output -> record.

    A damaged record is none, as to Snakemake: the output that it speaks of is made again (`distrust_damaged_records`).
    """
    places = {_output_of(path): path for path in METADATA.rglob("*") if path.is_file()}
    roots = (f"data/{study}/", f"results/{study}/")
    found = {output: _whole(places[output]) for output in sorted(places) if output.startswith(roots)}
    return {output: record for output, record in found.items() if record is not None}


def gather_records(study: str) -> dict[str, dict[str, Any]]:
    """The same with the content each record speaks of: output -> record and sha256; for outputs that exist."""
    return {
        output: {"sha256": sha256_of(output), "record": record}
        for output, record in read_records(study).items()
        if Path(output).is_file()
    }


def restore_records(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Put records back where Snakemake looks for them: output -> record."""
    for output, record in records.items():
        write_text(_place(METADATA, output), json.dumps(record))
        _place(MARKS, output).unlink(missing_ok=True)


def mark_incomplete(outputs: Iterable[str]) -> None:
    """Let Snakemake make these outputs again, as if the job that made them had been cut short."""
    for output in outputs:
        write_text(_place(MARKS, output), json.dumps({"external_jobid": None}))


def marked_incomplete() -> set[str]:
    """The outputs that Snakemake will make again because a job that made them has not ended."""
    return {_output_of(path, MARKS) for path in MARKS.rglob("*") if path.is_file()}


def distrust_damaged_records() -> list[str]:
    """Mark the outputs whose records are damaged, and return them.

    Snakemake does not wait for its records to be on the disk, as we do for results: after a power loss a whole result
    may have an empty record. Snakemake would skip that record, and then miss a changed parameter in silence.
    """
    damaged = []
    for path in METADATA.rglob("*"):
        if path.is_file() and _whole(path) is None:
            output = _output_of(path)
            # a Snakemake at work in this folder may be writing it: then there is a mark, or the record is whole by now
            if Path(output).exists() and not _place(MARKS, output).exists() and _whole(path) is None:
                damaged.append(output)
    mark_incomplete(damaged)
    return sorted(damaged)


def holds_results(paths: StudyPaths) -> bool:
    """Whether a study has results, and not just what a run leaves that was cut short before the first."""
    beside = {"logs", "benchmarks", paths.checkpoints.name}
    return any(
        file.is_file()
        for folder in paths.results.glob("*")
        if folder.name not in beside
        for file in (folder, *folder.rglob("*"))
        if not file.name.startswith(".")
    )


def is_versioned(paths: StudyPaths) -> bool:
    """Whether the `dvc.lock` of this commit knows the study's results."""
    lock = Path("dvc.lock")
    return lock.is_file() and f" {paths.results.as_posix()}/" in lock.read_text(encoding="utf-8")


def remedy_for_lost_records(paths: StudyPaths, config: str) -> str:
    """What to do where a study has results and Snakemake no records: what applies in this folder. config: its file."""
    by_default = Path(config).resolve() == Path("config/config.yaml").resolve()
    if is_versioned(paths):
        return "after a checkout or dvc pull run make sync; where .snakemake was lost, make repair"
    if paths.records.is_file():
        command = "make repair" if by_default else command_line("versioning", "repair", "--config", config)
        return f"{command} restores them from {paths.records}; or delete {paths.results} to make everything again"
    return f"nothing here can restore them; delete {paths.results}, or move it away, and run again"


def _whole(path: Path) -> dict[str, Any] | None:
    """The record in a file, or nothing where it is damaged."""
    try:
        record = read_json(path)
    except DamagedFile:
        return None
    return record if isinstance(record, dict) else None


def _place(root: Path, output: str) -> Path:
    """Where Snakemake keeps the record or mark of an output: its name in base64, cut where it would be too long."""
    name = urlsafe_b64encode(output.encode()).decode()
    parts = [name[start : start + NAME_MAX - 1] for start in range(0, len(name), NAME_MAX - 1)]
    return root.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def _output_of(path: Path, root: Path = METADATA) -> str:
    parts = path.relative_to(root).parts
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in parts)).decode()
