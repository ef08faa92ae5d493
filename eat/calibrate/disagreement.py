"""Thresholds whose disagreement is at most epsilon, with probability 1 - delta over the texts they are chosen on.

Disagreement is the share of texts that are answered differently than by a given model. It needs no labels.

Learn-then-Test (arXiv:2110.01052) with a fixed sequence: candidates are ordered from the safest to the fastest before
the texts of the test are used, each is tested with an exact binomial p-value, and the first that is not rejected at
delta ends the sequence. The last rejected one is chosen; the probability that its true disagreement is above epsilon is
at most delta, for any number of candidates.

One threshold for all exits has a natural order, from 1 downwards, so all texts serve the test. A vector of one
threshold per exit has none: a path of vectors is learned on one half of the texts and tested on the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eat.calibrate.calibration import softmax
from eat.calibrate.promises import NEVER, keep_promise, p_value, require_enough_texts
from eat.results.trace import Trace
from eat.statistics import examples_needed
from eat.study.exits import Choice as ChoiceOptions
from eat.study.specs.calibrate import CalibrationSpec

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CANDIDATES = tuple(np.round(np.arange(0.999, 0.499, -0.001), 3).tolist())
"""Thresholds from the safest to the fastest."""

NOTCHES = (
    *(NEVER, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95, 0.93, 0.91, 0.89),
    *(0.87, 0.85, 0.82, 0.79, 0.76, 0.73, 0.70, 0.65, 0.60, 0.55, 0.50),
)
"""The thresholds of an exit along a path of vectors."""


@dataclass(frozen=True)
class ExitAnswers:
    """What each exit answers to N texts.

    certainty: of each of the E exits before the last layer, float64 (N, E). differs: whether the answer of each exit is
    another than that of the given model, bool (N, E + 1); the last column is full depth. cost: of an answer from each
    exit, such as FLOPs, float64 (N, E + 1).
    """

    certainty: Floats
    differs: Bools
    cost: Floats

    def __len__(self) -> int:
        return len(self.certainty)

    def rows(self, picked: npt.NDArray[np.int64]) -> ExitAnswers:
        """Some of the texts."""
        return ExitAnswers(self.certainty[picked], self.differs[picked], self.cost[picked])

    def exits(self, thresholds: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The exit that each text takes at thresholds (E,); E is full depth. At 1 no text exits."""
        given = np.asarray(thresholds, dtype=np.float64)
        fires = (self.certainty >= given) & (given < NEVER)
        found: npt.NDArray[np.int64] = np.where(fires.any(axis=1), fires.argmax(axis=1), self.certainty.shape[1])
        return found

    def disagreement(self, thresholds: npt.ArrayLike) -> Bools:
        """Whether each text is answered differently at these thresholds; bool (N,)."""
        found: Bools = self.differs[np.arange(len(self)), self.exits(thresholds)]
        return found

    def mean_cost(self, thresholds: npt.ArrayLike) -> float:
        """The mean cost of a text at these thresholds."""
        return float(self.cost[np.arange(len(self)), self.exits(thresholds)].mean())


@dataclass(frozen=True)
class Choice:
    """The chosen thresholds, one per exit; all are 1 if no text may exit early.

    kept: whether the promise is kept, at full depth at least. n: the texts of the test, of which `differing` were
    answered differently at these thresholds. p: the p-value. cost: the mean cost on these texts. needed: an estimate of
    the texts with which full depth would keep the promise, if it does not; `None` if no number of texts would do.
    """

    thresholds: tuple[float, ...]
    kept: bool
    n: int
    differing: int
    p: float
    cost: float
    needed: int | None = None

    @property
    def may_exit(self) -> bool:
        """Whether any text may exit early."""
        return any(threshold < NEVER for threshold in self.thresholds)


def choose_threshold(answers: ExitAnswers, epsilon: float, delta: float) -> Choice:
    """The lowest threshold, one for all exits, that keeps the promise; all texts are used for the test."""
    exits = answers.certainty.shape[1]
    return _tested(answers, [(threshold,) * exits for threshold in CANDIDATES], epsilon, delta)


def choose_thresholds(answers: ExitAnswers, epsilon: float, delta: float, seed: int = 0) -> Choice:
    """The cheapest thresholds, one for each exit, that keep the promise.

    A path is learned on a random half of the texts (`learn_path`) and tested on the other half.
    """
    order = np.random.default_rng(seed).permutation(len(answers))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    path = learn_path(answers.rows(first), 2.0 * epsilon)
    return _tested(answers.rows(second), path, epsilon, delta)


