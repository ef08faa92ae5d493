"""What each model does with the texts as they are: layers per text, and seconds per call in turn."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eat.statistics import median_ratio
from eat.timing.in_turn import timed_in_turn

if TYPE_CHECKING:
    from eat.runtime.classifier import AdaptiveClassifier, Answer

PASSES, WARMUP = 3, 8


def speeds(models: Mapping[str, AdaptiveClassifier], texts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Model -> accuracy, depth (layers per text), ms (median of a call) and `against_first`, with its interval.

    Each text is answered by all models in turn, `PASSES` times. `against_first` is the median of the ratios of the
    time of a text to that of the first model: above 1 is slower.
    """
    names = list(models)
    calls = [functools.partial(_answer, model) for model in models.values()]
    answers = [[call(text) for text in texts] for call in calls]
    ms = timed_in_turn(calls, texts, PASSES, WARMUP)
    found = {}
    for which, name in enumerate(names):
        right = [answer.label == label for answer, label in zip(answers[which], labels, strict=True)]
        row: dict[str, Any] = {
            "accuracy": sum(right) / len(right),
            "depth": sum(answer.depth for answer in answers[which]) / len(texts),
            "ms": float(np.median(ms[:, which])),
        }
        if which:
            ratio = median_ratio(ms[:, which], ms[:, 0])
            row |= ratio.columns("against_first")
        found[name] = row
    return found


def _answer(model: AdaptiveClassifier, text: str) -> Answer:
    [answer] = model([text])
    return answer
