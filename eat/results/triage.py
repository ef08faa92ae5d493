"""What the answers of an operating point cost, and which of them a person decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from eat.results.replay import Replay

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def cost_of(predictions: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], costs: Sequence[float]) -> Floats:
    """The cost of each answer: 0 if it is right, else that of the text's class; float64 (N,)."""
    found: Floats = np.where(predictions == labels, 0.0, np.asarray(costs, np.float64)[labels])
    return found


def escalated(found: Replay, layers: int, level: float) -> Bools:
    """Which texts go to a person: those at full depth whose confidence is below the level; bool (N,)."""
    chosen: Bools = (found.depth == layers) & (found.probability < level)
    return chosen
