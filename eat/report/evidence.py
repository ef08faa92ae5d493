"""The measurements of a study on one task, as the tests of a paper's claims use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from eat import rounding
from eat.report.verdicts import Competitive
from eat.results.noise import NoiseFloor
from eat.results.rows import Record, is_true

Model = Literal[
    "bert", "distilbert", "eat", "ltp", "fastbert", "magic-pyramid", "adapler", "power-bert", "tr-bert"
]  # fmt: skip

NAMES: Mapping[str, str] = {
    "bert": "BERT",
    "distilbert": "DistilBERT",
    "eat": "EAT",
    "ltp": "LTP",
    "fastbert": "FastBERT",
    "magic-pyramid": "Magic Pyramid",
    "adapler": "AdapLeR",
    "power-bert": "PoWER-BERT",
    "tr-bert": "TR-BERT",
}


@dataclass(frozen=True)
class Evidence:
    """The measurements of a study on one task.

    rows: the rows of summary.csv at batch 1. exits, lengths: the curves of the task. systems: a paper's model ->
    the system that represents it. norm: the verdicts of comparing the norm with other scores, each with its sentence.
    buckets: the rows of the lengths that can be compared (see `eat.report.lengths`). importance: the rank correlation
    of scores with saliency; `None` if the study does not compare scores.
    """

    task: str
    rows: pd.DataFrame
    exits: pd.DataFrame
    lengths: pd.DataFrame
    noise: NoiseFloor
    systems: Mapping[str, str]
    norm: Sequence[tuple[Competitive, str]] = ()
    buckets: pd.DataFrame = field(default_factory=pd.DataFrame)
    importance: pd.DataFrame | None = None

    def chosen(self, model: str) -> Record:
        """The row of a model at its chosen threshold. Raises `Untestable` if no system represents it."""
        own = self.points(model)
        return own[is_true(own["chosen"])].to_dict("records")[0]

    def at(self, model: str, tau: float | None) -> Record:
        """The row of a model at a threshold, or if it is `None` as `chosen`. Raises `Untestable` if there is none."""
        if tau is None:
            return self.chosen(model)
        own = self.points(model)
        rows = own[own["tau"] == tau].to_dict("records")
        if not rows:
            raise Untestable(f"{self.systems[model]} has no threshold {rounding.threshold(tau)}.")
        return rows[0]

    def by_length(self, model: str) -> Sequence[Record]:
        """The rows of a model at its chosen threshold, from the shortest texts to the longest.

        Raises `Untestable` if no two lengths have enough timed texts, or no system represents the model.
        """
        system = self.chosen(model)["system"]
        own: list[Record] = (
            [] if self.buckets.empty else self.buckets[self.buckets["system"] == system].to_dict("records")
        )
        if len(own) < 2:
            raise Untestable(f"Too few texts of different lengths were timed in {system}.")
        return own

    def points(self, model: str) -> pd.DataFrame:
        """All timed operating points of a model, by rising threshold. Raises `Untestable` if there are none."""
        if model not in self.systems:
            raise Untestable(f"No system of this study represents {NAMES[model]}.")
        own = self.rows[(self.rows["system"] == self.systems[model]) & self.rows["speedup_low"].notna()]
        if own.empty:
            raise Untestable(f"{self.systems[model]} was not timed.")
        return own.sort_values("tau")


class Untestable(Exception):
    """A study lacks what a test needs. The report prints the message as the reason."""
