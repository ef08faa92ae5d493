"""The error type for mistakes of the user.

Mistakes of the user (a key of the configuration, a column, a damaged file, a checkpoint of another architecture) raise
`EatError` with a message of one line: what was found, what is allowed, what to do. The commands print that line and
exit with status 1. Every other exception is a bug of this project and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class EatError(Exception):
    """A mistake in the input. The message is one line: what was found, what is allowed, what to do."""


class DamagedFile(EatError):
    """A file with the wrong content: truncated, empty, of another format, or containing NaN."""


def listed(names: Iterable[object]) -> str:
    """Join names for a message: `a, b, c`, or `none` if there are none."""
    return ", ".join(str(name) for name in names) or "none"
