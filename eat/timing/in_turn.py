"""A few callables timed in turn on the same texts, for the commands that compare exported models.

The clock of a study is in `rounds.py`; it also has batches, engines in processes of their own and a noise floor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from eat.progress import Progress

Text = TypeVar("Text")


def timed_in_turn(
    calls: Sequence[Callable[[Text], object]], texts: Sequence[Text], repeats: int, warmup: int
) -> npt.NDArray[np.float64]:
    """Milliseconds of each call on each text, (texts, calls, repeats).

    Texts and, on each text, calls come in a random order that is always the same. warmup: the texts on which all calls
    run before.
    """
    generator = np.random.default_rng(0)
    ms = np.empty((len(texts), len(calls), repeats))
    for text in texts[:warmup]:
        for call in calls:
            call(text)
    with Progress("timed", repeats * len(texts), "texts") as progress:
        for repeat in range(repeats):
            for row in generator.permutation(len(texts)):
                for which in generator.permutation(len(calls)):
                    began = time.perf_counter_ns()
                    calls[which](texts[row])
                    ms[row, which, repeat] = (time.perf_counter_ns() - began) / 1e6
                progress.advance()
    return ms
