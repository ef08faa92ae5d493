"""The timed calls of operating points, paired call by call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.errors import EatError

Floats = npt.NDArray[np.float64]
Point = tuple[str, float | None]
"""An operating point of a task: the system, and its threshold or None."""


def at_point(table: pd.DataFrame, point: Point) -> pd.DataFrame:
    """The rows of a table with columns `system` and `tau` that belong to an operating point."""
    system, tau = point
    same_tau = table["tau"].isna() if tau is None else table["tau"] == tau
    return table[(table["system"] == system) & same_tau]


def points_of(table: pd.DataFrame) -> list[Point]:
    """The operating points that occur in a table, in its order."""
    pairs = table[["system", "tau"]].drop_duplicates().itertuples(index=False)
    return [(str(system), None if pd.isna(tau) else float(tau)) for system, tau in pairs]


def by_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """Times in ms: one row per block and unit, one column per repeat and seed."""
    return rows.pivot(index=["block", "unit"], columns=["repeat", "seed"], values="ms")


def paired(times: Mapping[Point, pd.DataFrame], other: Point, own: pd.DataFrame, task: str) -> tuple[Floats, Floats]:
    """Times of a system and of another on the same units, repeats and seeds, (U, S) each.

    Raises `EatError` if a unit was not timed for both, since the medians would then be over different texts.
    """
    both = own.columns.intersection(times[other].columns)
    mine, others = own[both], times[other].reindex(index=own.index, columns=both)
    if mine.empty or mine.isna().any(axis=None) or others.isna().any(axis=None):
        raise EatError(f"task {task}: not every timed text was also timed with {other[0]}; time again")
    return mine.to_numpy(dtype=np.float64), others.to_numpy(dtype=np.float64)
