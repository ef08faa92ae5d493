"""The end of a command by SIGTERM, Ctrl-C or a closed terminal: within ten seconds, whatever it is doing.

The first signal becomes the exception `Ended`, so that temporary files are removed on the way out; later ones are
ignored. Python raises an exception only between two of its own instructions: in a long call of a library nothing would
happen. So a second process, the guard (`eat/guard.py`), hears of the signal from the C part of Python's handler, which
needs no turn of the interpreter, and kills a command that is still there after `GRACE_SECONDS`.
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
"""What a command has for its own end; then it is killed, with the processes it started."""

CHILD_SECONDS = 4.0
"""What a program that a command started has for its end, when the command ends."""


class Ended(KeyboardInterrupt):
    """A signal ended this process. number: which one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ended_by_signals(parent: int | None = None) -> Iterator[None]:
    """Raise `Ended` in the block at the first of `SIGNALS`, and have the process killed if that does not end it.

    parent: a process without which this one shall not go on; when it has died, SIGTERM is sent to this one. A signal
    that is ignored, as by `nohup`, stays ignored. For the main thread of a command, which must end after a signal.
    """
    caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for each in caught:
            signal.signal(each, signal.SIG_IGN)  # a second one must not cut the cleaning short
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
        os.close(hears)  # not before: a signal's handler shall not write into a pipe that nobody reads
        for number, handler in before.items():
            signal.signal(number, handler)
        # after a signal the guard stays to the end of the process, which may wait for threads of a library
        if not ended:
            signal.set_wakeup_fd(other)
            os.close(tells)
            if guard is not None:
                guard.kill()
                guard.wait()


def _guard(hears: int, parent: int | None) -> subprocess.Popen[bytes] | None:
    """Start the guard. It holds nothing of this process but stderr and the end of a pipe."""
    program = Path(__file__).with_name("guard.py")
    arguments = [os.getpid(), hears, GRACE_SECONDS, parent or 0, *map(int, SIGNALS)]
    # what is blocked here is blocked there from its first instruction: the guard outlives the signals it is there for
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return subprocess.Popen(
            # -P: the folder of the program must not be searched for modules
            [sys.executable, "-P", str(program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[hears],
            start_new_session=True,  # out of the reach of Ctrl-C
        )
    except OSError:  # no process is to be had: then this one ends by itself or not at all
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def output_of(
    command: Sequence[str], what: str, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed; `what` describes the step in progress lines.

    When this process is ended, the program gets SIGTERM and `CHILD_SECONDS`: `subprocess.run` would kill it at once,
    and Snakemake would leave its lock behind. options: those of `subprocess.Popen`. Raises
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
