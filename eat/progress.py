"""Lines on stderr for whoever waits: what a long job does, and what may be wrong with its input."""

from __future__ import annotations

import sys
import time


class Progress:
    """The progress lines of a long job, each with the job's name in front."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._shown = time.monotonic()

    def say(self, text: str, every_seconds: float = 0.0) -> None:
        """Print a line, unless the last one is younger than `every_seconds`."""
        now = time.monotonic()
        if now - self._shown >= every_seconds:
            print(f"{self.name}: {text}", file=sys.stderr, flush=True)
            self._shown = now


def warn(text: str) -> None:
    """Print a line on what may be a mistake in the input and stops nothing."""
    print(f"warning: {text}", file=sys.stderr, flush=True)
