"""Promises on disagreement, checked by resplitting a trace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eat.calibrate.disagreement import ExitAnswers, choose_threshold, choose_thresholds
from eat.calibrate.promises import p_value
from eat.progress import Progress


@dataclass(frozen=True)
class Resplits:
    """above: the share of resplits whose judging half disagrees on more than epsilon. broken: the share in which that
    half excludes a risk of at most epsilon, by an exact test at 5 %. depth: mean layers per text of the judging halves.
    """

    above: float
    broken: float
    depth: float


def resplit(
    answers: ExitAnswers, epsilon: float, delta: float, resplits: int, vector: bool = False, seed: int = 0
) -> Resplits:
    """Choose on a random half and judge on the other, many times."""
    generator = np.random.default_rng(seed)
    half = len(answers) // 2
    above = broken = 0
    depth = 0.0
    with Progress("resplit", resplits, "times") as progress:
        for number in range(resplits):
            order = generator.permutation(len(answers))
            first, second = answers.rows(order[:half]), answers.rows(order[half:])
            if vector:
                choice = choose_thresholds(first, epsilon, delta, number)
            else:
                choice = choose_threshold(first, epsilon, delta)
            differing = int(second.disagreement(choice.thresholds).sum())
            above += differing > epsilon * len(second)
            # the chance of so many or more, if the risk is epsilon
            broken += 1.0 - p_value(differing - 1, len(second), epsilon) < 0.05
            depth += second.mean_cost(choice.thresholds)
            progress.advance()
    return Resplits(above / resplits, broken / resplits, depth / resplits)
