"""The calibration of a system: everything that its calibration file holds."""

from __future__ import annotations

from typing import Any

from eat.calibrate.calibration import calibrate
from eat.calibrate.cost import thresholds_of
from eat.calibrate.disagreement import promise_of
from eat.results.calibrated import temperatures_of
from eat.results.trace import Trace
from eat.study.specs.calibrate import CalibrationSpec


def calibrate_system(calibration_trace: Trace, dev_trace: Trace, spec: CalibrationSpec) -> dict[str, Any]:
    """The content of the calibration JSON: that of `calibrate`, and what the specification asks for.

    `promise`: the threshold that keeps a promise. `by_cost`: the thresholds that are chosen by cost. Both are found on
    the calibration split alone. Raises `EatError` as `calibrate` and `promise_of` do.
    """
    found = calibrate(calibration_trace, dev_trace, mode=spec.mode, bins=spec.bins)
    promise = promise_of(calibration_trace, spec)
    if promise is not None:
        found["promise"] = promise
    if spec.choose.by == "cost":
        found["by_cost"] = thresholds_of(calibration_trace, spec, temperatures_of(found))
    return found