def learn_path(answers: ExitAnswers, most: float) -> list[tuple[float, ...]]:
    """Vectors of thresholds from full depth on, each with one exit a notch lower than before.

    The exit that is lowered is the one that saves the most cost per additional disagreement on these texts. The path
    ends where the disagreement is above `most`.
    """
    exits = answers.certainty.shape[1]
    notch = [0] * exits
    path: list[tuple[float, ...]] = []
    disagreement = float(answers.differs[:, -1].mean())
    cost = float(answers.cost[:, -1].mean())
    while disagreement <= most:
        steps = []
        for exit_ in range(exits):
            # a lower notch may let no further text exit: look ahead to the next that does
            for ahead in range(notch[exit_] + 1, len(NOTCHES)):
                lowered = [*notch[:exit_], ahead, *notch[exit_ + 1 :]]
                thresholds = tuple(NOTCHES[place] for place in lowered)
                saved = cost - answers.mean_cost(thresholds)
                if saved > 0:
                    worse = float(answers.disagreement(thresholds).mean()) - disagreement
                    steps.append(((worse + 1e-6) / saved if worse > 0 else worse, lowered, thresholds))
                    break
        if not steps:
            break
        _, notch, thresholds = min(steps, key=lambda step: step[0])
        disagreement, cost = float(answers.disagreement(thresholds).mean()), answers.mean_cost(thresholds)
        path.append(thresholds)
    return path


def answers_of(traces: Sequence[Trace]) -> ExitAnswers:
    """The answers of the exits of one system to the texts of several traces, against its own full depth.

    The cost of an answer is the number of layers: the FLOPs of removed tokens depend on the text.
    """
    parts = []
    for trace in traces:
        depths = list(trace.logits)
        full = trace.logits[depths[-1]].argmax(axis=1)
        certainty = np.stack([softmax(trace.logits[depth]).max(axis=1) for depth in depths[:-1]], axis=1)
        differs = np.stack([trace.logits[depth].argmax(axis=1) != full for depth in depths], axis=1)
        parts.append((certainty, differs, np.tile(np.array(depths, np.float64), (len(full), 1))))
    return ExitAnswers(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def promise_of(trace: Trace, spec: CalibrationSpec) -> dict[str, Any] | None:
    """The `promise` of a calibration file; `None` if the specification asks for none. trace: of the calibration split.

    Raises `EatError` as `keep_promise` and `keep_agreement` do.
    """
    if spec.promise is not None:
        return keep_promise(trace, spec)
    return keep_agreement(trace, spec.choose) if spec.choose.by == "disagreement" else None


def keep_agreement(trace: Trace, options: ChoiceOptions) -> dict[str, Any]:
    """The thresholds of fewest layers whose answers agree with full depth, as the `promise` of a calibration file.

    trace: of the calibration split, whose labels are not used. Returns risk (`disagreement`), epsilon, delta, n (the
    texts of the test), bad (those among them that are answered differently), p, and tau: layer -> threshold, 1.0 where
    no text exits. Raises `EatError` if there are too few texts, even if none is answered differently.
    """
    n = len(trace.labels) if options.thresholds == "one" else len(trace.labels) // 2
    require_enough_texts(n, options.epsilon, options.delta)
    choose = choose_threshold if options.thresholds == "one" else choose_thresholds
    found = choose(answers_of([trace]), options.epsilon, options.delta)
    return {
        "risk": "disagreement",
        "epsilon": options.epsilon,
        "delta": options.delta,
        "n": found.n,
        "bad": found.differing,
        "p": found.p,
        "tau": dict(zip(map(str, list(trace.logits)[:-1]), found.thresholds, strict=True)),
    }


def _tested(answers: ExitAnswers, candidates: list[tuple[float, ...]], epsilon: float, delta: float) -> Choice:
    """Test the candidates in their order, after full depth, and return the last that is rejected."""
    n = len(answers)
    chosen = _at(answers, (NEVER,) * answers.certainty.shape[1], epsilon)
    if chosen.p > delta:
        return Choice(
            chosen.thresholds, False, n, chosen.differing, chosen.p, chosen.cost, _needed(chosen, epsilon, delta)
        )
    for thresholds in candidates:
        found = _at(answers, thresholds, epsilon)
        if found.p > delta:
            break
        chosen = found
    return chosen


def _at(answers: ExitAnswers, thresholds: tuple[float, ...], epsilon: float) -> Choice:
    differing = int(answers.disagreement(thresholds).sum())
    p = p_value(differing, len(answers), epsilon)
    return Choice(thresholds, True, len(answers), differing, p, answers.mean_cost(thresholds))


def _needed(choice: Choice, epsilon: float, delta: float) -> int | None:
    """The texts with which a disagreement of the same share would keep the promise."""
    share = choice.differing / choice.n
    if share >= epsilon:
        return None
    n = max(choice.n, examples_needed(epsilon, delta))
    while p_value(int(share * n), n, epsilon) > delta:
        n = n + max(n // 10, 1)
    return n
