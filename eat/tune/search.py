"""The search: Optuna draws candidates, batches of which are run and judged, in two rungs.

After the first rung, in which heads were trained for a few epochs, a candidate that is worse than two of three earlier
ones is pruned. The state is in Optuna's storage, an SQLite file, so that a search goes on wherever it was interrupted.
Nothing here knows how candidates are run.
"""

from __future__ import annotations

import random
import sqlite3
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from eat.errors import DamagedFile, EatError
from eat.progress import Progress
from eat.tune.options import Budget, Point
from eat.tune.space import Candidate, Space

KEPT_PERCENT = 67.0
"""The share of earlier trials among whose values the few epochs of a new one must be."""

BEFORE_PRUNING = 6
"""The trials that must be complete before one is pruned."""

STARTUP = 10
"""The trials that are drawn at random before the sampler learns from them."""

TRIES = 10
"""The draws of the sampler that may repeat an earlier row before a new row is drawn at random."""

MOST_IN_VAIN = 3
"""Batches in a row of which no row could be run, after which the search ends."""

Curves = Mapping[str, Sequence[Point]]
"""Row -> its curve on the calibration texts. A row that could not be run is missing."""

Evaluate = Callable[[Sequence[Candidate], Sequence[Candidate], Collection[str]], Curves]
"""Run rows: those of all trials so far, those to judge now, and the heads that are trained to the end."""


@dataclass(frozen=True)
class Found:
    """A trial that was judged.

    value: what is minimised. point: its best threshold. front: its undominated points. is_hand_made: whether its exits
    are those of `adapt-6`.
    """

    number: int
    candidate: Candidate
    value: float
    point: Point
    state: str
    front: tuple[Point, ...] = ()
    is_hand_made: bool = False
    seconds: float = 0.0


