"""The names of processors. Models record their processor, so this module is a source of every model: keep it small."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def processor_name(device: torch.device | str = "cpu") -> str:
    """The name of a device's processor."""
    if not str(device).startswith("cuda"):
        return cpu_name()
    import torch

    return torch.cuda.get_device_name(device)


def cpu_name() -> str:
    """The processor's model name, or `unknown`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
