"""The guard of a command, which `eat.interrupts` starts as a separate program.

If the command gets a signal to end and does not end in time, the guard kills it and the processes that it started. If
the process on which the command depends has died, the guard sends the command SIGTERM. The guard ends with the command.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

try:
    import psutil
except ModuleNotFoundError:  # without the extra `study`, whose commands alone start processes
    psutil = None  # type: ignore[assignment]

LOOK_SECONDS = 1.0


def main(command: int, hears: int, grace: float, parent: int, signals: frozenset[int]) -> None:
    """Guard the process that started this one.

    hears: the end of a pipe with the numbers of the command's signals; it is closed when no guard is needed any more.
    grace: seconds between the first of `signals` and the kill. parent: the process on which the command depends; 0 for
    none.
    """
    needed = _process(parent) if parent else None
    kill_at: float | None = None
    has_ended_command = False
    while os.getppid() == command:
        wait = LOOK_SECONDS if parent or kill_at is not None else None
        ready, _, _ = select.select([hears], [], [], wait)
        if ready:
            numbers = os.read(hears, 4096)
            if not numbers:
                return
            if kill_at is None and not signals.isdisjoint(numbers):
                kill_at = time.monotonic() + grace
        if parent and not has_ended_command and not _is_alive(needed):
            os.kill(command, signal.SIGTERM)
            has_ended_command = True
            kill_at = kill_at or time.monotonic() + grace  # a stopped process does not report its signals
        if kill_at is not None and time.monotonic() >= kill_at:
            _kill(command, grace)
            return


def _process(number: int) -> psutil.Process | None:
    try:
        return psutil.Process(number)
    except psutil.NoSuchProcess:
        return None


def _is_alive(process: psutil.Process | None) -> bool:
    try:
        # is_running also detects a later process with the same number
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(command: int, grace: float) -> None:
    with suppress(OSError):
        line = f"error: it did not end within {grace:g} s of a signal and was killed; run the same command again\n"
        os.write(sys.stderr.fileno(), line.encode())
    if psutil is None:
        os.kill(command, signal.SIGKILL)
        return
    guarded = psutil.Process(command)
    started = [child for child in guarded.children(recursive=True) if child.pid != os.getpid()]
    for process in (guarded, *started):
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    _command, _hears, _grace, _parent, *_signals = sys.argv[1:]
    main(int(_command), int(_hears), float(_grace), int(_parent), frozenset(map(int, _signals)))
