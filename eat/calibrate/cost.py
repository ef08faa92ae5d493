"""Thresholds by what mistakes cost, and the level below which a person decides.

A mistake on a text of class c costs `costs[c]`, whatever the answer is. The thresholds are the ones with the fewest
layers at which the mistakes on the calibration texts cost at most 1 + `loss` times as much as at full depth. They are
found along one path: from no early exits on, one threshold is lowered at a time, the one that costs the least per layer
that it saves. Nothing is promised: the cost on other texts is measured on the dev split.

At full depth a person may decide instead (Chow, 1970): a text whose confidence is below a level costs `review`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eat.calibrate.disagreement import NOTCHES
from eat.model.exit_policy import ExitPolicy
from eat.results.replay import Replay, replay
from eat.results.trace import Trace
from eat.results.triage import cost_of
from eat.study.specs.calibrate import CalibrationSpec

Floats = npt.NDArray[np.float64]

ROUNDING = 1e-9


@dataclass(frozen=True)
class _Place:
    """A point of the path: the notch of each threshold, the mean cost of a text, and its mean layers."""

    notches: tuple[int, ...]
    cost: float
    depth: float


def thresholds_of(trace: Trace, spec: CalibrationSpec, temperatures: Mapping[int, float]) -> dict[str, Any]:
    """The thresholds of a system that is chosen by cost.

    trace: of the calibration split. temperatures: layer -> T. Returns n, costs, loss, the cost of a text at full depth
    (`full_depth`) and at the thresholds (`cost`), the mean layers (`depth`), and tau: layer -> threshold, or -> one for
    each class of the answer.
    """
    classes = trace.shape["classes"] if spec.choose.thresholds == "per_class" else 1
    exits = list(trace.logits)[:-1]

    def tau(notches: Sequence[int]) -> dict[int, Any]:
        values = tuple(NOTCHES[notch] for notch in notches)
        return dict.fromkeys(exits, values if len(values) > 1 else values[0])

    def place(notches: tuple[int, ...]) -> _Place:
        found = replay(trace, ExitPolicy(tuple(spec.rule), tau(notches), temperatures, spec.patience))
        return _Place(notches, _cost(found, trace.labels, spec.costs), float(found.depth.mean()))

    here = start = place((0,) * classes)
    most = start.cost * (1.0 + spec.choose.loss) + ROUNDING
    while (ahead := _next(here, place, most)) is not None:
        here = ahead
    return {
        "n": len(trace.labels),
        "costs": spec.costs,
        "loss": spec.choose.loss,
        "full_depth": start.cost,
        "cost": here.cost,
        "depth": here.depth,
        "tau": ExitPolicy(tau=tau(here.notches)).as_point()["tau"],
    }


def _next(here: _Place, place: Callable[[tuple[int, ...]], _Place], most: float) -> _Place | None:
    """The place with one threshold lowered so that layers are saved, at the least cost per layer and at most `most`."""
    found = []
    for number in range(len(here.notches)):
        # a lower notch may let no further text exit: look ahead to the next that does
        for notch in range(here.notches[number] + 1, len(NOTCHES)):
            ahead = place((*here.notches[:number], notch, *here.notches[number + 1 :]))
            if ahead.depth < here.depth:
                found += [ahead] if ahead.cost <= most else []
                break
    return min(found, key=lambda ahead: (ahead.cost - here.cost) / (here.depth - ahead.depth), default=None)


def _cost(found: Replay, labels: npt.NDArray[np.int64], costs: Sequence[float]) -> float:
    return float(cost_of(found.predictions, labels, costs).mean())


def escalation_level(found: Replay, trace: Trace, costs: Sequence[float], review: float | None) -> float:
    """The level of confidence below which texts at full depth go to a person, with the least cost of these texts.

    found: the operating point on the calibration split. review: the cost of a person; `None`: none reads any text.
    Returns 0 if no text should go to a person.
    """
    if review is None:
        return 0.0
    at_end = found.depth == trace.shape["layers"]
    confidence = found.probability[at_end]
    cost = cost_of(found.predictions, trace.labels, costs)[at_end]
    order = np.argsort(confidence, kind="stable")
    confidence, saved = confidence[order], np.cumsum(cost[order] - review)
    # a level lies between two different confidences, so that texts of the same go together
    ends = np.flatnonzero(np.append(np.diff(confidence) > 0, True)) if len(confidence) else np.array([], np.int64)
    if not len(ends) or saved[ends].max() <= 0:
        return 0.0
    best = int(ends[saved[ends].argmax()])
    return float(confidence[best] + confidence[best + 1]) / 2 if best + 1 < len(confidence) else 1.0
