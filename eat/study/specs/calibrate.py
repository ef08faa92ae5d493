"""Specifications of operating points and of their calibration."""

from __future__ import annotations

from eat.study.calibration import CalibrationMode
from eat.study.exits import Choice, Promise
from eat.study.specs.spec import Spec


class ExitSpec(Spec):
    """The exit rule of a system, its thresholds, its promise, and how its operating point is chosen."""

    rule: list[str] = []
    tau: list[float] = []
    patience: int = 1
    promise: Promise | None = None
    choose: Choice = Choice()


class OperatingSpec(ExitSpec):
    """The operating points of a system, and how its exits were calibrated."""

    calibration: CalibrationMode
    bins: int


class CalibrationSpec(ExitSpec):
    """The specification of a calibration: temperatures and, with a promise, the thresholds that keep it.

    Without a promise the rule and its thresholds are not included, so changing them does not repeat the calibration;
    a choice by disagreement finds thresholds of its own. So does one by cost, which needs the rule. costs: of a mistake
    on a text of each class, for a choice by cost.
    """

    mode: CalibrationMode
    bins: int
    costs: list[float] = []
