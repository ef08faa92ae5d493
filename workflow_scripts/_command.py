"""What every command shares: an error meant for a person is one line on stderr and exit status 1."""

from __future__ import annotations

import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`; print the line of an `EatError` and exit with 1, let any other exception show itself."""
    from eat.errors import EatError

    try:
        main()
    except EatError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
