"""Speed-up by the length of the text (figure 1 of Magic Pyramid): pruning alone, exits alone, and both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from eat import rounding
from eat.figures import labels, style
from eat.figures.canvas import Drawing, at_threshold, canvas, headline, note, upright_ratio_axis
from eat.figures.figure import Figure
from eat.figures.labels import Name
from eat.figures.style import Look, Spot
from eat.results.columns import BOTH, BUCKETS, EXITS, PRUNING, bucket_name
from eat.results.rows import in_setting_of, is_true, of_task, rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TITLES = {PRUNING: "Pruning alone", EXITS: "Early exits alone", BOTH: "Both"}

_SPREAD = 0.3
"""Distance from the first to the last point of a bucket, as a fraction of the distance between two buckets."""


def plot_buckets(summary: pd.DataFrame, buckets: pd.DataFrame, task: str, reference: str) -> Drawing:
    """Draw the speed-up against the reference in the same engine at batch size 1, on short, medium and long texts.

    summary: summary.csv. buckets: buckets.csv; buckets without a timed text are left out. Each kind of system in the
    reference's precision has a panel. Each system is shown at its chosen threshold, with 95 % intervals as bars, and
    named at the end of its line.
    """
    rows = rows_of(summary, task)
    looks = style.looks(rows, reference)
    points = of_task(buckets, task)
    points = points[is_true(points["chosen"]) & points["speedup_vs_packed_dense"].notna()]
    points = points[points["system"].isin(in_setting_of(rows, reference)) & points["adapts_by"].isin(list(TITLES))]
    shown = [name for name in looks if name in set(points["system"])]
    ends = [bucket_name(*bucket) for bucket in BUCKETS]
    ends = [name for name in ends if name in set(points["bucket"])]
    kinds = [kind for kind in TITLES if kind in set(points["adapts_by"])]
    if not kinds:
        return note("No system of this study removes tokens or exits early.", 2.6)
    width = style.FULL if len(kinds) > 1 else style.WIDE_COLUMN
    most = int(points.groupby("adapts_by")["system"].nunique().max())
    figure = canvas(width, max(2.7, 0.9 + labels.height_of_names(most)))
    spots: list[Spot] = []
    named: dict[Axes, list[Name]] = {}
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for panel, kind in zip(panels, kinds, strict=True):
        own = points[points["adapts_by"] == kind]
        names = [name for name in shown if name in set(own["system"])]
        places = np.linspace(-_SPREAD / 2, _SPREAD / 2, len(names)) if len(names) > 1 else np.zeros(1)
        for name, aside in zip(names, places, strict=True):
            line = own[own["system"] == name]
            x = line["bucket"].map(ends.index).to_numpy(float) + aside
            _draw(panel, x, line, looks[name])
            spots += _spots(panel, x, line)
            end = int(x.argmax())
            height = float(line["speedup_vs_packed_dense"].iloc[end])
            named.setdefault(panel, []).append(Name(float(x[end]), height, looks[name]))
        _finish(panel, TITLES[kind], ends)
    panels[0].set_ylabel(f"Speed-up over {style.drawable(reference)}, median")
    headline(figure, _title(points, ends, reference))
    labels.beside(figure, named, leads=True)
    return figure, spots


FIGURE = Figure("buckets", plot_buckets, reads=("summary", "buckets"), place="lengths")


def _title(points: pd.DataFrame, ends: list[str], reference: str) -> str:
    """For how many systems the intervals of the first and the last bucket are apart, and in which direction."""
    short, long = (points[points["bucket"] == name].set_index("system") for name in (ends[0], ends[-1]))
    both = [name for name in short.index if name in long.index]
    grows = sum(long["packed_low"][name] > short["packed_high"][name] for name in both)
    falls = sum(long["packed_high"][name] < short["packed_low"][name] for name in both)
    if len(ends) < 2:
        return f"All timed texts have {ends[0]} tokens"
    if not grows and not falls:
        return (
            f"No speed-up over {style.drawable(reference)} is shown to differ between {ends[0]} and {ends[-1]} tokens"
        )
    return (
        f"From {ends[0]} to {ends[-1]} tokens the speed-up over {style.drawable(reference)} is shown to grow for "
        f"{rounding.count(grows)} and to fall for {rounding.count(falls)} of {rounding.count(len(both))} systems"
    )


def _draw(panel: Axes, x: np.ndarray, line: pd.DataFrame, look: Look) -> None:
    middle = line["speedup_vs_packed_dense"].to_numpy(float)
    bars = np.stack([middle - line["packed_low"], line["packed_high"] - middle])
    panel.errorbar(x, middle, yerr=np.abs(bars), fmt="none", ecolor=look.colour, elinewidth=0.8, alpha=0.75)
    panel.plot(x, middle, color=look.colour, marker=look.marker, markersize=3.8, linewidth=0.9)


def _finish(panel: Axes, title: str, ends: list[str]) -> None:
    panel.axhline(1.0, color="#777777", linewidth=0.8, linestyle="--", zorder=1)
    panel.set_title(title)
    upright_ratio_axis(panel)
    panel.set_xticks(range(len(ends)), ends)
    panel.set_xlim(-0.5, len(ends) - 0.5)
    panel.set_xlabel("Length of the text (tokens)")
    panel.grid(visible=False, axis="x")


def _spots(panel: Axes, x: np.ndarray, line: pd.DataFrame) -> Iterator[Spot]:
    for place, row in zip(x, line.to_dict("records"), strict=True):
        ratio = rounding.x_times(row["speedup_vs_packed_dense"])
        if not math.isnan(row["packed_low"]):  # a single text has no interval
            ratio += " " + rounding.interval(row["packed_low"], row["packed_high"], rounding.speedup)
        text = (
            f"{at_threshold(row['system'], row['tau'])}, {row['bucket']} tokens: "
            f"{ratio} on {rounding.count(row['n_timed'])} texts; "
            f"{rounding.x_times(row['flops_ratio'])} fewer FLOPs"
        )
        yield Spot(panel, float(place), row["speedup_vs_packed_dense"], text)
