"""Ending a command on SIGTERM, Ctrl-C or a closed terminal: within ten seconds, in any state.

The first signal raises the exception `Ended`, so that temporary files are removed; later signals are ignored. Python
raises an exception only between two bytecode instructions, so that nothing would happen within a long call of a
library. Therefore a second process, the guard (`eat/guard.py`), is notified by the C part of Python's signal handler,
which runs independently of the interpreter. The guard kills a command that still runs after `GRACE_SECONDS`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from eat.progress import Progress

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

GRACE_SECONDS = 7.0
"""The time that a command has to end; then it is killed with the processes it started."""

CHILD_SECONDS = 4.0
"""The time that a program started by a command has to end when the command ends."""


class Ended(KeyboardInterrupt):
    """A signal ended this process. number: the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ended_by_signals(parent: int | None = None) -> Iterator[None]:
    """Raise `Ended` in the block at the first of `SIGNALS`; the guard kills the process if it does not end.

    parent: a process on which this one depends; if it dies, this one gets SIGTERM. A signal that is ignored, as by
    `nohup`, stays ignored. Use it in the main thread of a command, which must end after a signal.
    """
    caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for each in caught:
            signal.signal(each, signal.SIG_IGN)  # a second one must not interrupt the cleanup
        raise Ended(number)

    hears, tells = os.pipe()
    os.set_blocking(tells, False)
    before = {number: signal.signal(number, end) for number in caught}
    other = signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    guard = None
    ended = False
    try:
        guard = _guard(hears, parent)
        yield
    except Ended:
        ended = True
        raise
    finally:
        os.close(hears)  # only now: a signal handler must not write into a pipe without a reader
        for number, handler in before.items():
            signal.signal(number, handler)
        # after a signal the guard runs until the process ends, which may wait for threads of a library
        if not ended:
            signal.set_wakeup_fd(other)
            os.close(tells)
            if guard is not None:
                guard.kill()
                guard.wait()


def _guard(hears: int, parent: int | None) -> subprocess.Popen[bytes] | None:
    """Start the guard. It inherits only stderr and the end of a pipe from this process."""
    program = Path(__file__).with_name("guard.py")
    arguments = [os.getpid(), hears, GRACE_SECONDS, parent or 0, *map(int, SIGNALS)]
    # signals blocked here are also blocked in the guard from its start, so that they do not end it
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return subprocess.Popen(
            # -P: do not search the program's folder for modules
            [sys.executable, "-P", str(program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[hears],
            start_new_session=True,  # Ctrl-C does not reach it
        )
    except OSError:  # no process can be started: this one then has no guard
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def output_of(
    command: Sequence[str], what: str, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed; `what` describes the step in progress lines.

    If this process is ended, the program gets SIGTERM and `CHILD_SECONDS`: `subprocess.run` would kill it at once,
    and Snakemake would not remove its lock. options: those of `subprocess.Popen`. Raises
    `subprocess.TimeoutExpired` if it takes more than `timeout` seconds.
    """
    with (
        Progress(what),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as program,
    ):
        try:
            out, err = program.communicate(timeout=timeout)
        except BaseException:
            program.terminate()
            try:
                program.communicate(timeout=CHILD_SECONDS)
            except subprocess.TimeoutExpired:
                program.kill()
            raise
    return subprocess.CompletedProcess(command, program.returncode, out, err)
