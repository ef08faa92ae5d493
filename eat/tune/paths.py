"""The files of a search in the results of its study, and in its own folder."""

from __future__ import annotations

from pathlib import Path

from eat.study.paths import StudyPaths

TRIALS, STORAGE, SETTING, CLOCK = "trials.yaml", "trials.db", "search.json", "clock.json"
"""The growing configuration, Optuna's storage, what is searched, and the cost of a text."""

TABLE, FRONT, BEST, RESULT = "trials.csv", "front.csv", "best.yaml", "result.json"

FILES = {TRIALS, STORAGE, SETTING, CLOCK, TABLE, FRONT, "front.pdf", "front.svg", BEST, RESULT, "README.md"}
"""What the folder of a search holds."""


def trial_trace(paths: StudyPaths, task: str, system: str, seed: int | str) -> Path:
    """The trace of a row over the calibration split alone. A search makes no other, so that it cannot see dev."""
    return paths.results / "trials" / task / system / f"seed{seed}" / "calibration.parquet"
