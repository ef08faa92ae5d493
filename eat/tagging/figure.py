"""The frontier of a tagging task: F1 or accuracy against the measured speed-up over the stock model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eat import rounding
from eat.figures import style
from eat.figures.canvas import Drawing, canvas, headline, legend, line_of, percent_axis, ratio_axis
from eat.figures.style import Spot
from eat.study.stock import STOCK_AGAIN

if TYPE_CHECKING:
    import pandas as pd

NAMES = {"span_f1": "F1 of spans", "token_accuracy": "Accuracy of tags"}


def plot_tagging(summary: pd.DataFrame, task: str, reference: str) -> Drawing:
    """A point for each operating point, with intervals; the chosen ones are filled.

    summary: the rows of `eat.tagging.summary`. Lines connect the thresholds of a system with one window.
    """
    rows = summary[(summary["task"] == task) & (summary["system"] != STOCK_AGAIN)]
    # what a look depends on in other studies: every tagger keeps all tokens
    looks = style.looks(rows.assign(avg_retention=1.0, gflops_pattern=rows["gflops"]), reference)
    figure = canvas(style.FULL, 3.4 + style.legend_height([look.label for look in looks.values()], style.FULL))
    axes = figure.subplots()
    spots = []
    for (name, window), points in rows.groupby(["system", "window"], sort=False):
        look = looks[str(name)]
        own = points.assign(speedup=points["speedup"].fillna(1.0)).sort_values("speedup")
        axes.plot(
            own["speedup"], own["score"], color=look.colour, linewidth=0.8, linestyle="-" if window == 0 else "--"
        )
        for row in own.to_dict("records"):
            axes.plot(
                row["speedup"], row["score"], linestyle="", marker=look.marker, color=look.colour, markersize=5.0,
                markerfacecolor=look.colour if row["chosen"] else "white",
            )  # fmt: skip
            axes.plot(
                [row["speedup"]] * 2, [row["score_low"], row["score_high"]], color=look.colour, linewidth=0.5, alpha=0.6
            )
            at = "" if row["tau"] != row["tau"] else f", tau {rounding.threshold(row['tau'])}, window {row['window']}"
            shown = f"{rounding.with_percent(row['score'])}, {rounding.x_times(row['speedup'])}"
            spots.append(Spot(axes, row["speedup"], row["score"], f"{name}{at}: {shown}"))
    percent_axis(axes.yaxis)
    ratio_axis(axes)
    metric = NAMES[str(rows["metric"].iloc[0])]
    axes.set(xlabel="Speed-up over stock transformers (batch 1)", ylabel=f"{metric} (%)")
    legend(figure, [line_of(look) for look in looks.values()], [look.label for look in looks.values()], style.FULL)
    headline(
        figure,
        f"{metric} against measured speed-up",
        "Filled: chosen on the calibration split. Dashed: window above 0.",
    )
    return figure, spots
