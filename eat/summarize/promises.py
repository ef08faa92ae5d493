"""The promises of thresholds, and the observed risk on the dev split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from eat.results.replay import bad_texts
from eat.statistics import exact_interval

if TYPE_CHECKING:
    from eat.summarize.task_results import Results

COLUMNS = (
    "task", "system", "seed", "risk", "epsilon", "delta", "n", "bad", "tau", "n_dev", "bad_dev", "observed",
    "observed_low", "observed_high",
)  # fmt: skip


def promise_rows(results: Results) -> pd.DataFrame:
    """The promised and the observed risk, one row per system with a promise and seed.

    n, bad: calibration texts, and the bad ones among them at the chosen threshold (tau). n_dev, bad_dev, observed: the
    same on dev, and the share, with its exact 95 % interval.
    """
    rows = []
    for system in results.study.systems:
        spec = results.study.operating_spec(system)
        if spec.promise is None:
            continue
        for seed, trace, calibration in zip(
            results.study.seeds, results.traces[system], results.calibrations[system], strict=True
        ):
            made = calibration["promise"]
            bad, n = int(bad_texts(trace, spec, made["tau"]).sum()), len(trace.labels)
            low, high = exact_interval(bad, n)
            rows.append(
                {
                    "task": results.task,
                    "system": system,
                    "seed": seed,
                    **{key: made[key] for key in ("risk", "epsilon", "delta", "n", "tau")},
                    "bad": next((one["bad"] for one in made["tested"] if one["tau"] == made["tau"]), 0),
                    "n_dev": n,
                    "bad_dev": bad,
                    "observed": bad / n,
                    "observed_low": low,
                    "observed_high": high,
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))
