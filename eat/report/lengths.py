"""Speed-up by the length of the text: is the finding of Magic Pyramid's figure 1 confirmed by measured time?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from eat import rounding
from eat.errors import listed
from eat.report import verdicts
from eat.report.quantities import DELTA, PACKED, SPEEDUP, SYSTEM, THRESHOLD, WORK, Quantity, table_of
from eat.report.results import TaskFiles
from eat.report.table import Column, Group, Table, text_row
from eat.report.verdicts import Comparison
from eat.results.columns import BOTH, BUCKETS, EXITS, NEITHER, PRUNING, bucket_name
from eat.results.noise import NoiseFloor
from eat.results.rows import Record, in_setting_of, is_true

FEWEST = 10
"""The fewest timed texts of a bucket that is compared with another: with fewer, intervals are too wide."""

_PACKED = replace(PACKED, bounds=("packed_low", "packed_high"))

_CLAIMS: Mapping[str, tuple[str, Comparison]] = {
    PRUNING: ("Pruning alone gains more on long texts than on short ones", "higher"),
    EXITS: ("Early exits alone gain more on short texts than on long ones", "lower"),
    BOTH: ("Both together gain on short and on long texts", "higher"),
}
"""The figure's claim about each kind of system, and the comparison of gains that supports it."""


def lengths_table(task: TaskFiles, reference: str) -> Table | None:
    """The chosen operating points in each bucket, in the reference's precision; `None` if nothing can be compared."""
    rows, buckets = _chosen(task, reference), compared_buckets(task, reference)
    if not buckets:
        return None
    quantities = (
        SYSTEM,
        THRESHOLD,
        Quantity("Adapts by", "how"),
        Quantity("Texts", "n", rounding.count),
        Quantity("Timed", "n_timed", rounding.count),
        DELTA,
        SPEEDUP,
        _PACKED,
        WORK,
    )
    words = {PRUNING: "fewer tokens", EXITS: "early exits", NEITHER: rounding.DASH, BOTH: BOTH}
    rows = rows.assign(how=rows["adapts_by"].map(words))
    groups = [(f"{name} tokens", own.to_dict("records")) for name, own in rows.groupby("bucket", sort=False)]
    caption = (
        f"Results on {task.name} by the length of the text, [CLS] and [SEP] counted, at batch size 1, for the chosen "
        "operating points in the precision of the reference, with 95 % intervals. Speed-ups are over the stock "
        "export of the reference, and next to them over the reference in the same packed engine: only these are due to "
        "the method alone. FLOPs are the reference's divided by the system's."
    )
    return table_of(caption, f"lengths:{task.name}", quantities, groups)


def findings_table(task: TaskFiles, reference: str, noise: NoiseFloor) -> Table | None:
    """Whether the figure's finding is confirmed by measured time, for pruning alone, exits alone, and both.

    `None` if nothing can be compared.
    """
    buckets, rows = compared_buckets(task, reference), compared_rows(task, reference)
    lines = []
    for kind, (claim, claimed) in _CLAIMS.items():
        own = {str(name): part.to_dict("records") for name, part in rows[rows["adapts_by"] == kind].groupby("system")}
        own = {name: own[name] for name in dict.fromkeys(rows["system"]) if name in own}
        if not own:
            continue
        outcomes = {name: _outcome(kind, part, noise) for name, part in own.items()}
        agree = sum(_outcome_in_flops(kind, part) == claimed for part in own.values())
        lines.append(
            text_row(
                claim,
                verdicts.finding(list(outcomes.values()), claimed),
                _outcomes(kind, outcomes),
                f"holds for {rounding.count(agree)} of {rounding.count(len(own))}",
            )
        )
    if not lines:
        return None
    columns = (
        Column("Claim", align="left", width=0.26),
        Column("In measured time", align="left", width=0.14),
        Column("Systems", align="left", width=0.4),
        Column("In FLOPs", align="left", width=0.12),
    )
    caption = (
        f"What Magic Pyramid's figure 1 shows, tested on {task.name}. The texts of {buckets[0]} tokens are compared "
        f"with those of {buckets[-1]}, by the speed-up over {reference} in the same engine. Speed-ups differ if their "
        "95 % intervals do not overlap, and a gain lies above the noise floor."
    )
    return Table(caption, f"findings:{task.name}", columns, (Group("", tuple(lines)),))


def compared_rows(task: TaskFiles, reference: str) -> pd.DataFrame:
    """The timed rows of buckets.csv whose speed-ups are compared: chosen points, shortest texts first."""
    rows = _chosen(task, reference)
    return rows[rows["bucket"].isin(compared_buckets(task, reference)) & rows["speedup_vs_packed_dense"].notna()]


def compared_buckets(task: TaskFiles, reference: str) -> list[str]:
    """The buckets with enough timed texts, shortest first; none if fewer than two, or if no system adapts."""
    rows = _chosen(task, reference)
    if not (rows["adapts_by"] != NEITHER).any():
        return []
    timed = rows.groupby("bucket")["n_timed"].max()
    found = [name for name in (bucket_name(*ends) for ends in BUCKETS) if timed.get(name, 0) >= FEWEST]
    return found if len(found) > 1 else []


def _chosen(task: TaskFiles, reference: str) -> pd.DataFrame:
    rows = task.buckets[is_true(task.buckets["chosen"])]
    return rows[rows["system"].isin(in_setting_of(task.summary, reference))]


def _outcome(kind: str, rows: Sequence[Record], noise: NoiseFloor) -> Comparison:
    """Compare the gain on the longest texts with that on the shortest; for `BOTH`, whether there is a gain on each."""
    gains = [(float(row["packed_low"]), float(row["packed_high"])) for row in rows]
    if kind != BOTH:
        return verdicts.comparison(gains[-1], gains[0])
    found = {verdicts.comparison(gain, noise.band) for gain in (gains[0], gains[-1])}
    if "lower" in found:
        return "lower"
    return "higher" if found == {"higher"} else "no difference shown"


def _outcome_in_flops(kind: str, rows: Sequence[Record]) -> Comparison:
    """The same for the ratio of FLOPs, which is counted and has no interval."""
    short, long = (float(row["flops_ratio"]) for row in (rows[0], rows[-1]))
    if kind == BOTH:
        return "higher" if min(short, long) > 1 else "lower"
    return "higher" if long > short else "lower"


def _outcomes(kind: str, outcomes: Mapping[str, Comparison]) -> str:
    """The systems with each outcome."""
    words: Mapping[Comparison, str] = {
        "higher": "greater on long texts",
        "lower": "smaller on long texts",
        "no difference shown": "not shown to differ",
    }
    if kind == BOTH:
        words = {
            "higher": "above the noise floor on both",
            "lower": "below the noise floor on one of them",
            "no difference shown": "within the noise floor on at least one of them",
        }
    parts = [
        f"{words[outcome]}: {listed(names)}"
        for outcome in words
        if (names := [name for name, found in outcomes.items() if found == outcome])
    ]
    return "; ".join(parts)
