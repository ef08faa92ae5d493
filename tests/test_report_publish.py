"""Publishing: the tasks that are finished, with command, date, versions and whether dev is a sample."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_summary import files_of, study_of

from eat.errors import EatError
from eat.files import read_json, write_json
from eat.results.columns import SUMMARY_COLUMNS
from eat.study.loading import load_study
from eat.study.paths import StudyPaths
from eat.study.study import Study
from workflow_scripts import report_publish

STATE = {
    "date": "2026-01-02", "n_timed": 20, "foreign_load": 0.034, "machine": {"cpu": "a processor"},
    "versions": {"torch": "2.0"},
    "left_out": {"hf-dense-bfloat16": "precision bfloat16 takes 7 times as long as float32"},
}  # fmt: skip
CARD = {
    "source": {"kind": "glue_dir", "dev": "120 rows, not the 872 official rows"}, "pair": True,
    "labels": ["not_duplicate", "duplicate"],
}  # fmt: skip
PAGE = "# A page\n\nkept\n\n<!-- results:made-up -->\nold\n<!-- /results:made-up -->\n\nkept too\n"


@pytest.fixture
def half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of two tasks, of which one has been traced and timed."""
    value = study_of(seeds=(1,)).model_dump(mode="json", by_alias=True)
    value["tasks"]["books"] = value["tasks"]["movies"]
    study = load_study(value)
    made = files_of(tmp_path / "made", study)
    monkeypatch.chdir(tmp_path)
    paths = StudyPaths(study.study)
    for run, trace in made.traces.items():
        for path in (Path(trace), Path(trace).with_suffix(".json")):
            put(path, paths.trace("movies", *run, "dev").with_suffix(path.suffix))
    for run, calibration in made.calibrations.items():
        put(calibration, paths.calibration("movies", *run))
    put(made.operating_points, paths.operating_points("movies"))
    put(made.timing, paths.timing("movies"))
    write_json(paths.timing_state("movies"), read_json(made.timing_facts) | STATE)
    write_json(paths.card("movies"), CARD)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")
    return study


def put(path: Path | str, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, to)


def publish(monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    options = ("--config", "study.yaml", *more, "--command", "make it", "--into", "page.md", "--csv", "rows.csv")
    monkeypatch.setattr("sys.argv", ["report_publish", *options])
    report_publish.main()


def test_a_second_file_is_merged_into_the_study(half_done: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("page.md").write_text(PAGE.replace("made-up", "other"), encoding="utf-8")
    Path("more.yaml").write_text("study: other\n", encoding="utf-8")
    with pytest.raises(EatError, match="results/other: no task is traced and timed yet"):
        publish(monkeypatch, "more.yaml")


def test_finished_tasks_are_published_and_the_others_named(half_done: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("page.md").write_text(PAGE, encoding="utf-8")
    publish(monkeypatch)
    page = Path("page.md").read_text(encoding="utf-8")
    assert page.startswith("# A page\n\nkept\n\n<!-- results:made-up -->\nMade by `make it`.\n")
    assert page.endswith("<!-- /results:made-up -->\n\nkept too\n")
    assert "\nold\n" not in page
    assert "**movies**, 120 dev texts (120 rows, not the 872 official rows), 20 of them timed on 2026-01-02" in page
    assert "(a processor, 2 threads, float32, bfloat16, int8; torch 2.0; other processes used 3.4 %" in page
    assert "hf-dense-bfloat16 was not timed: precision bfloat16 takes 7 times as long as float32.\n" in page
    assert "Not finished yet: books." in page
    assert re.search(r"a loss of more than one point of accuracy (is )?excluded", page)
    assert re.search(
        r"^F1 of `duplicate` \(%\): dense [\d.]+, eat [\d.]+, hf-dense-onnx-int8 [\d.]+\.$", page, re.MULTILINE
    )
    rows = pd.read_csv("rows.csv")
    assert tuple(rows.columns) == SUMMARY_COLUMNS
    assert set(rows["task"]) == {"movies"}
    publish(monkeypatch)
    assert Path("page.md").read_text(encoding="utf-8") == page


def test_each_task_has_its_own_tables_and_noise(half_done: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = StudyPaths(half_done.study)
    for path in list(paths.timing("movies").parents[1].rglob("*movies*")):
        copy = path.with_name(path.name.replace("movies", "books"))
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    put(paths.card("movies"), paths.card("books"))
    Path("page.md").write_text(PAGE, encoding="utf-8")
    publish(monkeypatch)
    page = Path("page.md").read_text(encoding="utf-8")
    assert page.count("Batch 32:") == page.count("Batch size 32. The stock dense model timed against itself") == 2
    assert "; no difference is shown" in page
    assert "Not finished yet" not in page


def test_nothing_finished_and_no_page_or_one_without_marks_are_refused(
    half_done: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        EatError, match=r"^page\.md: No such file or directory; make a page that contains <!-- results:made-up"
    ):
        publish(monkeypatch)
    Path("page.md").write_text("# A page\n", encoding="utf-8")
    with pytest.raises(EatError, match=r"page\.md: must contain the lines <!-- results:made-up -->"):
        publish(monkeypatch)
    Path("page.md").write_text(PAGE, encoding="utf-8")
    StudyPaths(half_done.study).operating_points("movies").unlink()
    with pytest.raises(EatError, match="no task is traced and timed yet"):
        publish(monkeypatch)
    assert Path("page.md").read_text(encoding="utf-8") == PAGE
    assert not Path("rows.csv").exists()
