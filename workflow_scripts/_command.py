"""Shared by all commands: progress lines, one line on stderr for an `EatError`, and a prompt end on signals.

SIGTERM (of `kill`, `scancel`, a shutdown), Ctrl-C and a closed terminal end a command like an error, so that temporary
files are removed. A rule's command also ends if the Snakemake that started it has died. Otherwise it could write for
hours while the same run, or one of another configuration, uses the same folder.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

WORKFLOW = "EAT_WORKFLOW_PROCESS"
"""The variable with the process of Snakemake, which `rules/common.smk` sets."""


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`; print the line of an `EatError` and exit with 1. Other exceptions are raised.

    After a signal it exits with 128 plus the signal's number, as in a shell.
    """
    from eat.errors import EatError
    from eat.interrupts import Ended, ended_by_signals
    from eat.progress import print_line, reporting

    try:
        with ended_by_signals(_workflow()), reporting(Path(sys.argv[0]).stem):
            main()
    except EatError as error:
        for line in str(error).splitlines():
            print_line(f"error: {line}")
        sys.exit(1)
    except Ended as end:
        what = "interrupted" if end.number == signal.SIGINT else f"ended by {signal.Signals(end.number).name}"
        # the terminal, or `tee`, may be gone by the same signal
        print_line(f"error: {what}; run the same command again")
        sys.exit(128 + end.number)


def _workflow() -> int | None:
    """The process of the Snakemake that started this command, if any."""
    number = os.environ.get(WORKFLOW, "")
    # in a container the parent may be 0 or 1
    return int(number) if number.isdecimal() and int(number) > 1 else None
