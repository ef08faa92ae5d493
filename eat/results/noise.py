"""The noise floor of the clock, and whether a speed-up lies outside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Speed = Literal["faster", "slower", "no difference shown"]


@dataclass(frozen=True)
class NoiseFloor:
    """The ratio of a system's time to its own, measured as if it were two systems (A/A), with its 95 % interval.

    mean: the ratio of mean times, which is sensitive to a few stalls.
    """

    ratio: float
    low: float
    high: float
    mean: float

    @property
    def band(self) -> tuple[float, float]:
        """Ratios that the clock alone can produce: the interval and its mirror image, and always 1."""
        return min(1.0, self.low, 1 / self.high), max(1.0, self.high, 1 / self.low)


def speed_verdict(low: float, high: float, noise: NoiseFloor) -> Speed:
    """Whether a speed-up with the interval [low, high] differs from 1 and from the noise floor."""
    floor, ceiling = noise.band
    if low > ceiling:
        return "faster"
    if high < floor:
        return "slower"
    return "no difference shown"
