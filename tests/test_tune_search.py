"""The search of `eat tune` with a stand-in for its runs: what it finds, prunes and leaves, and how it goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from trials import LOSS, SPACE, TIME, point

from eat.errors import DamagedFile, EatError
from eat.tune.options import Budget, Point
from eat.tune.space import Candidate, Space

pytest.importorskip("optuna", reason="the extra tune is not installed")

from eat.tune.figure import write_figure
from eat.tune.search import Curves, Search
from eat.tune.tables import front_table, trials_table

# --- the search ---------------------------------------------------------------------------------------------------


class Runs:
    """A stand-in for the runs of the workflow: a known curve for each row.

    judged: the rows of each call. stops: calls after which it is interrupted. broken: rows that cannot be run.
    """

    def __init__(self, stops: Collection[int] = (), broken: Callable[[Candidate], bool] = lambda _: False) -> None:
        self.judged: list[list[str]] = []
        self.full: list[set[str]] = []
        self._stops, self._broken = stops, broken

    def __call__(self, everything: Sequence[Candidate], judged: Sequence[Candidate], full: Collection[str]) -> Curves:
        assert {one.row for one in judged} <= {one.row for one in everything}
        self.judged.append([one.row for one in judged])
        self.full.append({*full})
        if len(self.judged) in self._stops:
            raise KeyboardInterrupt
        return {one.row: self.curve(one, one.parent in full) for one in judged if not self._broken(one)}

    @staticmethod
    def curve(candidate: Candidate, is_full: bool) -> list[Point]:
        """Full depth loses nothing unless tokens go; exits save time, and heads that read the mean lose least."""
        speed = {"torch": 10.0, "int8": 4.0}[candidate.variant]
        removed = 0.02 * len(candidate.after) * (1 + 10 * candidate.ratio)
        loss = {"mean": 0.0, "max": 0.01, "cls": 0.03, "cls_mean_max": 0.004}[candidate.read] + (0 if is_full else 0.02)
        saved = 0.1 * len(candidate.exits)
        return [
            point(speed, 0.9 - removed, tau=1.0),
            point(speed * (1.0 - saved), 0.9 - removed - loss, tau=0.9),
        ]


def search(path: Path, runs: Runs, trials: int, batch: int = 4, budget: Budget = LOSS, **more: Any) -> Search:
    found = Search(path / "trials.db", SPACE, budget, 10.0, tell=lambda _: None, **more)
    found.run(trials, batch, runs)
    return found


@pytest.mark.slow
def test_a_search_finds_what_its_budget_wants_and_prunes_what_is_hopeless(tmp_path: Path) -> None:
    runs = Runs()
    found = search(tmp_path, runs, 24)
    trials = found.found()
    assert len(trials) == 24
    assert len({one.candidate.row for one in trials}) == 24
    # it starts from the rows made by hand
    assert [one.candidate.row for one in trials[:2]] == [SPACE.of(given).row for given in SPACE.hand_made()]
    assert [one.is_hand_made for one in trials].count(True) == 2
    best = found.best()
    assert best.candidate.variant == "int8" and best.candidate.reducer == "none"
    assert best.point.loss <= 0.005 and best.value <= 0.2 + 1e-9
    pruned = [one for one in trials if one.state == "pruned"]
    assert 2 <= len(pruned) <= 12
    # what was pruned was never trained to the end
    ended = {row for rows, full in zip(runs.judged, runs.full, strict=True) for row in rows if full}
    assert all(one.value > best.value for one in pruned)
    first_runs = [row for rows in runs.judged for row in rows]
    assert all(first_runs.count(one.candidate.row) == 1 for one in pruned)
    assert best.candidate.row in ended


def test_heads_that_another_trial_trained_are_judged_at_once(tmp_path: Path) -> None:
    runs = Runs()
    found = search(tmp_path, runs, 16)
    parents: set[str] = set()
    for full in runs.full:
        # nothing that was trained to the end is judged after a few epochs
        assert parents <= full
        parents = full
    again = [
        one for one in found.found() if [row for rows in runs.judged for row in rows].count(one.candidate.row) == 1
    ]
    assert any(one.state == "complete" for one in again)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_an_interrupted_search_goes_on(tmp_path: Path, stop: int) -> None:
    runs = Runs(stops=[stop])
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, runs, 12)
    interrupted = runs.judged[stop - 1]
    found = search(tmp_path, runs, 12)
    # the rows that were running are asked for again, first
    assert set(interrupted) <= {row for rows in runs.judged[stop:] for row in rows}
    assert len(found.found()) == 12
    assert len({one.candidate.row for one in found.found()}) == 12
    # with nothing left to do, nothing runs
    before = len(runs.judged)
    search(tmp_path, runs, 12)
    assert len(runs.judged) == before
    # and more trials continue it
    assert len(search(tmp_path, runs, 16).found()) == 16


def test_a_row_that_cannot_be_run_is_left_out(tmp_path: Path) -> None:
    runs = Runs(broken=lambda one: one.read == "max")
    found = search(tmp_path, runs, 20)
    assert len(found.found()) == 20
    assert all(one.candidate.read != "max" for one in found.found())


def test_if_no_row_can_be_run_the_search_ends(tmp_path: Path) -> None:
    with pytest.raises(EatError, match="no row of 3 batches could be run"):
        search(tmp_path, Runs(broken=lambda _: True), 8)


def test_a_limit_of_time_is_another_search(tmp_path: Path) -> None:
    found = search(tmp_path, Runs(), 16, budget=Budget("p90_ms", 7.0)).best()
    assert found.point.p90_ms <= 7.0 and found.candidate.variant == "int8"
    assert found.point.accuracy >= 0.88


def test_a_space_smaller_than_the_search_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eat.tune.space.READERS", ("mean",))
    monkeypatch.setattr("eat.tune.space.HEADS", ("mlp",))
    monkeypatch.setattr("eat.tune.space.REDUCERS", ("none",))
    few = Search(tmp_path / "trials.db", Space(2, ("torch",)), LOSS, 10.0, tell=lambda _: None)
    with pytest.raises(EatError, match="every row of the space was tried"):
        few.run(5, 2, Runs())
    assert len(few.found()) == 2


@pytest.mark.parametrize("name", ["a study's café", "50% of #1?", "a;b"])
def test_the_storage_may_lie_anywhere(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert len(search(tmp_path / name, Runs(), 4).found()) == 4
    assert {path.name for path in (tmp_path / name).iterdir()} <= {"trials.db", "trials.db-wal", "trials.db-shm"}


def test_a_damaged_storage_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials.db").write_bytes(b"no database" * 100)
    with pytest.raises(DamagedFile, match=r"trials\.db: cannot be used as the storage"):
        search(tmp_path, Runs(), 4)


@pytest.mark.slow
def test_tables_and_figure_of_a_search(tmp_path: Path) -> None:
    found = search(tmp_path, Runs(), 10)
    trials = trials_table(found.found(), LOSS)
    assert list(trials["trial"]) == list(range(1, 11)) and set(trials["state"]) <= {"complete", "pruned"}
    assert not trials.isna().any(axis=None)
    front = front_table(found.found(), LOSS)
    assert front["ms"].is_monotonic_increasing and front["accuracy"].is_monotonic_increasing
    assert found.best().candidate.row in set(front["row"])
    for budget in (LOSS, TIME):
        pdf, svg = tmp_path / "front.pdf", tmp_path / "front.svg"
        write_figure(found.found(), found.best(), budget, point(10.0), pdf, svg)
        drawn = svg.read_text(encoding="utf-8")
        assert drawn.count("<title>") >= 2 and found.best().candidate.row in drawn
        assert pdf.read_bytes().startswith(b"%PDF")
