"""Measurements on a GPU in parts, until the time is up: what `eat gpu check` and `eat gpu train` share.

Each part has its own file, which is rewritten after each of its cases, with the GPU and the package versions, so that a
stop loses only the case that was running. A summary lists the cases that are done, failed and left out.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import torch

from eat.bench.results import PACKAGES
from eat.errors import EatError, listed
from eat.files import write_json
from eat.machine import machine_facts, versions
from eat.prepare.packages import digest_of_files

Rows = list[dict[str, Any]]


@dataclass
class Part:
    """A part of a measurement. left: the remaining cases. work: yields the name and rows of each case when it ends.

    has_file: whether its rows are a file of its own, not a part of the summary.
    """

    left: list[str]
    work: Callable[[], Iterator[tuple[str, Rows]]]
    has_file: bool = True
    rows: Rows = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class TimeIsUp(BaseException):
    """Raised when the time is up. It is a `BaseException`, so that no `except Exception` catches it."""


AGAIN_SECONDS = 0.5
"""The time after which `TimeIsUp` is raised again if it did not end the measurement."""


@dataclass
class Parts:
    """The parts of a measurement, in the order of their importance.

    command: `eat gpu check`, for messages. summary: the name of the summary's file, without ending. facts: in every
    file. ends: when the time is up, by `time.monotonic`.
    """

    command: str
    summary: str
    out: Path
    facts: dict[str, Any]
    parts: dict[str, Part]
    ends: float

    def run(self) -> None:
        """Run all parts until they are done or the time is up; one that fails does not stop the others.

        Raises `EatError` at the end if a part failed.
        """
        self._write_summary()
        try:
            with alarm(self.ends):
                for name, part in self.parts.items():
                    self.report(f"{name}: {len(part.left)} cases")
                    self._run_part(name, part)
        except TimeIsUp:
            self.report("the time is up")
        self._write_summary()
        for name, part in self.parts.items():
            states = (["failed"] if part.failed else []) + ([f"left out: {listed(part.left)}"] if part.left else [])
            print(f"{name}: {', '.join(states) or 'done'}")
        print(f"Written to {self.out}.")
        failed = [f"{name}, {line.splitlines()[-1]}" for name, part in self.parts.items() for line in part.failed]
        if failed:
            raise EatError(f"{'; '.join(failed)}; see {self.out / f'{self.summary}.json'}")

    def _run_part(self, name: str, part: Part) -> None:
        """Run a part until it ends or fails, and write its rows after each case."""
        try:
            for case, rows in part.work():
                part.rows += rows
                part.left.remove(case)
                part.failed += [f"{case}: {row['fault']}" for row in rows if row.get("fault")]
                if part.has_file:
                    content = {**self.facts, "part": name, "left_out": part.left, "rows": plain(part.rows)}
                    write_json(self.out / f"{name}.json", content)
                self._write_summary()
                self.report(f"{name}, {case}: {_in_short(rows)}")
        except EatError as error:
            part.failed.append(f"{listed(part.left[:1])}: {error}")
        except Exception:  # the other parts can still be measured
            part.failed.append(f"{listed(part.left[:1])}: {traceback.format_exc().strip()}")

    def _write_summary(self) -> None:
        state = {
            name: {"left_out": part.left, "failed": part.failed} | ({} if part.has_file else {"rows": part.rows})
            for name, part in self.parts.items()
        }
        write_json(self.out / f"{self.summary}.json", {**self.facts, "parts": state})

    def report(self, text: str) -> None:
        """Print a line of progress."""
        print(f"{self.command}: {text}", file=sys.stderr, flush=True)


def plain(rows: Rows) -> Rows:
    """Rows with the same keys, and with `None` in place of NaN, as JSON needs them."""
    found: Rows = json.loads(pd.DataFrame(rows).to_json(orient="records", double_precision=15))
    return found


def _in_short(rows: Rows) -> str:
    """A summary of a case in one line."""
    faults = [row["fault"] for row in rows if row.get("fault")]
    if faults:
        return "; ".join(faults)
    for key, shown in (
        ("ms_p50", lambda row: f"{row['system']} {row['ms_p50']:.3g} ms"),
        ("difference", lambda row: f"{row['difference']:.1e}"),
        ("package", lambda row: f"{row['package']} {row['version']}"),
        ("accuracy", lambda row: f"{row['system']} {row['accuracy']:.3f}"),
    ):
        if rows and key in rows[0]:
            return ", ".join(map(shown, rows))
    return "done"


def facts_of(device: torch.device, threads: int, seconds: float) -> dict[str, Any]:
    """The facts in every file: date, machine and code of the measurement."""
    root = Path(__file__).parent.parent
    code = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.py")}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device.type,
        "machine": machine_facts(device),
        "versions": versions((*PACKAGES, "pydantic")),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "threads": threads,
        "code_sha256": digest_of_files(code),
        "seconds": seconds,
    }


def begin(out: Path, patterns: tuple[str, ...]) -> None:
    """Make the folder, and remove the files of an earlier run of the same measurement."""
    out.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for earlier in out.glob(pattern):
            earlier.unlink()


@contextmanager
def alarm(ends: float) -> Iterator[None]:
    """Raise `TimeIsUp` in the block at a given time of `time.monotonic`."""

    def stop(*_: object) -> NoReturn:
        # Python discards an exception that is raised in a callback of the garbage collector or a finalizer: try again
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(ends - time.monotonic(), 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
