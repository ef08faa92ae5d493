"""The options of a search, and its budget."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eat.errors import EatError

BudgetKind = Literal["p90_ms", "accuracy_loss"]

_SAME = 1e-9  # accuracies are counts over n: smaller differences are rounding

BROKEN = 10.0
"""Values of points that break the budget begin here: any point within it is better."""


@dataclass(frozen=True)
class Point:
    """A row at a threshold, on the calibration texts.

    tau: one threshold for all exits; 1 for full depth. accuracy: share of right answers. loss: the reference's accuracy
    minus that. disagreement: the share of texts that are answered otherwise than by the reference. ms, p90_ms:
    predicted time of a text, mean and 90th percentile. depth: mean layers.
    """

    tau: float
    accuracy: float
    loss: float
    disagreement: float
    ms: float
    p90_ms: float
    depth: float


@dataclass(frozen=True)
class Budget:
    """What a row may cost: the fastest row that loses at most `limit` of accuracy, or the most accurate row whose 90th
    percentile is at most `limit` ms.
    """

    kind: BudgetKind
    limit: float

    def __str__(self) -> str:
        if self.kind == "p90_ms":
            return f"a 90th percentile of at most {self.limit:g} ms"
        return f"a loss of at most {100 * self.limit:g} points of accuracy"

    def allows(self, point: Point) -> bool:
        """Whether a point is within the budget."""
        return (point.p90_ms if self.kind == "p90_ms" else point.loss) <= self.limit + _SAME

    def value(self, point: Point, dense_ms: float) -> float:
        """What the search minimises.

        Within the budget: the mean time over that of the reference, or the share of wrong answers with a millionth of
        that ratio, which decides between equals. Outside: from `BROKEN` on, growing with the excess.
        """
        if self.kind == "p90_ms":
            excess, value = point.p90_ms / self.limit, 1.0 - point.accuracy + 1e-6 * point.ms / dense_ms
        else:
            excess, value = 100.0 * point.loss, point.ms / dense_ms
        return value if self.allows(point) else BROKEN + excess

    def best(self, points: Iterable[Point], dense_ms: float) -> Point:
        """The best threshold of a row, of equals the highest."""
        return min(points, key=lambda point: (self.value(point, dense_ms), -point.tau))


def budget_of(p90_ms: float | None, accuracy_loss: float | None) -> Budget:
    """The budget of a command's options, of which exactly one is given; accuracy_loss in points."""
    if (p90_ms is None) == (accuracy_loss is None):
        found = "neither is given" if p90_ms is None else "both are given"
        raise EatError(f"--p90-ms and --accuracy-loss: {found}; give one of them: it is the budget")
    if p90_ms is not None:
        if not (0 < p90_ms < math.inf):
            raise EatError(f"--p90-ms: found {p90_ms:g}; give milliseconds above 0")
        return Budget("p90_ms", p90_ms)
    assert accuracy_loss is not None
    if not (0 <= accuracy_loss < 100):
        raise EatError(f"--accuracy-loss: found {accuracy_loss:g}; give points of accuracy from 0 to 100, such as 0.5")
    return Budget("accuracy_loss", accuracy_loss / 100)


@dataclass(frozen=True)
class TuneOptions:
    """A search.

    config: the study that it starts from. task: one of its tasks. name: of the study with the trials. trials: how many.
    batch: the trials of a run of the workflow. cores: of the machine. seed: of the search.
    """

    config: Path
    task: str
    name: str
    budget: Budget
    to: Path
    trials: int = 40
    batch: int = 8
    cores: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("trials", "batch", "cores"):
            if getattr(self, name) < 1:
                raise EatError(f"--{name}: found {getattr(self, name)}; give a whole number from 1 on")
        if self.seed < 0:
            raise EatError(f"--seed: found {self.seed}; give a whole number from 0 on")
