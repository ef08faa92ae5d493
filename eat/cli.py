"""The command `eat`. A mistake in the input is one line on stderr and exit status 1; an interrupt is one line too.

Each module of `eat.commands` that is named here is a command: its HELP and DESCRIPTION, `add` for its arguments, and
`run`, which imports what it needs. INTERRUPTED says what an interrupt leaves, if that is not nothing. EXTRA is the
extra that it needs, if that is not `study`. OWN_SIGNALS: it is a server, which ends on signals by itself.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from eat.commands import (
    adapt,
    bench,
    diff,
    evade,
    export,
    gpu,
    init,
    monitor,
    negation,
    predict,
    serve,
    shift,
    train,
    tune,
)
from eat.commands.arguments import Parser
from eat.errors import EatError
from eat.interrupts import ended_by_signals
from eat.progress import print_line, reporting

# in the order of `eat --help`: from a file to a service, then what measures
COMMANDS = {
    "init": init,
    "train": train,
    "tune": tune,
    "adapt": adapt,
    "export": export,
    "predict": predict,
    "serve": serve,
    "monitor": monitor,
    "evade": evade,
    "negation": negation,
    "shift": shift,
    "diff": diff,
    "bench": bench,
    "gpu": gpu,
}

INTERRUPTED = 130
"""The exit status after an interrupt."""

CLOSED_PIPE = 141
"""The exit status if the reader of standard output ends first: that of a program which SIGPIPE ends."""

_SPACE, _PLACE = "free some space and give the command again", "change its permissions, or give another place"
REFUSALS = {
    errno.ENOSPC: _SPACE, errno.EDQUOT: _SPACE, errno.EFBIG: _SPACE,
    errno.EACCES: _PLACE, errno.EPERM: _PLACE, errno.EROFS: _PLACE,
}  # fmt: skip
"""Why the system refuses to write, and what to do."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments; `None`: those of the shell."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    began = time.monotonic()
    try:
        options = _parser().parse_args(given)
        options.given, options.began = given, began
        # of `eat bench`, also what it measures
        name = " ".join(given[:2] if options.command in ("bench", "gpu") else given[:1])
        command = COMMANDS[options.command]
        if getattr(command, "OWN_SIGNALS", False):
            command.run(options)
        else:
            with ended_by_signals(), reporting(f"eat {name}"):
                command.run(options)
        sys.stdout.flush()  # a full disk or a closed pipe shows only now
    except ModuleNotFoundError as error:
        if (error.name or "eat").split(".")[0] == "eat":
            raise
        extra = getattr(COMMANDS[given[0]], "EXTRA", "study")
        print_line(f'error: eat {given[0]} needs the extra {extra}: pip install "eat-study[{extra}]"')
        sys.exit(1)
    except EatError as error:
        print_line(f"error: {' '.join(str(error).split())}")
        sys.exit(1)
    except OSError as error:
        _end_after(error)
    except KeyboardInterrupt as ended:  # `Ended`, or Ctrl-C while a server starts
        kept = getattr(COMMANDS.get(given[0] if given else ""), "INTERRUPTED", "nothing was written")
        # what is known only while the command runs, such as how much is kept, is a note of the exception
        kept = "; ".join(getattr(ended, "__notes__", [])) or kept
        print_line(f"interrupted; {kept}")
        sys.exit(INTERRUPTED)


def _end_after(error: OSError) -> NoReturn:
    """End after the system refused to write. Raises the error again if it is no such refusal: then it is a bug."""
    if error.errno == errno.EPIPE:  # the reader of standard output has ended
        # what is still buffered would raise again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE)
    if error.errno not in REFUSALS:
        raise error
    where = "" if error.filename is None else f"{error.filename}: "
    print_line(f"error: {where}{error.strerror}; {REFUSALS[error.errno]}")
    sys.exit(1)


def _parser() -> Parser:
    parser = Parser(prog="eat", description="Adaptive Transformer classifiers, measured by the clock.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add(commands.add_parser(name, help=command.HELP, description=command.DESCRIPTION))
    return parser


if __name__ == "__main__":
    main()
