"""Facts about the machine of a measurement, and how busy it was."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import psutil

from eat.processor import cpu_name, processor_name

if TYPE_CHECKING:
    import torch

BUSY = 0.10
"""The share of all cores' time used by other processes above which a run counts as busy."""


@contextmanager
def quiet() -> Iterator[None]:
    """Disable garbage collection while time is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class ForeignLoad:
    """The share of all cores' time that other processes used during the block, not counting this one's children."""

    share = 0.0

    def __enter__(self) -> ForeignLoad:
        self._machine, self._own, self._began = _busy_seconds(), _own_seconds(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed = (time.perf_counter() - self._began) * (psutil.cpu_count() or 1)
        others = (_busy_seconds() - self._machine) - (_own_seconds() - self._own)
        self.share = max(others / elapsed, 0.0)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + getattr(times, "steal", 0.0))


def _own_seconds() -> float:
    """Processor time of this process and its running children, and of their ended children."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])  # user and system, then the same of children that have ended
        except psutil.Error:  # it has just ended
            continue
    return total


def machine_facts(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Processor, cores, memory, system and Python; of a GPU also its name, the driver's version and that of CUDA."""
    gpu = driver = cuda = None
    if str(device).startswith("cuda"):
        import torch

        gpu, driver, cuda = processor_name(device), driver_version(), torch.version.cuda
    return {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gpu": gpu,
        "driver": driver,
        "cuda": cuda,
    }


def driver_version() -> str | None:
    """The version of the NVIDIA driver; `None` if it is unknown."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n", maxsplit=1)[0].strip() or None


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """The version of each package; `None` if it is not installed."""
    return {name: _version(name) for name in packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def load_average() -> float | None:
    """The load average of the last minute; `None` if the system has none."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None
