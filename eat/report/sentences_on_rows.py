"""Sentences about a row of summary.csv and about the clock, according to the verdicts of `eat.report.verdicts`."""

from __future__ import annotations

import pandas as pd

from eat import rounding
from eat.report.verdicts import NoiseFloor, accuracy_verdict, speed_verdict
from eat.results.rows import Record


def speed_sentence(row: Record, noise: NoiseFloor) -> str:
    """One sentence on a row of summary.csv: its time against the stock dense model at the same batch size."""
    if pd.isna(row["speedup_low"]) or pd.isna(row["speedup_high"]):
        return f"{row['system']} was not timed against the stock dense model."
    within = rounding.interval(row["speedup_low"], row["speedup_high"], rounding.speedup)
    ratio = f"{rounding.x_times(row['speedup_vs_dense'])}, 95 % interval {within}"
    setting = f"batch size {rounding.count(row['batch_size'])}"
    verdict = speed_verdict(row["speedup_low"], row["speedup_high"], noise)
    if verdict == "no difference shown":
        return (
            f"At {setting} no difference in speed is shown between {row['system']} and the stock dense model "
            f"(median paired speed-up {ratio})."
        )
    return (
        f"At {setting} {row['system']} is {verdict} than the stock dense model: median paired speed-up {ratio}; "
        f"mean {rounding.x_times(row['speedup_mean'])}."
    )


def accuracy_sentence(row: Record, reference: str) -> str:
    """One sentence on a row of summary.csv: its accuracy against the dense reference on the same examples."""
    if row["system"] == reference:
        return f"It is the dense reference; its accuracy is {rounding.with_percent(row['accuracy'])}."
    if pd.isna(row["delta_low"]) or pd.isna(row["delta_high"]):
        return f"The accuracy of {row['system']} is not compared."
    within = rounding.interval(row["delta_low"], row["delta_high"], rounding.points)
    difference = f"{rounding.points(row['delta_accuracy'])} points, 95 % interval {within}"
    verdict = accuracy_verdict(
        row["delta_accuracy"], row["delta_low"], row["delta_high"], int(row["seeds"]), int(row["n"])
    )
    name = row["system"]
    if verdict in ("higher", "lower"):
        return f"Its accuracy is {verdict} than that of the dense reference ({difference})."
    if verdict == "no loss":
        return f"It loses no accuracy against the dense reference ({difference})."
    if verdict == "no loss shown":
        return (
            f"No loss of accuracy is shown against the dense reference, and a loss of one point is excluded "
            f"({difference})."
        )
    texts = f"{rounding.count(row['n'])} texts"
    return f"For {name}, {texts} show neither a loss of accuracy nor its absence ({difference})."


def noise_sentence(noise: NoiseFloor) -> str:
    """The result of the A/A run, as a sentence about the clock."""
    within = rounding.interval(noise.low, noise.high, rounding.speedup)
    floor, ceiling = noise.band
    shown = "shows" if noise.low > 1 or noise.high < 1 else "does not show"
    return (
        f"The stock dense model timed against itself gives a ratio of {rounding.x_times(noise.ratio)} (95 % interval "
        f"{within}), mean {rounding.x_times(noise.mean)}; the clock {shown} a difference although there is none. A "
        f"speed-up counts as a difference only if its interval lies outside "
        f"{rounding.interval(floor, ceiling, rounding.speedup)}."
    )
