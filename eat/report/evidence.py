"""The measurements of a study on one task, as the tests of the paper's claims use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from eat.report.verdicts import Competitive
from eat.results.noise import NoiseFloor
from eat.results.rows import Record, is_true

Model = Literal["bert", "distilbert", "eat"]

NAMES = {"bert": "BERT", "distilbert": "DistilBERT", "eat": "EAT"}


@dataclass(frozen=True)
class Evidence:
    """The measurements of a study on one task.

    rows: the rows of summary.csv at batch 1. exits, lengths: the curves of the task. systems: the paper's model ->
    the system that represents it. norm: the verdicts of comparing the norm with other scores, each with its sentence.
    """

    task: str
    rows: pd.DataFrame
    exits: pd.DataFrame
    lengths: pd.DataFrame
    noise: NoiseFloor
    systems: Mapping[str, str]
    norm: Sequence[tuple[Competitive, str]] = ()

    def chosen(self, model: str) -> Record:
        """The row of a model at its chosen threshold. Raises `Untestable` if no system represents it."""
        own = self.points(model)
        return own[is_true(own["chosen"])].to_dict("records")[0]

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
