"""Progress lines: on stderr, what a job does and what is left of it, and no more than someone waiting wants to read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eat import progress
from eat.progress import Progress, counted

ROOT = Path(__file__).resolve().parent.parent


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress._line, "printed", clock.now)
    return clock


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_a_step_that_counts_says_at_least_every_ten_seconds_what_is_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("traced", 60, "texts", "movies") as step:
        for _ in range(30):  # a text a second
            clock.now += 1
            step.advance()
    assert lines(capsys) == [
        "movies: traced 8 of 60 texts, 52 s left",
        "movies: traced 16 of 60 texts, 44 s left",
        "movies: traced 24 of 60 texts, 36 s left",
    ]


def test_a_quick_job_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in counted("read", range(1000), "tables"):
        clock.now += 0.005
    assert lines(capsys) == []


def test_the_innermost_step_has_the_name_of_the_job_around_it(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training", name="movies/dense-6"), Progress("sha256 of model.safetensors:", 90, "MB") as inner:
        clock.now += 9
        inner.advance(30)
    assert lines(capsys) == ["movies/dense-6: sha256 of model.safetensors: 30 of 90 MB, 18 s left"]


def test_what_was_done_before_tells_nothing_of_the_pace(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("step", 300) as step:
        step.begin(300, done=200)
        assert step.line() == "step 200 of 300, 0 s so far"
        clock.now += 10
        step.detail = "loss 0.664"
        step.advance(10)
    assert lines(capsys) == ["step 210 of 300, loss 0.664, 90 s left"]


def test_long_times_are_said_in_minutes_and_hours(clock: Clock) -> None:
    with Progress("step", 100) as step:
        clock.now += 60
        step.done = 1
        assert step.line().endswith("99 min left")
        clock.now += 3600
        assert step.line().endswith("100.7 h left")


BLOCKS = """
import sys, time
sys.path.insert(0, {root!r})
from eat import progress
from eat.progress import Progress
from workflow_scripts._command import run
progress.EVERY_SECONDS = 0.2
def main():
    time.sleep(0.5)
    with Progress("hashed", 40, "texts", "movies") as step:
        step.advance(10)
        {call}
run(main)
"""


@pytest.mark.parametrize("times", [5, 1])
def test_a_command_within_one_call_of_a_library_says_what_it_does(tmp_path: Path, times: int) -> None:
    script = BLOCKS.format(root=str(ROOT), call=f"time.sleep(0.25 * {times})")
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    said = done.stderr.splitlines()
    assert said[0] == "-c: working, 0 s so far"
    assert [line for line in said if re.fullmatch(r"movies: hashed 10 of 40 texts, \d+ s left", line)][times - 1 :]


def test_a_command_goes_on_when_nobody_reads_its_lines(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    script = BLOCKS.format(root=str(ROOT), call=f"time.sleep(0.5); open({str(tmp_path / 'done')!r}, 'w')")
    try:
        done = subprocess.run([sys.executable, "-c", script], check=False, stderr=write)
    finally:
        os.close(write)
    assert done.returncode == 0
    assert (tmp_path / "done").exists()
