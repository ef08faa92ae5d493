"""The tables of a search: every trial, and the Pareto front over the curves of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from eat.tune.curve import undominated
from eat.tune.options import Budget, Point
from eat.tune.search import Found
from eat.tune.space import VARIANTS

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("tau", "accuracy", "loss", "disagreement", "ms", "p90_ms", "depth")


def trials_table(found: Sequence[Found], budget: Budget) -> pd.DataFrame:
    """One row per trial in its order: what it is, and its best threshold under the budget."""
    import pandas as pd

    rows = [
        {
            "trial": number,
            "state": one.state,
            **_described(one),
            **asdict(one.point),
            "within_budget": budget.allows(one.point),
            "value": one.value,
            "seconds": round(one.seconds, 1),
        }
        for number, one in enumerate(found, start=1)
    ]
    return pd.DataFrame(rows, columns=["trial", "state", *_DESCRIBED, *MEASURES, "within_budget", "value", "seconds"])


def front_of(found: Sequence[Found]) -> list[tuple[Found, Point]]:
    """The points that no point of a completed trial dominates, from the fastest on."""
    owners = {id(point): one for one in found if one.state == "complete" for point in one.front}
    points = [point for one in found if one.state == "complete" for point in one.front]
    return [(owners[id(point)], point) for point in undominated(points)]


def front_table(found: Sequence[Found], budget: Budget) -> pd.DataFrame:
    """One row per point of the front."""
    import pandas as pd

    rows = [
        {**_described(one), **asdict(point), "within_budget": budget.allows(point)} for one, point in front_of(found)
    ]
    return pd.DataFrame(rows, columns=[*_DESCRIBED, *MEASURES, "within_budget"])


_DESCRIBED = ("row", "read", "head", "exits", "reducer", "after", "ratio", "engine", "precision")


def _described(one: Found) -> dict[str, Any]:
    candidate = one.candidate
    engine, precision = VARIANTS[candidate.variant]
    return {
        "row": candidate.row,
        "read": candidate.read,
        "head": candidate.head,
        "exits": " ".join(map(str, candidate.exits)),
        "reducer": candidate.reducer,
        "after": " ".join(map(str, candidate.after)),
        "ratio": candidate.ratio,
        "engine": engine,
        "precision": precision,
    }
