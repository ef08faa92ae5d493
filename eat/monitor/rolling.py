"""A rolling window over the traffic of a server, and an alarm that does not flap."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from eat.errors import EatError
from eat.monitor.comparison import LEVEL, SMALLEST_WINDOW, Comparison, compare
from eat.monitor.observations import Observation, Observations
from eat.monitor.profile import Profile

QUIET = 3
"""The consecutive quiet comparisons that end an alarm."""

SOON = 10
"""An alarm that returns within this many comparisons after the last one doubles the quiet time it needs."""

LONGEST_QUIET = 48
"""The most consecutive quiet comparisons that are asked for."""


@dataclass(frozen=True)
class Judged:
    """A comparison of the rolling window. alarm: the state after it. changed: whether it changed the state."""

    comparison: Comparison
    alarm: bool
    changed: bool


class RollingMonitor:
    """Compares the last `window` texts with the profile, each time half of them are new.

    One comparison with a difference raises the alarm. `QUIET` consecutive comparisons without one end it; an alarm
    that returns soon needs twice as many the next time. With `fallback`, texts are answered at full depth while the
    alarm lasts, and compared with the profile at full depth.
    """

    def __init__(self, profile: Profile, window: int, level: float = LEVEL, fallback: bool = False) -> None:
        if window < SMALLEST_WINDOW:
            raise EatError(f"a window of {window} texts; give at least {SMALLEST_WINDOW}")
        self._profile = profile
        self._level = level
        self._fallback = fallback
        self._window: deque[Observation] = deque(maxlen=window)
        self._new = 0
        self._quiet = 0
        self._since_alarm = SOON + 1
        self._needed = QUIET
        self.alarm = False

    @property
    def full_depth(self) -> bool:
        """Whether texts are to be answered at full depth."""
        return self.alarm and self._fallback

    def add(self, observation: Observation, full_depth: bool = False) -> Judged | None:
        """Add a text. Returns a comparison if one is due.

        full_depth: how the text was answered; texts that were accepted before the last change are left out.
        """
        if full_depth != self.full_depth:
            return None
        self._window.append(observation)
        self._new += 1
        full = len(self._window) == self._window.maxlen
        if not full or self._new < len(self._window) // 2:
            return None
        self._new = 0
        reference = self._profile.reference(self.full_depth)
        return self._judged(compare(reference, Observations.of(list(self._window)), self._level))

    def _judged(self, comparison: Comparison) -> Judged:
        before = self.alarm
        if comparison.alarm:
            if not before:
                again = self._since_alarm <= SOON
                self._needed = min(self._needed * 2, LONGEST_QUIET) if again else QUIET
            self.alarm, self._quiet = True, 0
        elif before:
            self._quiet += 1
            self.alarm = self._quiet < self._needed
        self._since_alarm = 0 if self.alarm else self._since_alarm + 1
        if self.alarm != before and self._fallback:
            self._window.clear()  # texts at full depth are not compared with those that may exit early
            self._new = 0
        return Judged(comparison, self.alarm, self.alarm != before)
