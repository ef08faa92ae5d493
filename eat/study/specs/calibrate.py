"""What turns a trace into operating points, and what is fitted for them on the calibration split."""

from __future__ import annotations

from eat.study.calibration import CalibrationMode
from eat.study.exits import Promise
from eat.study.specs.spec import Spec


class ExitSpec(Spec):
    """By which rule a system exits early, at which thresholds, and what it promises."""

    rule: list[str] = []
    tau: list[float] = []
    patience: int = 1
    promise: Promise | None = None


class OperatingSpec(ExitSpec):
    """The operating points of a system, and how its exits were calibrated."""

    calibration: CalibrationMode
    bins: int


class CalibrationSpec(ExitSpec):
    """What is fitted: temperatures and, if a promise is made, the threshold that keeps it.

    Without a promise the rule and its thresholds are not in it, so changing them calibrates nothing again.
    """

    mode: CalibrationMode
    bins: int
