"""Devices, by the names that a configuration or an option uses."""

from __future__ import annotations

import torch

from eat.errors import EatError, listed

NAMES = {"cuda": "GPU", "mps": "Apple GPU", "cpu": "processor"}
"""The kind of each device; `auto` is the first one that is available."""


def resolve_device(name: str, key: str = "device") -> torch.device:
    """The device of a name: `cuda`, `mps`, `cpu`, or `auto` for the first of these that torch finds.

    key: the name of the setting in messages. Raises `EatError` if the name is unknown or torch does not find the
    device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in NAMES if there[kind]))
    if name not in NAMES:
        raise EatError(f"{key}: {name!r} is not a device; known: {listed(['auto', *NAMES])}")
    if not there[name]:
        raise EatError(f"{key} is {name}, but torch finds no {NAMES[name]} here; set it to cpu or auto")
    return torch.device(name)
