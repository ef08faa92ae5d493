"""Specifications of operating points and of their calibration."""

from __future__ import annotations

from eat.study.calibration import CalibrationMode
from eat.study.exits import Promise
from eat.study.specs.spec import Spec


class ExitSpec(Spec):
    """The exit rule of a system, its thresholds, and its promise."""

    rule: list[str] = []
    tau: list[float] = []
    patience: int = 1
    promise: Promise | None = None


class OperatingSpec(ExitSpec):
    """The operating points of a system, and how its exits were calibrated."""

    calibration: CalibrationMode
    bins: int


class CalibrationSpec(ExitSpec):
    """The specification of a calibration: temperatures and, with a promise, the threshold that keeps it.

    Without a promise the rule and its thresholds are not included, so changing them does not repeat the calibration.
    """

    mode: CalibrationMode
    bins: int
