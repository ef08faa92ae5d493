"""Section 5 of the paper with measured numbers: Proposition 1, and equation (5) against the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat import rounding
from eat.report.quantities import SYSTEM, THRESHOLD, Quantity, table_of
from eat.report.results import TaskFiles
from eat.report.table import Table
from eat.results.columns import COST_MODELS, LENGTHS_NEEDED
from eat.results.rows import Record, is_true

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """The share of texts and tokens that reach each layer at an operating point.

    reached: the share of texts that execute layer l, P(L' >= l); (L,). entering: the share of tokens that enter layer
    l, over all texts run to full depth, r_l; (L,). running: the same over the texts that reach it; (L,).
    """

    reached: Floats
    entering: Floats
    running: Floats

    @property
    def product(self) -> float:
        """r times p, each a mean over the layers, as in Proposition 1."""
        return float(self.entering.mean() * self.reached.mean())

    @property
    def executed(self) -> float:
        """The share of tokens that are computed, as a mean over the layers."""
        return float((self.reached * self.running).mean())


def reach_of(task: TaskFiles, system: str, tau: float) -> Reach:
    """The reach of an operating point, read from the curves. tau: NaN if the system has no threshold."""
    kept = task.retention[task.retention["system"] == system].sort_values("layer")
    everyone, still = (kept[kept["over"] == over] for over in ("all", "running"))
    here = still[still["tau"].isna() if pd.isna(tau) else still["tau"] == tau]
    here = everyone if here.empty else here  # no text may exit early
    # the tokens that enter a layer are those alive after the previous one; a layer that no text reaches computes
    # nothing
    entering = np.concatenate([[1.0], everyone["observed"].to_numpy(float)[:-1]])
    running = np.concatenate([[1.0], here["observed"].fillna(0.0).to_numpy(float)[:-1]])
    left = task.exits[task.exits["system"] == system]
    left = left[left["tau"].isna() if pd.isna(tau) else left["tau"] == tau]
    layers = everyone["layer"].to_numpy(int)
    reached = np.array([1.0 - left.loc[left["exit"] < layer, "fraction"].sum() for layer in layers])
    return Reach(reached, entering, running)


def theory_table(task: TaskFiles) -> Table | None:
    """The chosen operating points in the reference's precision: the factors of the theory, and the measurements.

    `None` if no cost model could be fitted.
    """
    if task.cost.empty:
        return None
    quantities = (
        SYSTEM,
        THRESHOLD,
        Quantity("r", "r", rounding.retention, unit="tokens"),
        Quantity("p", "p", rounding.retention, unit="layers"),
        Quantity("r p", "product", rounding.retention),
        Quantity("Executed", "executed", rounding.retention, unit="token layers"),
        Quantity("FLOPs", "work", rounding.retention, unit="own / dense"),
        Quantity("Time", "time", rounding.retention, unit="own / dense"),
        *(
            Quantity("Error", name, lambda value: f"{rounding.signed_percent(value)} %", unit=name)
            for name in COST_MODELS
        ),
        Quantity("Exponent", "exponent_ms", rounding.exponent, ("exponent_ms_low", "exponent_ms_high"), unit="time"),
        Quantity("", "exponent_flops", rounding.exponent, unit="FLOPs"),
    )
    rows = []
    for point in _chosen(task):
        reach = reach_of(task, point["system"], point["tau"])
        shares = {"r": reach.entering.mean(), "p": reach.reached.mean(), "product": reach.product}
        ratios = {"work": 1.0 / point["flops_ratio"], "time": 1.0 / point["speedup_vs_packed_dense"]}
        rows.append({**point, **shares, "executed": reach.executed, **ratios})
    caption = (
        f"Theory and measurement on {task.name}, batch size 1, for the chosen operating points in the precision of the "
        "reference. r: the share of tokens that enter a layer. p: the share of texts that reach it. Both are means "
        "over the layers. Executed: the share of the system's token layers that are computed. Time: the inverse of "
        "the median paired ratio to the reference in the same engine. Error: the error of the mean time predicted by "
        "equation (5), without and with a constant for each executed layer. Exponent: the power of the length with "
        "which time and FLOPs grow over the timed texts."
    )
    return table_of(caption, f"theory:{task.name}", quantities, [("", rows)])


def theory_sentences(task: TaskFiles, reference: str) -> list[str]:
    """What Proposition 1 and equation (5) predict; the table has the measured numbers."""
    if task.cost.empty:
        return [
            f"The timed texts have fewer than {rounding.count(LENGTHS_NEEDED)} different lengths, so no cost model "
            "can be fitted to their times."
        ]
    return [
        "Proposition 1 multiplies the cost by r p. For long texts it predicts that the cost of a dense model grows "
        "with the square of the length, an exponent of 2, and that of EAT in proportion to it, an exponent of 1. "
        f"Equation (5) is fitted only to the times of {reference}. The table has what was measured."
    ]


def _chosen(task: TaskFiles) -> Sequence[Record]:
    """The chosen rows at batch 1 of all systems that the cost model predicts, with the error in a field named after the
    model.

    The exponents, which are the same for both models, are also included.
    """
    rows = task.summary[(task.summary["batch_size"] == 1) & is_true(task.summary["chosen"])]
    errors = task.cost.pivot(index=["system", "tau"], columns="model", values="error").reset_index()
    grown = ["exponent_ms", "exponent_ms_low", "exponent_ms_high", "exponent_flops"]
    exponents = task.cost.groupby(["system", "tau"], dropna=False)[grown].first().reset_index()
    return rows.merge(errors, on=["system", "tau"]).merge(exponents, on=["system", "tau"]).to_dict("records")
