"""The predicted time of a text: fitted once to timed calls, so that trials can be compared whenever they were run.

The time of a call is a sum of non-negative terms: a constant, one per executed layer, one per evaluated head, one per
token and one per pair of tokens in a layer, and one per executed removal of each kind. There is one fit for each engine
and precision. All heads count the same, since they take microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eat.errors import EatError, listed
from eat.results.trace import Trace
from eat.statistics import nonnegative_fit
from eat.tune.space import REDUCERS

Floats = npt.NDArray[np.float64]

TERMS = ("call", "layer", "head", "token", "pair", *(kind for kind in REDUCERS if kind != "none"))


@dataclass(frozen=True)
class Removal:
    """What a row removes. is_early: whether the layer itself already runs without the removed tokens."""

    kind: str = "none"
    after: tuple[int, ...] = ()
    is_early: bool = False

    @classmethod
    def of(cls, shape: Mapping[str, Any]) -> Removal:
        """From the shape of a trace or of a loaded model."""
        reducer = shape["reducer"]
        return cls(reducer["kind"], tuple(reducer.get("after", ())), shape["scoring_place"] != "layer_output")

    def executed(self, depth: int) -> int:
        """The removals of a text that exits after layer `depth`: its head is evaluated before a removal after it."""
        return sum(layer < depth or (self.is_early and layer == depth) for layer in self.after)


def terms(fed: npt.NDArray[Any], pairs: npt.NDArray[Any], depth: int, heads: int, removal: Removal) -> Floats:
    """The terms of texts that exit after layer `depth`; (N, K).

    fed: tokens that enter each layer (N, L). pairs: their pairs (N, L). heads: how many heads are evaluated.
    """
    found = np.zeros((len(fed), len(TERMS)))
    found[:, :3] = 1.0, depth, heads
    found[:, 3] = fed[:, :depth].sum(axis=1)
    found[:, 4] = pairs[:, :depth].sum(axis=1)
    if removal.kind in TERMS:
        found[:, TERMS.index(removal.kind)] = removal.executed(depth)
    return found


@dataclass(frozen=True)
class Cost:
    """The cost of a text in each variant.

    coefficients: name -> ms of each of `TERMS`. error: name -> the median error of the timed calls, relative.
    """

    coefficients: Mapping[str, Sequence[float]]
    error: Mapping[str, float]

    @classmethod
    def fitted(cls, calls: Mapping[str, tuple[Floats, Floats]]) -> Cost:
        """From timed calls: variant -> terms (S, K) and milliseconds (S,)."""
        coefficients, error = {}, {}
        for variant, (given, ms) in calls.items():
            found = nonnegative_fit(given, ms)
            coefficients[variant] = [float(value) for value in found]
            error[variant] = float(np.median(np.abs(given @ found / ms - 1.0)))
        return cls(coefficients, error)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        named = {name: dict(zip(TERMS, values, strict=True)) for name, values in self.coefficients.items()}
        return {"ms": named, "median_error": dict(self.error)}

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Cost:
        """What `plain` gave. Raises `EatError` if terms are missing."""
        for name, given in value["ms"].items():
            if set(given) != set(TERMS):
                raise EatError(f"cost of {name}: has the terms {listed(given)}, not {listed(TERMS)}; measure again")
        return cls(
            {name: [given[term] for term in TERMS] for name, given in value["ms"].items()}, value["median_error"]
        )

    def ms(self, trace: Trace, variant: str, exits: Sequence[int]) -> Floats:
        """The time of each text by the exit it takes; (N, E + 1), the last for full depth past all heads."""
        last, removal = int(trace.shape["layers"]), Removal.of(trace.shape)
        columns = [self._at(trace, variant, depth, number, removal) for number, depth in enumerate(exits, start=1)]
        return np.stack([*columns, self._at(trace, variant, last, len(exits) + 1, removal)], axis=1)

    def full_depth(self, trace: Trace, variant: str) -> Floats:
        """The time of each text at full depth, where only the last head is evaluated; (N,)."""
        return self._at(trace, variant, int(trace.shape["layers"]), 1, Removal.of(trace.shape))

    def _at(self, trace: Trace, variant: str, depth: int, heads: int, removal: Removal) -> Floats:
        found: Floats = terms(trace.fed, trace.pairs, depth, heads, removal) @ np.array(self.coefficients[variant])
        return found
