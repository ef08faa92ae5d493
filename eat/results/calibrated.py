"""The content of a calibration file: the temperature of each exit, and the thresholds that keep a promise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from eat.errors import EatError


def temperatures_of(calibration: Mapping[str, Any]) -> dict[int, float]:
    """Layer -> temperature, from a calibration file. Raises `EatError` if one is not above 0."""
    found = {int(depth): float(value) for depth, value in calibration["temperatures"].items()}
    for depth, value in found.items():
        if not 0.0 < value < math.inf:
            raise EatError(f"temperature {value} of exit {depth}; it must be above 0: calibrate again")
    return found


Promised = float | dict[int, float]
"""The threshold that keeps a promise: one for all exits, or by layer."""


def promised_of(calibration: Mapping[str, Any]) -> Promised | None:
    """The threshold that keeps a system's promise, from a calibration file; `None` without a promise."""
    if "promise" not in calibration:
        return None
    tau = calibration["promise"]["tau"]
    return {int(depth): float(value) for depth, value in tau.items()} if isinstance(tau, Mapping) else float(tau)
