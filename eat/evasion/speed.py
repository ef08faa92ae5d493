"""What each model does with the texts as they are: layers per text, and seconds per call in turn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eat.progress import Progress
from eat.statistics import median_ratio

if TYPE_CHECKING:
    from eat.runtime.classifier import AdaptiveClassifier

PASSES = 3


def speeds(models: Mapping[str, AdaptiveClassifier], texts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Model -> accuracy, depth (layers per text), ms (median of a call) and `against_first`, with its interval.

    Each text is answered by all models in turn, `PASSES` times. `against_first` is the median of the ratios of the
    time of a text to that of the first model: above 1 is slower.
    """
    import numpy as np

    names = list(models)
    times = np.empty((len(texts), PASSES, len(names)))
    answers: dict[str, list[Any]] = {name: [] for name in names}
    for model in models.values():
        model(texts[:8])
    with Progress("timed", PASSES * len(texts), "texts") as progress:
        for turn in range(PASSES):
            for number, text in enumerate(texts):
                # the order of the models turns, so that none is always after the same one
                for place in range(len(names)):
                    which = (place + number + turn) % len(names)
                    began = time.perf_counter()
                    [answer] = models[names[which]]([text])
                    times[number, turn, which] = time.perf_counter() - began
                    if turn == 0:
                        answers[names[which]].append(answer)
                progress.advance()
    found = {}
    for which, name in enumerate(names):
        right = [answer.label == label for answer, label in zip(answers[name], labels, strict=True)]
        row: dict[str, Any] = {
            "accuracy": sum(right) / len(right),
            "depth": sum(answer.depth for answer in answers[name]) / len(texts),
            "ms": 1000.0 * float(np.median(times[:, :, which])),
        }
        if which:
            ratio = median_ratio(times[:, :, which], times[:, :, 0])
            row |= ratio.columns("against_first")
        found[name] = row
    return found
