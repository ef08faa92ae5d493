"""Comparing two states: what noise explains, what it does not, and which rules ran again for what."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic_results import DENSE, EAT, STUDENT, Made, write_study

from eat import cli
from eat.compare.changes import Change, changes_between
from eat.compare.render import compare
from eat.compare.reruns import reruns_between
from eat.compare.states import COLUMNS, FILES, State, read_state
from eat.errors import EatError
from workflow_scripts import get_results as workflow_get_results

TEMPLATES = Path(__file__).parents[1] / "report"
ODD = r"50%_<b>x</b>\input{a}"
MADE = Made(systems=(DENSE, STUDENT, EAT))


def state(root: Path, made: Made = MADE, name: str = "HEAD", task: str = "rotten_tomatoes") -> State:
    return read_state(name, write_study(root, (task,), made)[0])


def change_of(before: State, after: State, system: str, what: str) -> Change:
    (found,) = [one for one in changes_between(before, after).compared if (one.system, one.what) == (system, what)]
    return found


def test_equal_results_are_unchanged(tmp_path: Path) -> None:
    found = changes_between(state(tmp_path / "a"), state(tmp_path / "b"))
    assert found.compared and {one.verdict for one in found.compared} == {"unchanged"}
    assert found.added == found.removed == ()


@pytest.mark.parametrize(
    ("speedup", "noise", "expected"),
    [
        # intervals of +- 4 % on both sides: together 5.7 %
        (2.3 * 1.03, (1.0, 0.99, 1.01), "within the noise"),
        (2.3 * 1.30, (1.0, 0.99, 1.01), "beyond the noise"),
        (2.3 * 0.70, (1.0, 0.99, 1.01), "beyond the noise"),
        # a clock that shows up to 1.5x between a system and itself explains 1.2x
        (2.3 * 1.20, (1.0, 0.67, 1.50), "within the noise"),
    ],
)
def test_a_speed_is_judged_by_intervals_and_the_clock(
    tmp_path: Path, speedup: float, noise: tuple[float, float, float], expected: str
) -> None:
    one = replace(EAT, taus=(0.9,), chosen=0)
    before = state(tmp_path / "a", Made(systems=(DENSE, one), noise=noise))
    after = state(tmp_path / "b", Made(systems=(DENSE, replace(one, speedup=speedup)), noise=noise))
    assert change_of(before, after, "eat-6", "speed-up, batch 1").verdict == expected


@pytest.mark.parametrize(("delta", "expected"), [(-0.013, "within the noise"), (-0.06, "beyond the noise")])
def test_an_accuracy_is_judged_by_both_intervals(tmp_path: Path, delta: float, expected: str) -> None:
    """The made-up intervals reach 1.6 points down and 1.5 up: together 2.2."""
    before = state(tmp_path / "a", Made(systems=(DENSE, replace(STUDENT, delta=0.0))))
    after = state(tmp_path / "b", Made(systems=(DENSE, replace(STUDENT, delta=delta))))
    found = change_of(before, after, "student-3", "accuracy (%)")
    assert found.verdict == expected
    assert found.change.endswith("points")


def test_what_has_no_noise_is_told_as_changed(tmp_path: Path) -> None:
    before, after = state(tmp_path / "a"), state(tmp_path / "b", Made(systems=(DENSE, STUDENT, replace(EAT, chosen=0))))
    found = change_of(before, after, "eat-6", "threshold")
    assert (found.before, found.after, found.verdict) == ("0.90", "0.80", "changed")


def test_systems_that_one_state_lacks_are_named(tmp_path: Path) -> None:
    before, after = (
        state(tmp_path / "a", Made(systems=(DENSE, STUDENT))),
        state(tmp_path / "b", Made(systems=(DENSE, EAT))),
    )
    found = changes_between(before, after)
    assert found.added == ("rotten_tomatoes: eat-6",)
    assert found.removed == ("rotten_tomatoes: student-3",)


@pytest.mark.parametrize("column", COLUMNS)
def test_results_older_than_the_code_are_one_line(tmp_path: Path, column: str) -> None:
    results, _ = write_study(tmp_path, made=MADE)
    pd.read_csv(results / "summary.csv").drop(columns=column).to_csv(results / "summary.csv", index=False)
    with pytest.raises(EatError) as caught:
        read_state("v0.1", results)
    assert str(caught.value) == (
        f"v0.1: summary.csv lacks {column}; these results are older than this code: compare a later revision, or run "
        "the study again"
    )


def test_timing_facts_older_than_the_code_are_one_line(tmp_path: Path) -> None:
    results, _ = write_study(tmp_path, made=MADE)
    (results / "timing" / "rotten_tomatoes.json").write_text('{"device": "cpu"}', encoding="utf-8")
    with pytest.raises(EatError, match=r"^v0\.1: timing/rotten_tomatoes\.json lacks busy; these results are older"):
        read_state("v0.1", results)


def test_a_comparison_reads_no_other_column(tmp_path: Path) -> None:
    results, _ = write_study(tmp_path / "study", made=MADE)
    pd.read_csv(results / "summary.csv")[list(COLUMNS)].to_csv(results / "summary.csv", index=False)
    small = read_state("small", results)
    assert "0 changed by more than the noise" in compare(small, small, "dense-6", TEMPLATES, tmp_path / "out")


# --- what was rerun -----------------------------------------------------------------------------------------------


def entry(
    rule: str, start: float, inputs: dict[str, str], study: dict[str, Any], seconds: float = 5.0
) -> dict[str, Any]:
    """An output's entry of records.json. inputs: path -> digest."""
    return {
        "sha256": f"made at {start}",
        "record": {
            "rule": rule,
            "log": [f"logs/{rule}.log"],
            "starttime": start,
            "endtime": start + seconds,
            "params": [repr(json.dumps(study))],
            "code": f"python -m {rule}",
            "input": list(inputs),
            "input_checksums": {path: f"sha256:{digest}" for path, digest in inputs.items() if digest},
        },
    }


