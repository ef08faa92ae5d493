"""The promises of thresholds, and the observed risk on the dev split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from eat.results.calibrated import promised_of
from eat.results.columns import PROMISE_COLUMNS
from eat.results.replay import bad_texts
from eat.statistics import exact_interval

if TYPE_CHECKING:
    from eat.summarize.task_results import Results


def promise_rows(results: Results) -> pd.DataFrame:
    """The promised and the observed risk, one row per system with a promise and seed.

    n, bad: calibration texts, and the bad ones among them at the chosen threshold (tau). n_dev, bad_dev, observed: the
    same on dev, and the share, with its exact 95 % interval.
    """
    rows = []
    for system in results.study.systems:
        spec = results.study.operating_spec(system)
        if spec.promise is None and spec.choose.by != "disagreement":
            continue
        for seed, trace, calibration in zip(
            results.study.seeds, results.traces[system], results.calibrations[system], strict=True
        ):
            made = calibration["promise"]
            bad, n = int(bad_texts(trace, spec, promised_of(calibration)).sum()), len(trace.labels)
            low, high = exact_interval(bad, n)
            rows.append(
                {
                    "task": results.task,
                    "system": system,
                    "seed": seed,
                    **{key: made[key] for key in ("risk", "epsilon", "delta", "n", "bad")},
                    **_thresholds(made["tau"]),
                    "n_dev": n,
                    "bad_dev": bad,
                    "observed": bad / n,
                    "observed_low": low,
                    "observed_high": high,
                }
            )
    return pd.DataFrame(rows, columns=list(PROMISE_COLUMNS))


def _thresholds(tau: Any) -> dict[str, Any]:
    """The columns tau and thresholds: one threshold is a number, different ones are JSON, layer -> threshold."""
    different = isinstance(tau, Mapping) and len(set(tau.values())) > 1
    return {
        "tau": None if different else next(iter(tau.values())) if isinstance(tau, Mapping) else tau,
        "thresholds": json.dumps(tau) if different else None,
    }
