"""What the tests of `eat tune` share: budgets, a space, and points."""

from __future__ import annotations

from eat.tune.options import Budget, Point
from eat.tune.space import Space

LOSS, TIME = Budget("accuracy_loss", 0.005), Budget("p90_ms", 3.0)
SPACE = Space(6, ("torch", "int8"))


def point(ms: float = 1.0, accuracy: float = 0.9, **more: float) -> Point:
    values = {"tau": 0.9, "loss": 0.9 - accuracy, "disagreement": 0.0, "p90_ms": 2 * ms, "depth": 3.0} | more
    return Point(ms=ms, accuracy=accuracy, **values)