def with_records(root: Path, records: dict[str, Any]) -> State:
    results, _ = write_study(root, made=MADE)
    (results / "records.json").write_text(json.dumps(records), encoding="utf-8")
    return read_state(root.name, results)


def test_reruns_name_what_differs(tmp_path: Path) -> None:
    study = {"systems": {"eat-6": {"tau": [0.8]}}, "seeds": [1]}
    changed = {"systems": {"eat-6": {"tau": [0.7]}}, "seeds": [1]}
    before = with_records(
        tmp_path / "a",
        {
            "points": entry("calibrate", 1.0, {"eat/results/flops.py": "aa"}, study),
            # a large input has no checksum: it is known by its own entry
            "timing": entry("time", 2.0, {"points": "", "eat/timing/clock.py": "bb"}, study),
            "figure": entry("plot", 3.0, {"eat/figures/style.py": "cc"}, study),
            "model": entry("finetune", 4.0, {"eat/finetune/losses.py": "dd"}, study),
        },
    )
    after = with_records(
        tmp_path / "b",
        {
            "points": entry("calibrate", 11.0, {"eat/results/flops.py": "aa"}, changed),
            "timing": entry("time", 12.0, {"points": "", "eat/timing/clock.py": "bb"}, study),
            "figure": entry("plot", 13.0, {"eat/figures/style.py": "other", "eat/new.py": "ee"}, study),
            "model": entry("finetune", 4.0, {"eat/finetune/losses.py": "dd"}, study),
        },
    )
    found = {one.rule: one.reasons for one in reruns_between(before, after)}
    assert found == {
        "calibrate": ("parameters (systems.eat-6.tau)",),
        "time": ("points",),
        "plot": ("new input eat/new.py", "eat/figures/style.py"),
    }


