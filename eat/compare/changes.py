"""How the numbers of a study changed, and whether the change exceeds the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from eat import rounding
from eat.compare.states import State
from eat.results.rows import Record, is_true, without_repeats
from eat.rounding import Rounder
from eat.study.stock import STOCK_AGAIN, STOCK_PREFIX

Verdict = Literal["beyond the noise", "within the noise", "changed", "unchanged"]
Ends = tuple[float, float, float]
"""The lower end of an interval, the value, and the upper end."""


@dataclass(frozen=True)
class Change:
    """A number of a system at its chosen threshold, before and after, as text, with a verdict on the change."""

    task: str
    system: str
    what: str
    before: str
    after: str
    change: str
    verdict: Verdict


@dataclass(frozen=True)
class Changes:
    """All changes of rows that are in both states, and the rows that are in only one, as `task: system`."""

    compared: tuple[Change, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


def changes_between(before: State, after: State) -> Changes:
    """Compare each system of each task at the threshold chosen in either state."""
    old, new = _chosen(before.summary), _chosen(after.summary)
    compared: list[Change] = []
    for key in new:
        if key in old:
            band = max(_noise(before.summary, key), _noise(after.summary, key))
            compared += _compare(key, old[key], new[key], band)
    return Changes(tuple(compared), _only(new, old), _only(old, new))


_Key = tuple[str, str, int]


def _chosen(summary: pd.DataFrame) -> dict[_Key, Record]:
    rows = without_repeats(summary[is_true(summary["chosen"])])
    return {(row["task"], row["system"], int(row["batch_size"])): row for row in rows.to_dict("records")}


def _only(these: Mapping[_Key, Record], others: Mapping[_Key, Record]) -> tuple[str, ...]:
    known = {key[:2] for key in others}
    return tuple(dict.fromkeys(f"{task}: {system}" for task, system, _ in these if (task, system) not in known))


def _noise(summary: pd.DataFrame, key: _Key) -> float:
    """The largest change of a ratio that the clock alone explains, as a logarithm, from the A/A pair's interval."""
    task, _, batch = key
    rows = summary[(summary["task"] == task) & (summary["system"] == STOCK_AGAIN) & (summary["batch_size"] == batch)]
    ends = [float(row[name]) for row in rows.to_dict("records") for name in ("speedup_low", "speedup_high")]
    return max((abs(math.log(end)) for end in ends if not math.isnan(end)), default=0.0)


def _compare(key: _Key, old: Record, new: Record, band: float) -> list[Change]:
    task, system, batch = key
    found: list[Change] = []
    if batch == 1:
        if not (pd.isna(old["tau"]) and pd.isna(new["tau"])):
            found.append(_plain(task, system, "threshold", old["tau"], new["tau"], rounding.threshold))
        if not (pd.isna(old["accuracy"]) or pd.isna(new["accuracy"])):
            found.append(_accuracy(task, system, old, new))
        found += [
            _plain(task, system, name, old[column], new[column], rounder)
            for name, column, rounder in _EXACT
            if not (pd.isna(old[column]) or pd.isna(new[column]))
        ]
    is_stock = system.startswith(STOCK_PREFIX)  # the baseline of the speed-ups
    if not is_stock and not pd.isna(old["speedup_low"]) and not pd.isna(new["speedup_low"]):
        found.append(_speed(task, system, batch, old, new, band))
    return found


_EXACT: tuple[tuple[str, str, Rounder], ...] = (
    ("depth (layers)", "avg_depth", rounding.depth),
    ("retention", "avg_retention", rounding.retention),
    ("FLOPs, dense / system", "flops_ratio", rounding.ratio),
)
"""Quantities that follow from the traces without noise."""


def _plain(task: str, system: str, what: str, old: float, new: float, rounder: Rounder) -> Change:
    before, after = rounding.or_dash(old, rounder), rounding.or_dash(new, rounder)
    return Change(task, system, what, before, after, "", "unchanged" if before == after else "changed")


def _accuracy(task: str, system: str, old: Record, new: Record) -> Change:
    """Judge by both intervals as if they were independent, which is conservative if the texts are the same."""
    ends = [(row["accuracy_low"], row["accuracy"], row["accuracy_high"]) for row in (old, new)]
    change = new["accuracy"] - old["accuracy"]
    before, after = (
        f"{rounding.percent(row['accuracy'])} "
        f"{rounding.interval(row['accuracy_low'], row['accuracy_high'], rounding.percent)}"
        for row in (old, new)
    )
    change_text = f"{rounding.points(change)} points"
    return Change(task, system, "accuracy (%)", before, after, change_text, _verdict(change, _room(*ends)))


def _speed(task: str, system: str, batch: int, old: Record, new: Record, band: float) -> Change:
    """Judge by the logarithms of both intervals, and by the noise floor of the clock."""
    ends = [
        (math.log(row["speedup_low"]), math.log(row["speedup_vs_dense"]), math.log(row["speedup_high"]))
        for row in (old, new)
    ]
    change = ends[1][1] - ends[0][1]
    before, after = (
        f"{rounding.x_times(row['speedup_vs_dense'])} "
        f"{rounding.interval(row['speedup_low'], row['speedup_high'], rounding.speedup)}"
        for row in (old, new)
    )
    what = f"speed-up, batch {rounding.count(batch)}"
    change_text = rounding.x_times(math.exp(change))
    return Change(task, system, what, before, after, change_text, _verdict(change, max(_room(*ends), band)))


def _room(old: Ends, new: Ends) -> float:
    """The largest difference of two values within their errors: the facing sides of both intervals, as independent."""
    below, above = (old, new) if new[1] > old[1] else (new, old)
    return math.hypot(below[2] - below[1], above[1] - above[0])


def _verdict(change: float, room: float) -> Verdict:
    if change == 0:
        return "unchanged"
    return "beyond the noise" if abs(change) > room else "within the noise"
