"""The curve of a row: what each threshold would answer and cost, from one trace over the calibration texts.

Thresholds are not searched by trials, since a trace contains the answer of every exit: the whole curve follows from it
without running anything again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eat.calibrate.calibration import softmax
from eat.calibrate.disagreement import CANDIDATES, ExitAnswers
from eat.calibrate.promises import NEVER
from eat.errors import EatError
from eat.results.trace import Trace
from eat.tune.cost import Cost
from eat.tune.options import Point


def curve(trace: Trace, dense: Trace, cost: Cost, variant: str) -> list[Point]:
    """A point for each threshold, from full depth to the fastest.

    trace: of the row. dense: of the reference, on the same texts. Raises `EatError` if the texts differ.
    """
    if not np.array_equal(trace.ids, dense.ids):
        raise EatError("a trial was traced on other texts than the reference; delete the trials and run again")
    last = int(trace.shape["layers"])
    exits = [depth for depth in trace.logits if depth < last]
    predicted = np.stack([logits.argmax(axis=1) for logits in trace.logits.values()], axis=1)
    right = predicted == trace.labels[:, None]
    dense_answer = dense.logits[int(dense.shape["layers"])].argmax(axis=1)
    dense_accuracy = float(np.mean(dense_answer == trace.labels))
    differs = predicted != dense_answer[:, None]
    depths = np.array([*exits, last], dtype=np.float64)

    def point(tau: float, taken: np.ndarray, ms: np.ndarray) -> Point:
        rows = np.arange(len(taken))
        accuracy = float(right[rows, taken].mean())
        return Point(
            tau=float(tau),
            accuracy=accuracy,
            loss=dense_accuracy - accuracy,
            disagreement=float(differs[rows, taken].mean()),
            ms=float(ms.mean()),
            p90_ms=float(np.percentile(ms, 90)),
            depth=float(depths[taken].mean()),
        )

    full = np.full(len(trace.labels), len(exits))
    points = [point(NEVER, full, cost.full_depth(trace, variant))]
    if exits:
        certainty = np.stack([softmax(trace.logits[depth]).max(axis=1) for depth in exits], axis=1)
        ms = cost.ms(trace, variant, exits)
        answers = ExitAnswers(certainty, differs, ms)
        for tau in CANDIDATES:
            taken = answers.exits(tau)
            points.append(point(tau, taken, ms[np.arange(len(taken)), taken]))
    return points


def undominated(points: Sequence[Point]) -> list[Point]:
    """The points that no other is at least as fast and as accurate as, from the fastest on."""
    found: list[Point] = []
    for one in sorted(points, key=lambda point: (point.ms, -point.accuracy, -point.tau)):
        if not found or one.accuracy > found[-1].accuracy:
            found.append(one)
    return found
