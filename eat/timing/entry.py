"""One thing that is timed, and the answers that are expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eat.engines.engine import Runner
from eat.model.tokenizer import Encoded
from eat.results.replay import Replay


@dataclass(frozen=True)
class Expected:
    """The trace's answers by text id, and the distance of each from a tie."""

    replay: Replay
    tokens: np.ndarray
    margin: np.ndarray
    row: Mapping[str, int]


@dataclass
class Entry:
    """One thing that is timed: a system at an operating point.

    texts: the timed texts as tokens of this system's tokenizer. run: classifies texts; the classes are on the host when
    it returns. expected: the trace's answers, if there are any. sort: whether a block's texts are sorted by length
    first. sizes: the batch sizes at which it is timed.
    """

    system: str
    seed: int
    tau: float | None
    engine: str
    precision: str
    texts: list[Encoded]
    run: Runner
    expected: Expected | None = None
    sort: bool = False
    sizes: Literal["all", "one", "larger"] = "all"

    def is_timed_at(self, batch_size: int) -> bool:
        """Whether it is timed at this batch size."""
        return self.sizes == "all" or (self.sizes == "one") == (batch_size == 1)
