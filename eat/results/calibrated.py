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


Promised = float | dict[int, float | tuple[float, ...]]
"""The threshold that calibration found: one for all exits, or by layer; one for a layer, or by class of the answer."""


def promised_of(calibration: Mapping[str, Any]) -> Promised | None:
    """The threshold that keeps a system's promise, or a cost, from a calibration file; `None` without one."""
    found = calibration.get("promise") or calibration.get("by_cost")
    if found is None:
        return None
    tau = found["tau"]
    return {int(depth): _numbers(value) for depth, value in tau.items()} if isinstance(tau, Mapping) else float(tau)


def _numbers(value: Any) -> float | tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list) else float(value)
