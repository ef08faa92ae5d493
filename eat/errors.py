"""The one kind of error that is meant for a person.

Everything a user can get wrong (a key of the configuration, a column, a damaged file, a checkpoint of another
architecture) is raised as `EatError` with a message of one line: what was found, what is allowed, what to do.
The commands print that line and end with status 1; every other exception is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class EatError(Exception):
    """A mistake in the input, told in one line: what was found, what is allowed, what to do."""


class DamagedFile(EatError):
    """A file that exists but cannot be what its name says: truncated, empty, of another format, or holding NaN."""


def listed(names: Iterable[object]) -> str:
    """Names as they stand in a message: `a, b, c`, or `none` if there are none."""
    return ", ".join(str(name) for name in names) or "none"
