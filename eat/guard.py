"""The guard of a command: see `eat.interrupts`, which starts it as a program of its own.

It waits. When the command gets a signal to end and has not ended in time, the guard kills it and what it started. When
the process has died without which the command shall not go on, the guard sends the command SIGTERM. It ends with the
command.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

import psutil

LOOK_SECONDS = 1.0


def main(command: int, hears: int, grace: float, parent: int, signals: frozenset[int]) -> None:
    """Guard a process, which started this one.

    hears: the end of a pipe that brings the numbers of the signals it gets, and ends when it needs no guard any more.
    grace: seconds between the first of `signals` and its end. parent: the process without which it shall not go on; 0
    for none.
    """
    needed = _process(parent) if parent else None
    kill_at: float | None = None
    told = False
    while os.getppid() == command:
        wait = LOOK_SECONDS if parent or kill_at is not None else None
        ready, _, _ = select.select([hears], [], [], wait)
        if ready:
            numbers = os.read(hears, 4096)
            if not numbers:
                return
            if kill_at is None and not signals.isdisjoint(numbers):
                kill_at = time.monotonic() + grace
        if parent and not told and not _lives(needed):
            os.kill(command, signal.SIGTERM)
            told = True
            kill_at = kill_at or time.monotonic() + grace  # a stopped process says nothing of its signals
        if kill_at is not None and time.monotonic() >= kill_at:
            _kill(command, grace)
            return


def _process(number: int) -> psutil.Process | None:
    try:
        return psutil.Process(number)
    except psutil.NoSuchProcess:
        return None


def _lives(process: psutil.Process | None) -> bool:
    try:
        # is_running also tells a later process of the same number from the one we knew
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(command: int, grace: float) -> None:
    with suppress(OSError):
        line = f"error: it did not end within {grace:g} s of a signal and was killed; run the same command again\n"
        os.write(sys.stderr.fileno(), line.encode())
    guarded = psutil.Process(command)
    started = [child for child in guarded.children(recursive=True) if child.pid != os.getpid()]
    for process in (guarded, *started):
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    _command, _hears, _grace, _parent, *_signals = sys.argv[1:]
    main(int(_command), int(_hears), float(_grace), int(_parent), frozenset(map(int, _signals)))