class Search:
    """A search in a storage.

    storage: the SQLite file. dense_ms: the predicted time of the reference. tell: prints a line.
    """

    def __init__(
        self,
        storage: Path,
        space: Space,
        budget: Budget,
        dense_ms: float,
        seed: int = 0,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.space, self.budget, self.dense_ms = space, budget, dense_ms
        self._tell = tell
        self._study = _opened(storage)
        # a search that goes on must not draw the same again
        seed += len(self._study.get_trials(deepcopy=False))
        self._study.sampler = _sampler(seed)
        self._draw = random.Random(seed)
        self._broken: set[str] = set()
        if not self._study.get_trials(deepcopy=False):
            for parameters in space.hand_made():
                self._study.enqueue_trial(parameters)
        self._requeue_interrupted()

    def run(self, trials: int, batch: int, evaluate: Evaluate) -> None:
        """Run until so many trials are judged. Raises `EatError` if no row of `MOST_IN_VAIN` batches could be run."""
        with Progress("judged", trials, "trials") as progress:
            progress.begin(trials, len(self.found()))
            in_vain = 0
            while (done := len(self.found())) < trials:
                judged = self._run_batch(self._ask(min(batch, trials - done)), evaluate, trials)
                in_vain = 0 if judged else in_vain + 1
                if in_vain == MOST_IN_VAIN:
                    raise EatError(
                        f"no row of {in_vain} batches could be run; see the lines above. The same command tries again"
                    )
                progress.advance(judged)
                progress.show()

    def found(self) -> list[Found]:
        """The trials that were judged, in their order."""
        return [
            _found(trial, self.space)
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and "point" in trial.user_attrs
        ]

    def best(self) -> Found:
        """The best trial that was not pruned. Raises `EatError` if there is none."""
        complete = [one for one in self.found() if one.state == "complete"]
        if not complete:
            raise EatError("no trial was completed; give more --trials")
        return min(complete, key=lambda one: (one.value, one.number))

    def _run_batch(self, batch: Sequence[tuple[Trial, Candidate]], evaluate: Evaluate, trials: int) -> int:
        """Run a batch in two rungs; returns how many were judged."""
        full = self._full()
        first = [(trial, candidate) for trial, candidate in batch if candidate.parent not in full]
        going_on = [(trial, candidate) for trial, candidate in batch if candidate.parent in full]
        everything = self._candidates()
        judged = 0
        if first:
            curves = evaluate(everything, [candidate for _, candidate in first], full)
            for trial, candidate in first:
                if candidate.row not in curves:
                    self._failed(trial, candidate)
                    continue
                _, value = self._best_of(curves[candidate.row])
                trial.report(value, 0)
                if trial.should_prune():
                    self._judged(trial, candidate, curves[candidate.row], TrialState.PRUNED, trials)
                    judged += 1
                else:
                    going_on.append((trial, candidate))
        for trial, candidate in going_on:
            # remembered in the storage: an interrupted run goes on with the same stages
            trial.set_user_attr("full", candidate.parent)
        if going_on:
            full = self._full()
            curves = evaluate(everything, [candidate for _, candidate in going_on], full)
            for trial, candidate in sorted(going_on, key=lambda one: one[0].number):
                if candidate.row not in curves:
                    self._failed(trial, candidate)
                    continue
                self._judged(trial, candidate, curves[candidate.row], TrialState.COMPLETE, trials)
                judged += 1
        return judged

    def _ask(self, count: int) -> list[tuple[Trial, Candidate]]:
        """Draw candidates whose rows differ from each other and from all earlier ones."""
        earlier = {one.candidate.row: one for one in self.found()}
        batch: dict[str, tuple[Trial, Candidate]] = {}
        repeats = 0
        while len(batch) < count:
            if repeats >= TRIES:
                self._study.enqueue_trial(self._unseen({*earlier, *batch, *self._broken}))
            trial = self._study.ask()
            candidate = self.space.suggest(trial)
            if candidate.row not in {*earlier, *batch, *self._broken}:
                batch[candidate.row] = trial, candidate
                repeats = 0
                continue
            repeats += 1
            known = earlier.get(candidate.row)
            if known is not None and known.state == "complete":
                # tells the sampler once more what it knows, and counts for nothing else
                self._study.tell(trial, known.value)
            else:
                self._study.tell(trial, state=TrialState.FAIL)
        return list(batch.values())

    def _unseen(self, seen: Collection[str]) -> dict[str, Any]:
        """The parameters of a row that is in none of these."""
        for _ in range(1000):
            drawn = _Random(self._draw)
            if self.space.suggest(drawn).row not in seen:
                return drawn.values
        raise EatError("every row of the space was tried; give fewer --trials")

    def _best_of(self, points: Sequence[Point]) -> tuple[Point, float]:
        point = self.budget.best(points, self.dense_ms)
        return point, self.budget.value(point, self.dense_ms)

    def _judged(
        self, trial: Trial, candidate: Candidate, points: Sequence[Point], state: TrialState, trials: int
    ) -> None:
        from eat.tune.curve import undominated

        point, value = self._best_of(points)
        trial.set_user_attr("point", asdict(point))
        trial.set_user_attr("front", [asdict(one) for one in undominated(points)])
        if state == TrialState.COMPLETE:
            self._study.tell(trial, value)
        else:
            self._study.tell(trial, state=state)
        what = "pruned" if state == TrialState.PRUNED else "done"
        within = "" if self.budget.allows(point) else ", outside the budget"
        self._tell(
            f"trial {len(self.found())} of {trials}, {candidate.row}: {what}, accuracy {100 * point.accuracy:.1f} %, "
            f"{point.ms:.2f} ms (90 %: {point.p90_ms:.2f}) at a threshold of {point.tau:g}{within}"
        )

    def _failed(self, trial: Trial, candidate: Candidate) -> None:
        self._study.tell(trial, state=TrialState.FAIL)
        self._broken.add(candidate.row)
        self._tell(f"{candidate.row}: could not be run; see the lines above")

    def _requeue_interrupted(self) -> None:
        """Ask again for the trials of a run that was interrupted; what was trained for them is still there."""
        for trial in self._study.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if self._is_whole(trial):
                self._study.enqueue_trial(trial.params)

    def _is_whole(self, trial: FrozenTrial) -> bool:
        try:
            self.space.of(trial.params)
        except KeyError:  # it was interrupted while it was drawn
            return False
        return True

    def _full(self) -> set[str]:
        """The heads that a trial needed to the end."""
        trials = self._study.get_trials(deepcopy=False)
        return {trial.user_attrs["full"] for trial in trials if "full" in trial.user_attrs}

    def _candidates(self) -> list[Candidate]:
        """The candidates of all trials, also of those that run now or could not be run."""
        found = {
            candidate.row: candidate
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state != TrialState.WAITING and self._is_whole(trial)
            for candidate in [self.space.of(trial.params)]
        }
        return list(found.values())


class _Random:
    """Draws values at random."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self.values: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        self.values[name] = self._draw.choice(list(choices))
        return self.values[name]


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # grouped: some parameters are only drawn for rows that remove tokens
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True
        )


def _opened(storage: Path) -> optuna.Study:
    """The study in a storage, which is made if there is none. Raises `DamagedFile` if it cannot be read."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def connect() -> sqlite3.Connection:
        # not by a URL, in which characters of a path would have a meaning
        connection = sqlite3.connect(storage, timeout=60)
        # a trial is some forty commits: none of them waits for the disk, and a kill still loses nothing
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    storage.parent.mkdir(parents=True, exist_ok=True)
    try:
        kept = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
        return optuna.create_study(
            storage=kept,
            study_name="tune",
            direction="minimize",
            pruner=optuna.pruners.PercentilePruner(KEPT_PERCENT, n_startup_trials=BEFORE_PRUNING),
            load_if_exists=True,
        )
    except Exception as error:
        # SQLAlchemy, Alembic and Optuna each have their own
        raise DamagedFile(
            f"{storage}: cannot be used as the storage of a search ({type(error).__name__}); delete it to search "
            "again: what was trained is kept"
        ) from error


def _found(trial: FrozenTrial, space: Space) -> Found:
    state = "complete" if trial.state == TrialState.COMPLETE else "pruned"
    value = trial.value if trial.value is not None else trial.intermediate_values[0]
    duration = trial.duration.total_seconds() if trial.duration is not None else 0.0
    points: Iterable[Mapping[str, float]] = trial.user_attrs["front"]
    return Found(
        trial.number,
        space.of(trial.params),
        float(value),
        Point(**trial.user_attrs["point"]),
        state,
        tuple(Point(**point) for point in points),
        trial.params in space.hand_made(),
        duration,
    )
