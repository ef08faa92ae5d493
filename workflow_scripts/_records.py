"""Snakemake's records (`.snakemake/metadata/`): one for each output, with the parameters and inputs it was made from.

Without them Snakemake would not notice a changed parameter, so they are stored with the results in one JSON file. There
are also marks (`.snakemake/incomplete/`): a job has started to make this output and has not ended. With
`rerun-incomplete`, as in our profile, Snakemake makes marked outputs again.
"""

from __future__ import annotations

import json
import os
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json, sha256_of, write_json, write_text
from eat.interrupts import output_of
from eat.progress import counted
from eat.study.paths import StudyPaths
from workflow_scripts._content import cached_sha256
from workflow_scripts._sources import ROOT, command_line

METADATA = Path(".snakemake/metadata")
MARKS = Path(".snakemake/incomplete")
LOCKS = Path(".snakemake/locks")
NOTES = Path(".snakemake/eat/contents.json")
NAME_MAX = 255

RECORDS_ARE_LOST = {"EAT_RECORDS_ARE_LOST": "1"}
"""The environment in which the workflow accepts results without records: to repair them, or to count jobs."""

MOST_NAMED = 3

DATE_SECONDS = 2.0
"""The largest difference of the dates of a result and its record: archives round dates to one or two seconds."""


def read_records(study: str) -> dict[str, dict[str, Any]]:
    """The current Snakemake records of a study's outputs: output -> record.

    A damaged record is ignored, as by Snakemake: its output is made again (`distrust_damaged_records`).
    """
    places = {_output_of(path): path for path in METADATA.rglob("*") if path.is_file()}
    roots = (f"data/{study}/", f"results/{study}/")
    found = {output: _read_record(places[output]) for output in sorted(places) if output.startswith(roots)}
    return {output: record for output, record in found.items() if record is not None}


def gather_records(study: str) -> dict[str, dict[str, Any]]:
    """The same with the content of each output: output -> record and sha256; for outputs that exist."""
    records = [(output, record) for output, record in read_records(study).items() if Path(output).is_file()]
    return {
        output: {"sha256": sha256_of(output), "record": record}
        for output, record in counted("gathered records of", records, "results")
    }


