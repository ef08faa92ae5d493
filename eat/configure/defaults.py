"""Defaults of a study by the size of its data and the machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eat.errors import EatError
from eat.statistics import examples_needed

FEWEST_TEXTS = 200
"""The fewest different texts: with fewer, no model learns and no promise can be tested."""

EPSILONS = (0.02, 0.03, 0.05, 0.1)
"""Promised disagreements, the first of which the calibration texts can show is taken."""

DELTA = 0.05

WANTED_CALIBRATION = 900
"""Calibration texts with which a system that disagrees on one text of a hundred can promise two."""

LARGEST_CALIBRATION, LARGEST_SHARE = 0.30, 0.40
"""The largest share of calibration texts, and the largest if the promise of 2 % needs it."""

MOST_CALIBRATION, MOST_DEV = 4000, 5000

SLACK = 0.9
"""A split by hashes may be smaller than its share by chance."""

BATCH = 32
LEAST_STEPS, LEAST_EPOCHS, MOST_EPOCHS = 200, 3, 5

TOKENS_PER_CORE = 300_000
"""Tokens that a core passes in some ten minutes of training, for the first limit of the training texts."""

LEAST_TRAIN, MOST_THREADS = 3000, 4


@dataclass(frozen=True)
class Defaults:
    """Values of a configuration; `None`: all texts.

    epsilon: the promised disagreement. rest: whether training texts beyond `train_examples` are left. longer: the share
    of texts that are longer than max_length.
    """

    max_length: int
    longer: float
    calibration: float
    dev: float
    train_examples: int | None
    calibration_examples: int | None
    dev_examples: int | None
    rest: bool
    unlabelled_examples: int
    epochs: int
    epsilon: float
    training_threads: int
    timing_threads: int


def defaults_for(
    different: int, lengths: npt.NDArray[np.int64], classes: int, cores: int, seeds: int, positions: int
) -> Defaults:
    """The defaults.

    different: the different texts. lengths: their tokens. classes: how many. positions: of the backbone. Raises
    `EatError` if there are too few texts.
    """
    if different < FEWEST_TEXTS:
        raise EatError(f"{different} different texts with a label; a study needs at least {FEWEST_TEXTS}: give more")
    max_length = _max_length(lengths, positions)
    calibration = _calibration_share(different)
    dev = 0.2
    epsilon = next(one for one in EPSILONS if examples_needed(one, DELTA) <= SLACK * calibration * different)
    train = int(different * (1.0 - calibration - dev))
    # two jobs side by side beat one with two threads: the student and the heads of the dense model train at a time
    threads = max(1, min(MOST_THREADS, cores // (2 * seeds)))
    mean = float(np.minimum(lengths, max_length).mean())
    most = max(LEAST_TRAIN, 40 * classes, int(TOKENS_PER_CORE * min(cores, MOST_THREADS) / (LEAST_EPOCHS * mean)))
    most = round(most, -2)
    is_capped = train * SLACK > most
    used = most if is_capped else train
    return Defaults(
        max_length=max_length,
        longer=float((lengths > max_length).mean()),
        calibration=calibration,
        dev=dev,
        train_examples=most if is_capped else None,
        calibration_examples=_cap(calibration * different, MOST_CALIBRATION),
        dev_examples=_cap(dev * different, MOST_DEV),
        rest=is_capped and train * SLACK - most >= 500,
        unlabelled_examples=max(4000, most),
        epochs=max(LEAST_EPOCHS, min(MOST_EPOCHS, math.ceil(LEAST_STEPS * BATCH / used))),
        epsilon=epsilon,
        training_threads=threads,
        timing_threads=min(MOST_THREADS, cores),
    )


def _max_length(lengths: npt.NDArray[np.int64], positions: int) -> int:
    """The tokens that 99 of 100 texts have at most, up to a multiple of 16."""
    return int(min(positions, max(32, 16 * math.ceil(np.percentile(lengths, 99) / 16))))


def _calibration_share(different: int) -> float:
    """The share of calibration texts: enough for a promise, and as few as possible."""
    share = max(0.15, min(LARGEST_CALIBRATION, WANTED_CALIBRATION / different))
    needed = examples_needed(EPSILONS[0], DELTA) / SLACK / different
    if share < needed:
        share = min(LARGEST_SHARE, needed)
    return math.ceil(100 * share) / 100


def _cap(expected: float, most: int) -> int | None:
    return most if expected > most else None
