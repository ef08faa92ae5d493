"""Programs that a command starts and that print their own lines of progress."""

from __future__ import annotations

import threading

from eat.progress import Progress


class Elsewhere(Progress):
    """A step whose lines another process prints; this one prints none."""

    def __enter__(self) -> Progress:
        self._over = threading.Event()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        super().__exit__(*_)

    def show(self) -> None:
        """Print nothing until the step is over; the thread of `reporting` calls it."""
        self._over.wait()
