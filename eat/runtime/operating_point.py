"""The thresholds and temperatures that replace those of an export, as inputs of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from eat.errors import EatError, listed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from eat.runtime.manifest import Manifest

Table = Sequence[Sequence[float]]
"""Thresholds by exit and by class of the answer: (exits, classes)."""


def point_feeds(
    manifest: Manifest, tau: float | None, thresholds: Table | None, temperatures: Mapping[int, float] | None
) -> dict[str, npt.NDArray[np.float32]]:
    """The inputs `thresholds` (exits, classes) and `temperatures` (exits,), each only if it is given.

    tau: one threshold for all. Raises `EatError` if a value is not allowed, or the model has no thresholds.
    """
    import numpy as np

    feeds = {}
    if tau is not None and thresholds is not None:
        raise EatError("both tau and thresholds are given; tau is one threshold for all exits and classes: give one")
    if tau is not None or thresholds is not None:
        if not manifest.has_thresholds:
            raise EatError(
                f"{manifest.folder}: this model was exported without thresholds (its exit rule: "
                f"{listed(manifest.rule)}); export it with --tau"
            )
        size = (len(manifest.exits), len(manifest.labels))
        rows = [[tau] * size[1]] * size[0] if thresholds is None else [list(row) for row in thresholds]
        if len(rows) != size[0] or any(len(row) != size[1] for row in rows):
            raise EatError(
                f"thresholds: found {len(rows)} rows of {listed(sorted({len(row) for row in rows}))}; give a row for "
                f"each exit ({listed(manifest.exits)}) and in it a threshold for each of {size[1]} classes"
            )
        name = "tau" if thresholds is None else "thresholds"
        feeds["thresholds"] = np.array([[_positive(name, value, 1.0) for value in row] for row in rows], np.float32)
    if temperatures is not None:
        unknown = [depth for depth in temperatures if depth not in manifest.exits]
        missing = [depth for depth in manifest.exits if depth not in temperatures]
        if unknown or missing:
            raise EatError(
                f"temperatures: found those of the layers {listed(temperatures)}; give one for each exit: "
                f"{listed(manifest.exits)}"
            )
        values = [_positive(f"temperatures[{depth}]", temperatures[depth], math.inf) for depth in manifest.exits]
        feeds["temperatures"] = np.array(values, np.float32)
    return feeds


def _positive(name: str, value: Any, most: float) -> float:
    """A finite number in (0, most]."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan
    if not 0.0 < number <= most or math.isinf(number):
        raise EatError(f"{name}: found {value!r}; give a number above 0{', at most 1' if most == 1.0 else ''}")
    return number