def restore_records(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Restore records to Snakemake's folder: output -> record."""
    for output, record in records.items():
        write_text(_place(METADATA, output), json.dumps(record))
        _place(MARKS, output).unlink(missing_ok=True)


def mark_incomplete(outputs: Iterable[str]) -> None:
    """Mark these outputs, so that Snakemake makes them again like those of an interrupted job."""
    for output in outputs:
        write_text(_place(MARKS, output), json.dumps({"external_jobid": None}))


def marked_incomplete() -> set[str]:
    """The outputs that Snakemake will make again because a job that made them has not ended."""
    return {_output_of(path, MARKS) for path in MARKS.rglob("*") if path.is_file()}


def distrust_damaged_records() -> list[str]:
    """Mark the outputs whose records are damaged, and return them.

    Snakemake does not flush its records to disk, unlike our results: after a power loss a complete result may have an
    empty record. Snakemake would skip that record, and then not notice a changed parameter.
    """
    damaged = []
    for path in METADATA.rglob("*"):
        if path.is_file() and _read_record(path) is None:
            output = _output_of(path)
            # another Snakemake in this folder may be writing it: then there is a mark, or the record is complete by now
            if Path(output).exists() and not _place(MARKS, output).exists() and _read_record(path) is None:
                damaged.append(output)
    mark_incomplete(damaged)
    return sorted(damaged)


def records_may_be_lost() -> bool:
    """Whether this process runs with `RECORDS_ARE_LOST`."""
    return RECORDS_ARE_LOST.keys() <= os.environ.keys()


def snakemake(what: str, *arguments: str, records_are_lost: bool = True) -> tuple[str, str]:
    """Run Snakemake on the project's workflow in the current folder, which may be another one; its stdout and stderr.

    what: the option that says what it does. Raises `EatError` with the end of its output if it fails.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), what, *arguments]
    environment = os.environ | (RECORDS_ARE_LOST if records_are_lost else {})
    done = output_of(command, f"snakemake {what}", env=environment)
    if done.returncode != 0:
        raise EatError(f"snakemake {what} failed: {' '.join((done.stdout + done.stderr).split()[-60:])}")
    return done.stdout, done.stderr


def files_of(paths: StudyPaths) -> list[str]:
    """The files of a study that may be results: without logs, benchmarks, checkpoints and hidden files."""
    beside = [paths.results / name for name in ("logs", "benchmarks", paths.checkpoints.name)]
    return [
        str(file)
        for root in (paths.data, paths.results)
        for file in sorted(root.rglob("*"))
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and not any(file.is_relative_to(folder) for folder in beside)
    ]


def without_record(paths: StudyPaths, results: Iterable[str]) -> list[str]:
    """The existing `results` that have neither a record nor a mark.

    A record belongs to the current file if the file has the record's date. A file with another date (touched, copied,
    replaced) must have the content that the job is known to have made. Marks are read before records, because another
    Snakemake in this folder writes a record before it removes the mark.
    """
    marked = marked_incomplete()
    unmarked = [result for result in results if result not in marked]
    found = {result: _read_record(_place(METADATA, result)) for result in unmarked}
    records = {result: record for result, record in found.items() if record is not None}
    lost = [result for result in unmarked if result not in records]
    # no other file knows the content of that of the records; its entries are compared with Snakemake's one by one
    others = [
        result
        for result, record in records.items()
        if result != str(paths.records) and not _has_date(result, record["endtime"])
    ]
    known = _known_contents(paths, records) if others else {}
    for result in counted("compared", others, "results"):
        if Path(result).is_file() and cached_sha256(result) not in known[result]:
            lost.append(result)
    return sorted(result for result in lost if Path(result).is_file())


def note_contents(paths: StudyPaths) -> None:
    """Note, at the end of a run, the content of the results that still have the date of their record.

    DVC changes the dates of results when it adds them, and so does copying.
    """
    notes = _read_or_empty(NOTES)
    new = [
        (result, record)
        for result in files_of(paths)
        if (record := _read_record(_place(METADATA, result))) is not None
        and notes.get(result, {}).get("made") != _made(record)
        and _has_date(result, record["endtime"])
    ]
    for result, record in counted("noted the content of", new, "results"):
        notes[result] = {"made": _made(record), "sha256": cached_sha256(result)}
    if new:
        write_json(NOTES, notes)


def _made(record: Mapping[str, Any]) -> list[float]:
    """When a job began and ended, which tells it from the job that made the result before.

    The beginning alone does not: for a job on a cluster, Snakemake takes it over from the record of the earlier job.
    """
    return [record["starttime"], record["endtime"]]


def _has_date(file: str, date: float) -> bool:
    try:
        return abs(os.stat(file).st_mtime - date) <= DATE_SECONDS
    except FileNotFoundError:
        return True  # another Snakemake has just removed it


def _known_contents(paths: StudyPaths, records: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """The known sha256 of each result: from the last full run, and from the notes of later runs."""
    known: dict[str, set[str]] = {result: set() for result in records}
    gathered = {
        result: {"made": _made(entry["record"]), "sha256": entry["sha256"]}
        for result, entry in _read_or_empty(paths.records).items()
    }
    for notes in (gathered, _read_or_empty(NOTES)):
        for result, note in notes.items():
            if result in records and note.get("made") == _made(records[result]):
                known[result].add(note["sha256"])
    return known


def is_left_locked(paths: StudyPaths) -> bool:
    """Whether a study is locked although no other Snakemake of this machine runs here.

    The lock lists the files of its run, but not its process.
    """
    below = (f"{paths.data.as_posix()}/", f"{paths.results.as_posix()}/")
    locked: list[str] = []
    for lock in LOCKS.glob("*.lock"):
        with suppress(FileNotFoundError):  # a run that holds it may end now
            locked += lock.read_text(encoding="utf-8").splitlines()
    return any(line.startswith(below) for line in locked) and not _is_running_here()


def _is_running_here() -> bool:
    """Whether a Snakemake of this machine, other than this one and its parents, runs in the current folder."""
    import psutil

    own = psutil.Process()
    ours = {own.pid, *(parent.pid for parent in own.parents())}
    for process in psutil.process_iter():
        try:
            named = any(Path(part).name == "snakemake" for part in process.cmdline()[:4])
            if named and process.pid not in ours and Path(process.cwd()).samefile("."):
                return True
        except (psutil.Error, OSError):  # it has just ended, or is another user's
            continue
    return False


def is_versioned(paths: StudyPaths) -> bool:
    """Whether the `dvc.lock` of this commit contains the study's results."""
    lock = Path("dvc.lock")
    return lock.is_file() and f" {paths.results.as_posix()}/" in lock.read_text(encoding="utf-8")


def refusal(paths: StudyPaths, lost: Sequence[str], given: Sequence[str]) -> str:
    """The message for results without records, with the remedy for this folder.

    lost: the results. given: the options that configure the study, as `snakemake` and `versioning repair` take them.
    """
    named = listed(lost[:MOST_NAMED]) + (f" and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else "")
    found = f"there are no records of how these results were made: {named}; "
    again = "or delete these results to make them again"
    if is_versioned(paths) and not given:
        return f"{found}after a checkout or dvc pull run make sync; if .snakemake was lost, make repair; {again}"
    at_home = ROOT.samefile(".") and not given
    repair = "make repair" if at_home else command_line("versioning", "repair", *given)
    if paths.records.is_file():
        return f"{found}{repair} restores them from {paths.records}; {again}"
    if read_records(paths.study):
        return f"{found}{repair} lets Snakemake make these results again"
    roots = [str(root) for root in (paths.data, paths.results) if any(Path(one).is_relative_to(root) for one in lost)]
    return f"{found}they cannot be restored here; delete {' and '.join(roots)}, or move them away, and run again"


def _read_record(path: Path) -> dict[str, Any] | None:
    """The record in a file, or `None` if it is damaged."""
    try:
        record = read_json(path)
    except DamagedFile:
        return None
    return record if isinstance(record, dict) else None


def _read_or_empty(path: Path) -> dict[str, Any]:
    """The notes of `note_contents`, or the records of the last full run; empty if they are damaged or missing."""
    return _read_record(path) or {}


def _place(root: Path, output: str) -> Path:
    """Where Snakemake keeps the record or mark of an output: its name in base64, cut if it would be too long."""
    name = urlsafe_b64encode(output.encode()).decode()
    parts = [name[start : start + NAME_MAX - 1] for start in range(0, len(name), NAME_MAX - 1)]
    return root.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def _output_of(path: Path, root: Path = METADATA) -> str:
    parts = path.relative_to(root).parts
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in parts)).decode()
