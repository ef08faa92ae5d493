"""What every command shares: one line on stderr for an error meant for a person, and a prompt end when it is ended.

SIGTERM (of `kill`, `scancel`, a shutdown) and Ctrl-C end a command as an error does, so that temporary files are
removed on the way. A rule's command also ends when the Snakemake that started it has died: left alone it would go on
writing for hours while the same run, or one of another configuration, works in the same folder.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

WORKFLOW = "EAT_WORKFLOW_PROCESS"
"""The variable in which `rules/common.smk` tells a command the process of its Snakemake."""

LOOK_SECONDS = 1.0


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`; print the line of an `EatError` and exit with 1, let any other exception show itself.

    Ended by SIGTERM it exits with 143, by Ctrl-C with 130, as a shell would say it.
    """
    from eat.errors import EatError

    before = signal.signal(signal.SIGTERM, _end)
    _end_with_workflow()
    try:
        main()
    except EatError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("error: interrupted; run the same command again", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the cleaning short
    # not print: the signal may have come in the middle of one
    os.write(sys.stderr.fileno(), b"error: ended by SIGTERM; run the same command again\n")
    sys.exit(128 + signum)


def _end_with_workflow() -> None:
    """Send this process SIGTERM once the process that `WORKFLOW` names is gone; nothing where it names none."""
    number = os.environ.get(WORKFLOW, "")
    if not number.isdecimal() or int(number) <= 1:  # in a container of its own a parent may be 0 or 1
        return
    import psutil

    try:
        workflow = psutil.Process(int(number))
    except psutil.NoSuchProcess:
        os.kill(os.getpid(), signal.SIGTERM)
        return

    def watch() -> None:
        while True:
            try:
                # is_running also tells a later process of the same number from the one we knew
                alive = workflow.is_running() and workflow.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                alive = False
            if not alive:
                break
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
