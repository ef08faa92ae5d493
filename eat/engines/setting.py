"""The device and the precision in which a stage is trained on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from eat.engines.devices import resolve_device
from eat.engines.probe import MISSING, example, slowdown, too_slow, where
from eat.study.training import Optimization


@dataclass(frozen=True)
class Setting:
    """The device and precision of a training, as the model records them."""

    device: str
    precision: str

    @classmethod
    def of(cls, training: Optimization) -> Setting:
        """The setting on this machine: float32 if the study's precision is not useful here.

        Raises `EatError` if the study's device is not available.
        """
        device = resolve_device(training.device, "training.device")
        precision = training.precision
        return cls(device.type, "float32" if training_fault(precision, device) else precision)


def fallback(precision: str, device: str) -> str:
    """The message that models are trained in float32 on a device instead of the requested precision, and why."""
    on = torch.device(device)
    return f"training in float32, since {precision} {training_fault(precision, on)} on {where(on)}"


@cache
def training_fault(precision: str, device: torch.device) -> str | None:
    """Why models are not trained in a precision on a device, in a few words; `None` if they can be.

    A forward and a backward pass of a product in mixed precision is timed against the same in float32.
    """
    if precision == "float32":
        return None
    linear, x = example(device, texts=32)

    def step(mixed: bool) -> Tensor:
        linear.zero_grad()
        with torch.autocast(device.type, getattr(torch, precision), enabled=mixed):
            product = linear(x)
        product.float().sum().backward()
        assert linear.weight.grad is not None
        return linear.weight.grad

    try:
        with torch.inference_mode(False), torch.enable_grad():
            return too_slow(slowdown(lambda: step(True), lambda: step(False)))
    except MISSING:
        return "does not run"
