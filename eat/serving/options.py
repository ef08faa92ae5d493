"""The options of `eat serve`, and the profiles that set their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from eat.errors import EatError, listed
from eat.monitor.comparison import LEVEL, SMALLEST_WINDOW

PROFILES: Mapping[str, Mapping[str, Any]] = {
    "gateway": {"batch": 1, "queue": 32, "max_texts": 16, "max_tokens": 4096, "timeout": 2.0},
    "triage": {"batch": 16, "queue": 4096, "max_texts": 1024, "max_tokens": 262144, "timeout": 30.0},
}
"""`gateway`: one text at a time, a short queue and a short timeout. `triage`: batches, a long queue, large requests."""

FALLBACKS = ("full-depth",)


@dataclass(frozen=True)
class ServeOptions:
    """How a folder is served.

    threads: texts that one process answers at the same time, each on one core. batch: the most texts that a thread
    takes at once. queue: the texts that are accepted and not answered yet.
    max_texts, max_tokens: of a request. max_body: bytes of a request. timeout: seconds from the request to its answer.
    drain: seconds in which a server that was asked to end still answers `not ready`. monitor: texts of the rolling
    window; 0: no monitor. level: its rate of false alarms per comparison. fallback: `full-depth`, or none.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int = 1
    profile: str = "gateway"
    batch: int = 1
    queue: int = 32
    max_texts: int = 16
    max_tokens: int = 4096
    max_body: int = 2**20
    timeout: float = 2.0
    drain: float = 0.5
    monitor: int = 0
    level: float = LEVEL
    fallback: str | None = None
    log_texts: bool = False

    @property
    def ends_within(self) -> float:
        """The seconds from a request to end until the processes have ended."""
        return self.drain + self.timeout + 3.0


def serve_options(given: Mapping[str, Any]) -> ServeOptions:
    """The options from those that are given; the others are the profile's.

    Raises `EatError` if a value is not allowed, or two do not fit together.
    """
    profile = given.get("profile") or "gateway"
    if profile not in PROFILES:
        raise EatError(f"--profile: found {profile!r}; give one of {listed(PROFILES)}")
    names = {field.name for field in fields(ServeOptions)}
    stated = {name: value for name, value in given.items() if name in names and value is not None}
    options = replace(ServeOptions(**{**PROFILES[profile], **stated}), profile=profile)
    _require(options)
    return options


def _require(options: ServeOptions) -> None:
    for name in ("workers", "threads", "batch", "queue", "max_texts", "max_tokens", "max_body"):
        value = getattr(options, name)
        if value < 1:
            raise EatError(f"--{name.replace('_', '-')}: found {value}; give a whole number from 1 on")
    for name, least in (("timeout", 0.01), ("drain", 0.0)):
        value = getattr(options, name)
        if not least <= value <= 3600:
            raise EatError(f"--{name.replace('_', '-')}: found {value:g}; give a number from {least:g} to 3600")
    if not 0 <= options.port <= 65535:
        raise EatError(f"--port: found {options.port}; give a number from 0 (any free port) to 65535")
    if options.max_texts > options.queue:
        raise EatError(
            f"--max-texts: found {options.max_texts}, but the queue holds {options.queue} texts, so such a request "
            "would never be accepted; lower it or raise --queue"
        )
    if options.monitor != 0 and options.monitor < SMALLEST_WINDOW:
        raise EatError(f"--monitor: found {options.monitor} texts; give at least {SMALLEST_WINDOW}")
    if not 0.0 < options.level < 0.5:
        raise EatError(f"--level: found {options.level:g}; give a rate above 0 and below 0.5, such as 0.01")
    if options.fallback is not None and options.fallback not in FALLBACKS:
        raise EatError(f"--fallback: found {options.fallback!r}; give {listed(FALLBACKS)}")
    if options.fallback is not None and not options.monitor:
        raise EatError("--fallback: needs a monitor that raises the alarm; give --monitor N, such as --monitor 500")
