"""Progress lines: on stderr, with the job's name, and no more of them than someone waiting wants to read."""

from __future__ import annotations

import pytest

from eat import progress
from eat.progress import Progress


def test_lines_come_at_once_or_not_more_often_than_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    line = Progress("movies")
    line.say("starts")
    for step in range(1, 31):  # a step a second
        now = 100.0 + step
        line.say(f"{step} of 30", every_seconds=10.0)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["movies: starts", "movies: 10 of 30", "movies: 20 of 30", "movies: 30 of 30"]
    assert printed.out == ""
