"""Check that the systems of a bench give the expected answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eat.bench.inputs import Case
from eat.bench.runners import Answers
from eat.bench.systems import SAME, System
from eat.errors import EatError


def check_answers(systems: Sequence[System], answers: Mapping[str, Answers], case: Case) -> dict[str, float]:
    """The largest difference of each system's logits from those that it must equal or approximate; the reference first.

    Raises `EatError` if a system differs from one that it must equal by more than `SAME`, and if no or all texts
    must exit early but do not.
    """
    found = {}
    for system in systems:
        own = answers[system.name]
        if system.exits != "none" and (own.depth < system.layers) != (system.exits == "all exit early"):
            raise EatError(
                f"{system.name}: found a mean depth of {own.depth:g}, expected: {system.exits}; nothing was written"
            )
        other = system.equals or _approximated(system, systems[0])
        if other is None or other not in answers or other == system.name:
            continue
        difference = float(np.abs(own.logits - answers[other].logits).max())
        if system.equals is not None and not difference <= SAME:
            raise EatError(
                f"{system.name} has different logits from {other} on {case.name} x {case.batch_size}: they differ by "
                f"{difference:.1e}, and {SAME:.0e} is allowed; nothing was written"
            )
        found[system.name] = difference
    return found


def _approximated(system: System, reference: System) -> str | None:
    """The float32 system that computes the same function except for its precision."""
    plain = system.folder is None and not system.pruned and system.precision != "float32"
    return reference.name if plain and system.layers == reference.layers else None
