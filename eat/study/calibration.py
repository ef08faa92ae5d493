"""The section `calibration` of a study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from eat.validation import Strict

CalibrationMode = Literal["fitted", "raw", "paper"]


class Calibration(Strict):
    """How exit probabilities are calibrated before a threshold is applied."""

    mode: CalibrationMode = Field(
        "fitted",
        description="fitted: a temperature for each exit; raw: none; paper: a temperature only if the ECE on the "
        "calibration split is above 2 %.",
    )
    bins: int = Field(15, ge=2, description="Bins of the expected calibration error.")
