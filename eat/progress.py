"""Progress lines on stderr at least every ten seconds: the current step and the remaining time; and warnings.

A job describes its work as nested steps (`Progress`). A step that counts its items prints a line while it counts.
During a long call of a library, the thread of `reporting` prints the line instead. A quick job prints nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

Item = TypeVar("Item")

EVERY_SECONDS = 10.0
"""The longest time without a line."""

COUNTED = 0.8
"""The share of it after which a counting step prints its line, so that the thread rarely prints during a timed call."""


class Progress:
    """A step of a job, as a context manager: the lines describe the innermost step that has begun and has not ended.

    what: such as `reading tickets.csv`; with `total` it stands before the count, as in `traced 32 of 96 texts`.
    total, unit: how many items there are. name: of the job, printed before each line; default: that of the enclosing
    step.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "", name: str = "") -> None:
        self.what = what
        self.unit = unit
        self.name = name
        self.detail = ""
        self.begin(total)

    def __enter__(self) -> Progress:
        if not self.name and _steps:
            self.name = _steps[-1].name
        self.begin(self.total)
        _steps.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _steps.remove(self)

    def begin(self, total: int | None, done: int = 0) -> None:
        """Start to count `total` items, of which `done` are already done and do not count for the pace."""
        self.total = total
        self.done = self._first = done
        self._began = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count items as done; print the line if it is due."""
        self.done += count
        if time.monotonic() - max(_line.printed, self._began) >= COUNTED * EVERY_SECONDS:
            self.show()

    def show(self) -> None:
        """Print the line now."""
        _line.print(self.line())

    def line(self) -> str:
        """Name, step, count and detail, and the time left; the time spent if the pace is unknown."""
        spent = time.monotonic() - self._began
        counted = self.done - self._first
        parts = [self.what]
        if self.total is not None:
            parts[0] = f"{self.what} {self.done} of {self.total} {self.unit}".rstrip()
        if self.detail:
            parts.append(self.detail)
        if self.total is not None and counted > 0:
            parts.append(f"{_duration(spent / counted * (self.total - self.done))} left")
        else:
            parts.append(f"{_duration(spent)} so far")
        return (f"{self.name}: " if self.name else "") + ", ".join(parts)


class Elsewhere(Progress):
    """A step whose lines another process prints to the same terminal: this one prints none."""

    def show(self) -> None:
        """Let the time pass for which nothing was printed."""
        _line.printed = time.monotonic()


def counted(what: str, items: Sequence[Item], unit: str, name: str = "") -> Iterator[Item]:
    """Yield the items, and count each as done when the next is requested; see `Progress`."""
    with Progress(what, len(items), unit, name) as progress:
        for item in items:
            yield item
            progress.advance()


@contextmanager
def reporting(name: str) -> Iterator[None]:
    """During the block, print a line of the innermost step whenever nothing was printed for `EVERY_SECONDS`."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(max(_line.printed + EVERY_SECONDS - time.monotonic(), 0.0)):
            if time.monotonic() - _line.printed >= EVERY_SECONDS:
                _steps[-1].show()

    _line.printed = time.monotonic()
    with Progress("working", name=name):
        # a daemon, so that the process can end without it
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def warn(text: str) -> None:
    """Print a warning about a possible mistake in the input."""
    _line.print(f"warning: {text}")


def print_line(text: str) -> None:
    """Print a line on stderr. If nobody reads it, as when the terminal or `tee` is gone, the work goes on silently."""
    try:
        sys.stderr.write(text + "\n")  # in one piece, since other jobs write to the same terminal
        sys.stderr.flush()
    except OSError:
        # the line is still in the buffer: if it cannot be written at exit either, Python exits with status 120
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)


class _Line:
    """The lines of this process, and when the last one was printed."""

    printed = 0.0

    def print(self, text: str) -> None:
        self.printed = time.monotonic()
        print_line(text)


_line = _Line()
_steps: list[Progress] = []


def _duration(seconds: float) -> str:
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"
