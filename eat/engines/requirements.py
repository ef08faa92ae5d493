"""The devices and precisions that a study needs, tried on this machine before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from eat.engines.devices import resolve_device
from eat.engines.registry import engine_of
from eat.engines.setting import Setting, fallback
from eat.errors import EatError
from eat.study.study import Study


def require_machine(study: Study) -> list[str]:
    """Try every device and precision of a study here.

    Returns a line for each deviation from the study: training in float32, and stock models that are not timed. Raises
    `EatError`, one line each, for devices that are not available and systems whose precision this machine refuses.
    """
    training = resolve_device(study.training.device, "training.device")
    timing = resolve_device(study.timing.device, "timing.device")
    trace = resolve_device(study.trace_device, "trace.device")
    refused = list(_refused(study, training, trace, timing))
    if trace != timing:
        refused.append(
            f"trace.device is {trace.type} here and timing.device {timing.type}; timed answers are compared with those "
            "of the trace: set both to one device"
        )
    if refused:
        raise EatError("\n".join(refused))
    notes = [f"{name} is not timed: {reason}" for name, reason in left_out_stock(study, timing).items()]
    asked, taken = study.training.precision, Setting.of(study.training).precision
    return notes if asked == taken else [fallback(asked, training.type), *notes]


def _refused(study: Study, training: torch.device, trace: torch.device, timing: torch.device) -> Iterator[str]:
    """A line for each system that cannot be traced and timed."""
    teachers = {stage.teacher for system in study.systems.values() for stage in system.recipe}
    for name, system in study.systems.items():
        engine = engine_of(system.engine)
        reasons = [engine.refusal(system.precision, device) for device in (trace, timing)]
        if name in teachers:  # also traced on the training device, for its students
            reasons.append(engine.refusal(system.precision, training))
        if name == study.reference:
            reasons.append(engine_of("stock").refusal(system.precision, timing))
        reason = next(filter(None, reasons), None)
        if reason is not None:
            yield f"systems.{name}: {reason}"


def left_out_stock(study: Study, device: torch.device) -> dict[str, str]:
    """The stock rows of `timing.stock` that are not timed on a device: name -> why."""
    stock = engine_of("stock")
    rivals = [rival for rival in study.timing.stock if rival.engine == "stock"]
    reasons = {rival.name: stock.refusal(rival.precision, device) for rival in rivals}
    return {name: reason for name, reason in reasons.items() if reason is not None}
