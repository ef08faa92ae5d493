"""The tables behind the curves: exits, retention, lengths and reliability; the cost model's is in `cost_model`.

Curves pool the seeds: their n counts texts times seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.summarize.cost_model import cost_curve

if TYPE_CHECKING:
    from eat.summarize.task_results import Results

Floats = npt.NDArray[np.float64]

LENGTH_BINS = 8


def exit_curve(results: Results) -> pd.DataFrame:
    """The share of texts that exit at each exit, for every operating point."""
    rows = []
    for (system, tau), found in results.replays.items():
        depth = np.concatenate([one.depth for one in found])
        for head in results.traces[system][0].logits:
            rows.append(
                {
                    "task": results.task,
                    "system": system,
                    "tau": tau,
                    "chosen": results.is_chosen((system, tau)),
                    "exit": head,
                    "fraction": np.mean(depth == head),
                    "n": len(depth),
                }
            )
    return pd.DataFrame(rows)


def retention_curve(results: Results) -> pd.DataFrame:
    """Tokens alive after each layer divided by tokens at the input, as scheduled and as observed.

    over `all`: all texts at full depth, tau empty. over `running`, for each operating point with early exits: those
    still running; at a layer with an exit these are the texts that did not exit there, since the exit comes before the
    removal.
    """
    rows = []
    for system, traces in results.traces.items():
        alive = np.concatenate([trace.alive / trace.lengths[:, None] for trace in traces])  # (N * seeds, L)
        layers = np.arange(1, alive.shape[1] + 1)
        scheduled = scheduled_retention(traces[0].shape)
        curves: list[tuple[str, float | None, npt.NDArray[np.bool_]]] = [("all", None, np.ones_like(alive, dtype=bool))]
        for (name, tau), found in results.replays.items():
            if name == system and results.study.systems[system].exits.rule:
                depth = np.concatenate([one.depth for one in found])[:, None]
                curves.append(("running", tau, (depth > layers) | (depth == layers[-1])))
        for over, tau, live in curves:
            counts = live.sum(axis=0)
            observed = np.where(counts > 0, (alive * live).sum(axis=0) / np.maximum(counts, 1), np.nan)
            rows.append(
                pd.DataFrame(
                    {
                        "task": results.task,
                        "system": system,
                        "tau": np.nan if tau is None else tau,
                        "over": over,
                        "layer": layers,
                        "scheduled": scheduled,
                        "observed": observed,
                        "n": counts,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def scheduled_retention(shape: Mapping[str, Any]) -> Floats:
    """The scheduled retention of a fixed ratio p after each layer, (L,): the product of 1 - p over the removals so far.

    NaN for a reducer that learns how many tokens to keep.
    """
    reducer = shape["reducer"]
    layers = np.arange(1, shape["layers"] + 1)
    removals = np.isin(layers, reducer.get("after", [])).cumsum()
    if reducer["kind"] != "none" and "ratio" not in reducer:
        return np.full(len(layers), np.nan)
    kept: Floats = (1.0 - float(reducer.get("ratio", 0.0))) ** removals
    return kept


def length_curve(results: Results) -> pd.DataFrame:
    """Retention at the answer against the length of the input, in bins [low, high) of about equally many texts."""
    rows = []
    for (system, tau), found in results.replays.items():
        lengths = np.concatenate([trace.lengths for trace in results.traces[system]])
        retention = np.concatenate([one.retention for one in found])
        edges = length_edges(lengths)
        number = np.searchsorted(edges, lengths, side="right") - 1
        counts = np.bincount(number)
        rows.append(
            pd.DataFrame(
                {
                    "task": results.task,
                    "system": system,
                    "tau": np.nan if tau is None else tau,
                    "chosen": results.is_chosen((system, tau)),
                    "low": edges[:-1],
                    "high": edges[1:],
                    "length_mean": np.bincount(number, lengths) / counts,
                    "retention": np.bincount(number, retention) / counts,
                    "n": counts,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def length_edges(lengths: npt.NDArray[np.integer], bins: int = LENGTH_BINS) -> npt.NDArray[np.int64]:
    """Edges of at most `bins` quantile bins; each begins at an occurring length, so that none is empty."""
    begins = np.quantile(lengths, np.arange(bins) / bins, method="lower")
    return np.append(np.unique(begins), lengths.max() + 1).astype(np.int64)


def reliability_curve(results: Results) -> pd.DataFrame:
    """The reliability diagram of every exit on the dev split, before and after calibration, seeds pooled."""
    rows = [
        {"system": system, "exit": one["exit"], "stage": one["stage"], **each}
        for system, calibrations in results.calibrations.items()
        for calibration in calibrations
        for one in calibration["exits"]
        if one["split"] == "dev"
        for each in one["reliability"]
    ]
    table = pd.DataFrame(rows).astype({"confidence": "float64", "accuracy": "float64"})
    sums = table[["confidence", "accuracy"]].mul(table["n"], axis=0).fillna(0.0).assign(n=table["n"])
    keys = ["system", "exit", "stage", "bin", "low", "high"]
    pooled = sums.groupby([table[key] for key in keys], sort=False).sum().reset_index()
    for column in ("confidence", "accuracy"):
        pooled[column] = pooled[column] / pooled["n"].where(pooled["n"] > 0)
    return pooled.assign(task=results.task)[["task", *keys, "confidence", "accuracy", "n"]]


CURVES: dict[str, Callable[[Results], pd.DataFrame]] = {
    "exits": exit_curve,
    "retention": retention_curve,
    "lengths": length_curve,
    "reliability": reliability_curve,
    "cost": cost_curve,
}
