"""Where the answers go: to standard output, or into a file that appears under its name only when it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json, write_json

CLOSED_PIPE = 141
"""The exit status of a program whose reader has ended, as shells report it: 128 + SIGPIPE."""

STATE_FORMAT = 1
"""Of the record beside a partial output; it rises when an older one must not be continued."""


@dataclass
class Tally:
    """What was done: rows, those without a text, those too long, and of the others the layers and the early exits."""

    rows: int = 0
    empty: int = 0
    too_long: int = 0
    layers: int = 0
    early: int = 0

    @property
    def answered(self) -> int:
        """The rows with an answer."""
        return self.rows - self.empty - self.too_long


class Output(ABC):
    """Takes the bytes of each chunk."""

    @abstractmethod
    def add(self, content: bytes, tally: Tally) -> None:
        """Write the next bytes; tally: of everything up to and with them. Raises `EatError` if it cannot be written."""


class Printed(Output):
    """Standard output. If its reader has ended, the process ends with `CLOSED_PIPE`."""

    def add(self, content: bytes, tally: Tally) -> None:
        """As `Output`."""
        sys.stdout.flush()
        try:
            _write(1, content)
        except BrokenPipeError:
            sys.exit(CLOSED_PIPE)
        except OSError as error:
            raise EatError(f"standard output: {error.strerror}; {tally.rows} rows were read") from None


class PartialFile(Output):
    """`FILE.partial` and, if the run can go on after an interrupt, its record `FILE.partial.json`.

    run: what determines the output, by names for messages; `None` if the run cannot go on. resume: go on with what is
    there. `tally` is of the rows that are there.
    """

    def __init__(self, to: Path, run: Mapping[str, Any] | None, resume: bool, overwrite: bool) -> None:
        self.path = to.with_name(f"{to.name}.partial")
        self.tally = Tally()
        self._record = to.with_name(f"{to.name}.partial.json")
        self._run = run
        self._bytes = 0
        self._sum = hashlib.sha256()
        to.parent.mkdir(parents=True, exist_ok=True)
        is_there = self.path.exists()
        if is_there and not (resume or overwrite):
            raise EatError(
                f"{self.path}: of a run that did not end; go on with --resume, or begin again with --overwrite"
            )
        self._file = self._opened()
        try:
            if resume and is_there and self._record.exists():
                self._go_on()
            else:
                self._record.unlink(missing_ok=True)
            self._file.truncate(self._bytes)
            self._file.seek(self._bytes)
        except BaseException:
            self._file.close()
            raise

    def add(self, content: bytes, tally: Tally) -> None:
        """As `Output`; with a record, the bytes are on the disk when this returns."""
        try:
            _write(self._file.fileno(), content)
            self._bytes += len(content)
            self._sum.update(content)
            if self._run is not None:
                os.fsync(self._file.fileno())
                write_json(
                    self._record,
                    {
                        "format": STATE_FORMAT,
                        "run": self._run,
                        "bytes": self._bytes,
                        "sha256": self._sum.hexdigest(),
                        "tally": asdict(tally),
                    },
                )
        except OSError as error:
            goes_on = "; free some space and repeat the command with --resume" if self._record.exists() else ""
            raise EatError(f"{self.path}: {error.strerror}{goes_on}") from None
        self.tally = tally

    def interrupted(self) -> str:
        """What an interrupt leaves, for a message."""
        if not self._record.exists():
            return "nothing was written"
        # not `self.tally`: the interrupt may have come after the record was written and before `add` returned
        rows = read_json(self._record)["tally"]["rows"]
        return f"{self.path} holds {rows} rows; the same command with --resume goes on"

    def close(self, is_whole: bool) -> None:
        """Let go of the file; remove what no run can go on with."""
        if is_whole or not self._record.exists():
            self._record.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _opened(self) -> io.FileIO:
        """The file, locked against another run; the lock ends with the process."""
        try:
            file = io.FileIO(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        except OSError as error:
            raise EatError(f"{self.path}: {error.strerror}; give another file with --to") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise EatError(f"{self.path}: another run is writing it; wait for it, or give another --to") from None
        except OSError:  # a file system without locks
            pass
        return file

    def _go_on(self) -> None:
        """Take over what an interrupted run has written. Raises `EatError` if it was another run."""
        again = "repeat its command with --resume, or begin again with --overwrite"
        state = read_json(self._record)
        if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
            raise DamagedFile(f"{self._record}: not the record of an interrupted run; begin again with --overwrite")
        before, now = state["run"], self._run or {}
        if changed := [name for name in now if before.get(name) != now[name]]:
            raise EatError(f"{self.path}: was written with another {listed(changed)}; {again}")
        left = state["bytes"]
        while left and (block := self._file.read(min(left, 2**20))):
            self._sum.update(block)
            left -= len(block)
        if left or self._sum.hexdigest() != state["sha256"]:
            raise DamagedFile(f"{self.path}: is not as it was written; begin again with --overwrite")
        self._bytes = state["bytes"]
        self.tally = Tally(**state["tally"])


def _write(descriptor: int, content: bytes) -> None:
    """Write all bytes, without a buffer: it would be written again, and fail again, when the file is closed."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
