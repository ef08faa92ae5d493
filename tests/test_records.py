"""Snakemake's records: a damaged one is none, and a result needs one of its own content."""

from __future__ import annotations

import os
import tempfile
from contextlib import chdir
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eat.files import sha256_of, write_json
from eat.study.paths import StudyPaths
from workflow_scripts import _records, _sources
from workflow_scripts._records import files_of, note_contents, refusal, without_record
from workflow_scripts.report_page import durations

REPORT, TRACE = "results/one/report/report.html", "results/one/traces/dev.parquet"


def test_a_damaged_record_is_none_and_its_output_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report's own record too: the job that makes the report anew reads all records for its page of durations."""
    monkeypatch.chdir(tmp_path)
    record = {"rule": "render_report", "starttime": 10.0, "endtime": 12.0, "log": ["a.log"]}
    _records.restore_records({REPORT: record, TRACE: record | {"rule": "trace", "endtime": 15.0}})
    for output in (REPORT, TRACE):
        Path(output).parent.mkdir(parents=True)
        Path(output).touch()
    assert set(_records.read_records("one")) == {REPORT, TRACE}
    _records._place(_records.METADATA, REPORT).write_text("", encoding="utf-8")
    assert set(_records.read_records("one")) == {TRACE}
    assert durations("one") == [{"rule": "trace", "jobs": 1, "seconds": 5.0, "longest": 5.0}]
    assert _records.distrust_damaged_records() == [REPORT]
    assert _records.marked_incomplete() == {REPORT}


PATHS = StudyPaths("one")
STARTED, ENDED = 1.7e9, 1.7e9 + 60
RESULTS = ("data/one/t/train.parquet", "results/one/traces/a.parquet", "results/one/metrics.json")
CHANGES = ("nothing", "lost", "touched", "replaced", "replaced by an older one", "marked", "of another job")


def finished(result: str) -> dict[str, object]:
    """Put a result in place as a job leaves it; returns its record."""
    Path(result).parent.mkdir(parents=True, exist_ok=True)
    Path(result).write_text(result, encoding="utf-8")
    os.utime(result, (ENDED, ENDED))
    record = {"rule": "r", "log": [result], "input": [], "starttime": STARTED, "endtime": ENDED}
    _records.restore_records({result: record})
    return record


def change(result: str, what: str) -> None:
    if what == "lost":
        _records._place(_records.METADATA, result).unlink()
    elif what == "touched":
        os.utime(result, (1.9e9, 1.9e9))
    elif what in ("replaced", "replaced by an older one"):
        Path(result).write_text("of another run", encoding="utf-8")
        os.utime(result, (1.9e9, 1.9e9) if what == "replaced" else (1e9, 1e9))
    elif what == "marked":
        _records._place(_records.METADATA, result).unlink()
        _records.mark_incomplete([result])
    elif what == "of another job":  # its record and content, where the file of the records tells of the first one
        Path(result).write_text("of another run", encoding="utf-8")
        os.utime(result, (1.8e9, 1.8e9))
        _records.restore_records({result: {"rule": "r", "log": [result], "starttime": 1.8e9 - 9, "endtime": 1.8e9}})


@given(
    st.tuples(*[st.sampled_from(CHANGES)] * len(RESULTS)),
    st.sampled_from(("nobody", "a full run", "a run of a part")),
    st.booleans(),
)
def test_a_result_has_a_record_if_and_only_if_one_speaks_of_its_content(
    changes: tuple[str, ...], noted_by: str, others: bool
) -> None:
    """Whatever is lost, touched, replaced or made again, and whoever has noted what the jobs made."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        records = {result: finished(result) for result in RESULTS}
        if noted_by == "a full run":
            content = {result: {"sha256": sha256_of(result), "record": record} for result, record in records.items()}
            write_json(PATHS.records, content)
            _records.restore_records({str(PATHS.records): {"rule": "record", "starttime": 1.0, "endtime": 2.0}})
        elif noted_by == "a run of a part":
            note_contents(PATHS)
        if others:
            _records.restore_records({"results/two/metrics.json": records[RESULTS[2]]})
        for result, what in zip(RESULTS, changes, strict=True):
            change(result, what)
        recorded = {
            result
            for result, what in zip(RESULTS, changes, strict=True)
            if what in ("nothing", "marked", "of another job") or (what == "touched" and noted_by != "nobody")
        }
        assert set(without_record(PATHS, files_of(PATHS))) == set(RESULTS) - recorded
        note_contents(PATHS)  # notes nothing of a result that is not the record's
        assert set(without_record(PATHS, files_of(PATHS))) == set(RESULTS) - recorded


def test_a_result_is_noted_anew_if_a_job_on_a_cluster_took_over_the_beginning_of_the_job_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (result, *_) = RESULTS
    record = finished(result)
    note_contents(PATHS)
    Path(result).write_text("made again", encoding="utf-8")
    os.utime(result, (ENDED + 9, ENDED + 9))
    _records.restore_records({result: record | {"endtime": ENDED + 9}})
    note_contents(PATHS)
    os.utime(result, (1.9e9, 1.9e9))  # as DVC does
    assert without_record(PATHS, files_of(PATHS)) == []


def test_what_jobs_write_beside_their_results_needs_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    beside = ("logs/trace.log", "benchmarks/trace.tsv", "checkpoints/a/model.safetensors", ".metrics.json.1f.part")
    for file in (*(f"results/one/{name}" for name in beside), "results/two/metrics.json", "results/one/metrics.json"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    assert files_of(PATHS) == ["results/one/metrics.json"]


def test_the_remedy_fits_the_folder_and_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (_records, _sources):
        monkeypatch.setattr(module, "ROOT", tmp_path)  # this is the project's own folder
    own = ["--configfile", "my study.yaml", "--config", "glue_dir=my glue"]
    pasted = "python -m workflow_scripts.versioning repair --configfile 'my study.yaml' --config 'glue_dir=my glue'"
    lost = [*RESULTS, "results/one/summary.csv"]
    assert "they cannot be restored here; delete data/one and results/one" in refusal(PATHS, lost, own)
    assert "delete results/one, or" in refusal(PATHS, [RESULTS[2]], [])
    assert f"{', '.join(lost[:3])} and 1 more; " in refusal(PATHS, lost, [])
    finished(RESULTS[0])
    assert f"{pasted} lets Snakemake make these results again" in refusal(PATHS, lost, own)
    write_json(PATHS.records, {})
    assert f"{pasted} restores them from results/one/records.json; or delete" in refusal(PATHS, lost, own)
    assert "; make repair restores them from" in refusal(PATHS, lost, [])
    Path("dvc.lock").write_text("- path: results/one/metrics.json\n", encoding="utf-8")
    assert "make sync; if .snakemake was lost, make repair; or delete" in refusal(PATHS, lost, [])
    assert pasted in refusal(PATHS, lost, own)  # DVC versions another configuration
