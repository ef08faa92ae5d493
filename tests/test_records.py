"""Snakemake's records after a power loss: a damaged one is none, and what it spoke of is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow_scripts import _records
from workflow_scripts.render_report import durations

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
