"""What every command shares: progress lines, one line on stderr for an error meant for a person, and a prompt end.

SIGTERM (of `kill`, `scancel`, a shutdown), Ctrl-C and a closed terminal end a command as an error does, so that
temporary files are removed on the way. A rule's command also ends when the Snakemake that started it has died: left
alone it would go on writing for hours while the same run, or one of another configuration, works in the same folder.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

WORKFLOW = "EAT_WORKFLOW_PROCESS"
"""The variable in which `rules/common.smk` tells a command the process of its Snakemake."""


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`; print the line of an `EatError` and exit with 1, let any other exception show itself.

    Ended by a signal it exits with 128 and the signal's number, as a shell would say it.
    """
    from eat.errors import EatError
    from eat.interrupts import Ended, ended_by_signals
    from eat.progress import reporting

    try:
        with ended_by_signals(_workflow()), reporting(Path(sys.argv[0]).stem):
            main()
    except EatError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
    except Ended as end:
        what = "interrupted" if end.number == signal.SIGINT else f"ended by {signal.Signals(end.number).name}"
        with suppress(OSError):  # the terminal, or `tee`, may be gone by the same signal
            print(f"error: {what}; run the same command again", file=sys.stderr)
        sys.exit(128 + end.number)


def _workflow() -> int | None:
    """The process of the Snakemake that this command shall not outlive, if it was started by one."""
    number = os.environ.get(WORKFLOW, "")
    # in a container of its own a parent may be 0 or 1
    return int(number) if number.isdecimal() and int(number) > 1 else None
