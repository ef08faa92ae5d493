"""Turns and rounds, and the statistics that follow from them.

In a *round* everything runs in turn, in a new random order, on the same input. A *turn* is one untimed pass, which
loads the weights into the caches, and then as many timed passes as fit into about 30 ms, at least one. A speed-up is
the median over rounds of the ratio of two turns' medians; its interval resamples rounds.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.errors import EatError
from eat.progress import Progress, counted
from eat.statistics import Estimate, median_ratio, nonnegative_fit, percentile_interval

Floats = npt.NDArray[np.float64]

TURN_MS, TURN_PASSES = 30.0, 200
"""The approximate duration of the timed passes of a turn, and their largest number."""

LONG_MS = 250.0
"""A longer pass needs no untimed pass before it, since loading the weights is negligible."""

WARM_MS, WARM_PASSES = 100.0, 20
"""The warm-up before the first round: this long, or so many passes, and at least two; one, if it takes seconds."""

DRAWS = 500
"""Bootstrap samples for statistics that are refitted in each."""


@dataclass(frozen=True)
class Turn:
    """Something to time. time: maps (passes, warm) to the milliseconds of each timed pass."""

    name: str
    time: Callable[[int, bool], list[float]]


def run_rounds(
    turns: Sequence[Turn], rounds: int, seconds: float, at_least: int = 5, label: str = "", seed: int = 0
) -> pd.DataFrame:
    """Warm up, then run rounds; columns name, round, call, ms.

    After `seconds` no further round starts, but `at_least` rounds (or `rounds`, if fewer) are always run. Names must
    differ; two names may stand for the same thing timed twice.
    """
    passes = {turn.name: _warm_up(turn) for turn in counted(f"{label}: warmed up", turns, "turns")}
    draw = random.Random(seed)
    found: list[tuple[str, int, int, float]] = []
    ends = time.monotonic() + seconds
    with Progress(f"{label}: timed", rounds * len(turns), "turns at most") as progress:
        for number in range(rounds):
            if number >= min(at_least, rounds) and time.monotonic() > ends:
                break
            order = list(turns)
            draw.shuffle(order)
            for turn in order:
                calls, warm = passes[turn.name]
                found += [(turn.name, number, call, ms) for call, ms in enumerate(turn.time(calls, warm))]
                progress.advance()
    return pd.DataFrame(found, columns=["name", "round", "call", "ms"])


def _warm_up(turn: Turn) -> tuple[int, bool]:
    """Run a turn untimed; returns how many timed passes its turns have, and whether an untimed one precedes them."""
    spent, last, passes = 0.0, 0.0, 0
    while passes == 0 or (passes < 2 and spent < 1e3) or (spent < WARM_MS and passes < WARM_PASSES):
        (last,) = turn.time(1, False)
        spent, passes = spent + last, passes + 1
    return min(max(1, int(TURN_MS / max(last, 1e-3))), TURN_PASSES), last < LONG_MS


# --- results -----------------------------------------------------------------------------------------------------


def round_medians(raw: pd.DataFrame) -> pd.DataFrame:
    """The median milliseconds of each turn: one row per round, one column per name."""
    return raw.groupby(["round", "name"])["ms"].median().unstack("name")


def percentiles(raw: pd.DataFrame, name: str) -> dict[str, float]:
    """p50, p90, p99 and mean of all timed passes, in milliseconds."""
    ms = raw.loc[raw["name"] == name, "ms"].to_numpy(np.float64)
    p50, p90, p99 = np.percentile(ms, [50, 90, 99])
    return {"ms_p50": float(p50), "ms_p90": float(p90), "ms_p99": float(p99), "ms_mean": float(ms.mean())}


def speedup(medians: pd.DataFrame, base: str, name: str) -> Estimate:
    """The speed-up over `base`: the median of paired ratios, with its interval; 1 against itself."""
    return median_ratio(medians[base].to_numpy(np.float64), medians[name].to_numpy(np.float64))


# --- growth -------------------------------------------------------------------------------------------------------


def exponent(sizes: Floats, values: Floats, seed: int = 0) -> Estimate:
    """The exponent c of values = b sizes^c, by least squares of logarithms.

    sizes: (S,). values: (R, S), each row one round. The fit is to the medians over rounds; the interval resamples
    rounds. Raises `EatError` for fewer than two sizes.
    """
    if len(sizes) < 2:
        raise EatError("an exponent needs at least two sizes; give more")
    return _estimate(values, lambda medians: _slope(sizes, medians), seed)


def _slope(sizes: Floats, medians: Floats) -> float:
    return float(np.polyfit(np.log(sizes), np.log(medians), 1)[0])


@dataclass(frozen=True)
class PowerLaw:
    """values = a + b sizes^c, with a >= 0: the constant cost of a call, and the growth of the rest."""

    a: float
    b: float
    c: Estimate


def power_law(sizes: Floats, values: Floats, seed: int = 0) -> PowerLaw:
    """Fit the law to the medians over rounds by relative error, with an interval for c; see `exponent`.

    Raises `EatError` for fewer than three sizes.
    """
    if len(sizes) < 3:
        raise EatError("a + b T^c needs at least three sizes; give more")
    c = _estimate(values, lambda medians: _best_power(sizes, medians), seed)
    a, b = nonnegative_fit(np.stack([np.ones_like(sizes), sizes**c.value], axis=1), np.median(values, axis=0))
    return PowerLaw(float(a), float(b), c)


def _best_power(sizes: Floats, medians: Floats) -> float:
    """The c with the smallest squared relative error at its best a and b: on a grid, then refined."""
    low, high = 0.0, 3.0
    for _ in range(3):
        grid = np.linspace(low, high, 25)
        errors = [_relative_error(np.stack([np.ones_like(sizes), sizes**c], axis=1), medians) for c in grid]
        best, step = float(grid[int(np.argmin(errors))]), float(grid[1] - grid[0])
        low, high = best - step, best + step
    return best


def _relative_error(terms: Floats, values: Floats) -> float:
    return float(np.sum((terms @ nonnegative_fit(terms, values) / values - 1.0) ** 2))


def crossing(sizes: Floats, first: Floats, second: Floats, seed: int = 0) -> Estimate | None:
    """The size beyond which `second` is faster, with its interval: 0 if it always is, `None` if it never is.

    sizes: (S,) ascending. first, second: times (R, S) of the same rounds. Between two sizes the logarithm of the ratio
    is interpolated linearly over the logarithm of the size. An end of the interval is infinite or 0 if the
    rounds drawn for it have no crossing. Both ends are NaN if there is one round.
    """
    ratios = np.log(first / second)  # above 0: the second is faster
    value = _last_sign_change(sizes, np.median(ratios, axis=0))
    if not np.isfinite(value):
        return None
    if len(ratios) < 2:
        return Estimate(value, math.nan, math.nan)
    draws = np.array([_last_sign_change(sizes, drawn) for drawn in _drawn_medians(ratios, seed)])
    low, high = np.sort(draws)[[int(0.025 * (DRAWS - 1)), int(np.ceil(0.975 * (DRAWS - 1)))]]
    return Estimate(value, float(low), float(high))


def _last_sign_change(sizes: Floats, ratios: Floats) -> float:
    """Where the ratio becomes positive and stays so: 0 if it always is, infinity if it is not at the largest size."""
    behind = np.flatnonzero(ratios <= 0.0)
    if len(behind) == 0:
        return 0.0
    last = int(behind[-1])
    if last == len(sizes) - 1:
        return float("inf")
    part = -ratios[last] / (ratios[last + 1] - ratios[last])
    return float(np.exp(np.log(sizes[last]) + part * (np.log(sizes[last + 1]) - np.log(sizes[last]))))


def _estimate(values: Floats, fit: Callable[[Floats], float], seed: int) -> Estimate:
    """A fit to the medians over rounds, and the interval of fits to resampled rounds; NaN if there is one round."""
    value = fit(np.median(values, axis=0))
    if len(values) < 2:
        return Estimate(value, math.nan, math.nan)
    low, high = percentile_interval(np.array([fit(drawn) for drawn in _drawn_medians(values, seed)]))
    return Estimate(value, float(low), float(high))


def _drawn_medians(values: Floats, seed: int) -> Floats:
    """Medians over resampled whole rounds; (R, S) to (DRAWS, S)."""
    picked = np.random.default_rng(seed).integers(len(values), size=(DRAWS, len(values)))
    medians: Floats = np.median(values[picked], axis=1)
    return medians


def matrix(medians: pd.DataFrame, names: Mapping[int, str]) -> tuple[Floats, Floats]:
    """Sizes (S,) ascending, and the medians (R, S) of the turns of these sizes."""
    sizes = sorted(names)
    return np.array(sizes, np.float64), medians[[names[size] for size in sizes]].to_numpy(np.float64)
