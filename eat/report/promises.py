"""Thresholds with risk control: the promised risk, and the risk observed on the dev texts."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from eat import rounding
from eat.report import verdicts
from eat.report.quantities import Quantity
from eat.report.results import TaskFiles
from eat.report.table import Cell, Column, Group, Row, Table
from eat.report.verdicts import Kept
from eat.results.rows import Record
from eat.rounding import or_dash

_RISKS = {
    "disagreement": "answered differently from the same system without early exits",
    "accuracy": "answered incorrectly although the same system without early exits is correct",
}

_KEPT: Mapping[Kept, str] = {"kept": "kept", "broken": "broken", "undecided": "not decided"}


def promises_table(task: TaskFiles) -> Table | None:
    """Each promise of a task: its risk and threshold, and whether it was kept; `None` if no system makes one."""
    if task.promises.empty:
        return None
    observed = Quantity("Observed", "observed", rounding.risk, ("observed_low", "observed_high"), unit="%")
    columns = (
        Column("System", align="left"),
        Column("Seed"),
        Column("Risk", align="left"),
        Column("Promised", "at most, %"),
        Column("Confidence", "%"),
        Column("Texts", "calibration"),
        Column("Bad", "calibration"),
        Column("Threshold"),
        Column("Texts", "dev"),
        Column("Bad", "dev"),
        observed.column(),
        Column("On dev", align="left"),
    )
    rows = []
    for row in task.promises.to_dict("records"):
        texts = (
            str(row["system"]),
            rounding.count(row["seed"]),
            str(row["risk"]),
            rounding.risk(row["epsilon"]),
            rounding.percent(1.0 - row["delta"]),
            rounding.count(row["n"]),
            rounding.count(row["bad"]),
            or_dash(row["tau"], rounding.threshold) if pd.isna(row["thresholds"]) else "by exit",
            rounding.count(row["n_dev"]),
            rounding.count(row["bad_dev"]),
        )
        rows.append(Row((*map(Cell, texts), observed.cell(row), Cell(_KEPT[_verdict(row)]))))
    caption = (
        f"Risk control on {task.name}: the promised upper bound of the risk and its confidence, the threshold that "
        "Learn-then-Test chose on the calibration split, and the observed risk on the dev texts, with its exact 95 % "
        "interval. Kept: the interval ends at or below the promised bound; broken: it begins above it. With a "
        "threshold of 1.00 no text exits early."
    )
    return Table(caption, f"promises:{task.name}", columns, (Group("", tuple(rows)),))


def promises_sentences(task: TaskFiles) -> list[str]:
    """For each promise, whether the dev texts show that it was kept."""
    several = task.promises["seed"].nunique() > 1
    return [_sentence(row, several) for row in task.promises.to_dict("records")]


def _sentence(row: Record, several: bool) -> str:
    seed = f" (seed {rounding.count(row['seed'])})" if several else ""
    promised = (
        f"{row['system']}{seed} promises with {rounding.percent(1.0 - row['delta'])} % confidence that at most "
        f"{rounding.risk(row['epsilon'])} % of the texts are {_RISKS[row['risk']]}"
    )
    if row["tau"] >= 1:  # no confidence reaches this threshold
        return f"{promised}; no threshold was shown to keep this promise, so no text exits early."
    within = rounding.interval(row["observed_low"], row["observed_high"], rounding.risk)
    shown = f"On {rounding.count(row['n_dev'])} dev texts the share is {rounding.risk(row['observed'])} % {within}"
    phrases = {
        "kept": "the promise was kept",
        "broken": "the promise was broken",
        "undecided": "these texts do not show whether the promise was kept",
    }
    return f"{promised}. {shown}: {phrases[_verdict(row)]}."


def _verdict(row: Record) -> Kept:
    return verdicts.promise_verdict(row["epsilon"], row["observed_low"], row["observed_high"])