def test_a_record_that_was_made_anew_is_no_rerun(tmp_path: Path) -> None:
    before = with_records(tmp_path / "a", {"points": entry("calibrate", 1.0, {}, {})})
    after = with_records(tmp_path / "b", {"points": entry("calibrate", 9.0, {}, {}, seconds=0.0)})
    assert reruns_between(before, after) == []


# --- what is written ----------------------------------------------------------------------------------------------


def test_the_comparison_is_written_and_names_are_text(tmp_path: Path) -> None:
    before = state(tmp_path / "a", task=ODD, name="old_<b>")
    after = state(tmp_path / "b", Made(systems=(DENSE, STUDENT, replace(EAT, speedup=4.0))), task=ODD)
    out = tmp_path / "out"
    markdown = compare(before, after, "dense-6", TEMPLATES, out)
    assert sorted(path.name for path in out.iterdir()) == ["diff.html", "diff.md", "frontier-1.pdf", "frontier-1.svg"]
    assert (out / "diff.md").read_text(encoding="utf-8") == markdown
    assert r"\<b\>x" in markdown and "| eat-6 | speed-up, batch 1 |" in markdown and "beyond the noise" in markdown
    assert "The rerun rules are unknown" in markdown
    page = (out / "diff.html").read_text(encoding="utf-8")
    assert "<b>" not in page and page.count("<script") == 1
    assert "&lt;b&gt;x&lt;/b&gt;" in page and "<svg" in page


def test_a_busy_machine_is_told(tmp_path: Path) -> None:
    text = compare(
        state(tmp_path / "a"), state(tmp_path / "b", replace(MADE, busy=True)), "dense-6", TEMPLATES, tmp_path / "o"
    )
    assert "HEAD: the machine was busy while rotten\\_tomatoes was timed." in text


def test_a_revision_whose_results_cannot_be_had_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside a project the workflow's command is not there, or there is no repository."""
    config = TEMPLATES.parent / "config" / "config.yaml"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["diff", "nowhere", "--config", str(config)])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("error: the results of nowhere were not found: ") and told.count("\n") == 1
    assert not (tmp_path / "results").exists()


# --- revisions without dvc.lock ------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A repository whose only commit has the published rows of the study `small`, and no dvc.lock."""
    repo_class = pytest.importorskip("dvc.repo").Repo
    results, _ = write_study(tmp_path / "study", made=MADE)
    rows = pd.read_csv(results / "summary.csv")
    project = tmp_path / "project"
    (project / "docs" / "results").mkdir(parents=True)
    monkeypatch.chdir(project)
    rows.to_csv("docs/results/small.csv", index=False)
    subprocess.run(["git", "init", "-q"], check=True)
    repo_class.init().close()
    subprocess.run(["git", "add", "."], check=True)
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, "commit", "-qm", "one"], check=True)
    return rows


def get_results(monkeypatch: pytest.MonkeyPatch, study: str) -> None:
    given = ["--results", f"results/{study}", "--out", "out", "--files", *FILES, "--", "HEAD"]
    monkeypatch.setattr("sys.argv", ["get_results", *given])
    workflow_get_results.main()


def test_a_revision_without_recorded_results_gives_its_published_rows(
    published: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_results(monkeypatch, "small")
    pd.testing.assert_frame_equal(read_state("HEAD", Path("out")).summary[list(COLUMNS)], published[list(COLUMNS)])


def test_a_revision_without_any_results_is_one_line(published: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EatError, match=r"^HEAD: has neither dvc\.lock, .* nor docs/results/other\.csv; compare"):
        get_results(monkeypatch, "other")
    assert not Path("out").exists()


def test_a_job_of_a_cluster_is_a_rerun_although_its_record_keeps_the_earlier_beginning(tmp_path: Path) -> None:
    before = with_records(tmp_path / "a", {"points": entry("calibrate", 1.0, {}, {})})
    again = entry("calibrate", 1.0, {}, {}, seconds=60.0) | {"sha256": "other"}
    after = with_records(tmp_path / "b", {"points": again})
    assert [one.rule for one in reruns_between(before, after)] == ["calibrate"]
