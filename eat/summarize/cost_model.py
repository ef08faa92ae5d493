"""The paper's cost model against measured time: equations (4) and (5), fitted to dense times, predict adaptive times.

In equation (4) a layer costs alpha T^2 + beta T for T tokens, in equation (5) an adaptive model costs
alpha' T_l k + beta T_l for each layer that a text reaches, with the tokens alive there. The coefficients are fitted
only to the times of the dense model, so the times with removals and exits are predictions. Neither equation has a
constant cost per layer: `with_overhead` adds gamma for each executed layer, which shows the effect of the omission.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.errors import EatError
from eat.results.columns import COST_COLUMNS, COST_MODELS, LENGTHS_NEEDED
from eat.statistics import Estimate, nonnegative_fit

if TYPE_CHECKING:
    from eat.summarize.task_results import Results

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CostModel:
    """The cost of a layer: alpha ms per attended pair of tokens, beta ms per token, and gamma ms per layer."""

    alpha: float
    beta: float
    gamma: float = 0.0

    def predict(
        self, pairs: npt.NDArray[np.integer], tokens: npt.NDArray[np.integer], depth: npt.NDArray[np.integer]
    ) -> Floats:
        """Milliseconds of each text; (N,).

        pairs, tokens: of each layer (N, L), attended pairs and tokens that enter it. depth: layers executed (N,).
        Summed over texts this is equation (5), with the pattern's pairs instead of T_l k, and 1 for each layer that a
        text reached instead of its probability.
        """
        executed = np.arange(1, pairs.shape[1] + 1) <= depth[:, None]
        layers = self.gamma + self.alpha * pairs + self.beta * tokens
        predicted: Floats = np.where(executed, layers, 0.0).sum(axis=1)
        return predicted


def fit_dense(lengths: npt.NDArray[np.integer], ms: Floats, layers: int, with_overhead: bool) -> CostModel:
    """The non-negative coefficients of equation (4) with the smallest relative error on the dense model's times.

    lengths: tokens of each timed text (N,). ms: its time at batch 1 (N,). Raises `EatError` for texts of fewer
    different lengths than there are coefficients.
    """
    coefficients = LENGTHS_NEEDED if with_overhead else LENGTHS_NEEDED - 1
    if len(np.unique(lengths)) < coefficients:
        raise EatError(
            f"the timed texts have {len(np.unique(lengths))} different lengths; equation (4) needs {coefficients}: "
            "raise timing.texts"
        )
    tokens = lengths.astype(np.float64)
    terms = np.stack([tokens**2, tokens, np.ones_like(tokens)][:coefficients], axis=1) * layers
    return CostModel(*map(float, nonnegative_fit(terms, ms)))


def exponent(lengths: npt.NDArray[np.integer], values: Floats) -> Estimate:
    """The power c of the length by which values grow, values = b T^c, with its 95 % interval.

    By least squares of the logarithms, the interval by Student's t. lengths: tokens of each text (N,), of at least two
    different lengths. values: above 0 (N,).
    """
    from scipy.stats import linregress, t

    fit = linregress(np.log(lengths), np.log(values))
    room = float(t.ppf(0.975, len(values) - 2)) * fit.stderr
    return Estimate(float(fit.slope), float(fit.slope - room), float(fit.slope + room))


def cost_curve(results: Results) -> pd.DataFrame:
    """Predicted and observed mean time per text at batch 1, for every packed operating point in the dense precision.

    One row per point and model (`equation 5`, and `with overhead`); values are means over seeds, each with its own
    coefficients. error = predicted / observed - 1. A text's time is the median of its repeats. The exponents are those
    of the length by which a text's time and its FLOPs grow. Empty if the timed texts have fewer than three different
    lengths, for example because all are cut to one length.
    """
    precision = results.precisions[results.study.reference]
    calls = results.timing[results.timing["batch_size"] == 1]
    rows = []
    for number, seed in enumerate(results.study.seeds):
        timed_here = calls[calls["seed"] == seed].groupby(["system", "tau"], dropna=False)
        times = {_point(key): own.groupby("unit", sort=False)["ms"].median() for key, own in timed_here}
        dense = results.traces[results.study.reference][number]
        place = {text: row for row, text in enumerate(dense.ids)}
        reference = times[results.reference]
        timed = np.array([place[text] for text in reference.index])
        if len(np.unique(dense.lengths[timed])) < LENGTHS_NEEDED:
            return pd.DataFrame(columns=list(COST_COLUMNS))
        layers = int(dense.shape["layers"])
        for name, with_overhead in COST_MODELS.items():
            model = fit_dense(dense.lengths[timed], reference.to_numpy(), layers, with_overhead)
            for (system, tau), replays in results.replays.items():
                if (system, tau) not in times or results.precisions[system] != precision:
                    continue
                trace, own = results.traces[system][number], times[system, tau]
                at = np.array([place[text] for text in own.index])
                predicted = model.predict(trace.pattern_pairs[at], trace.fed[at], replays[number].depth[at])
                rows.append(
                    {
                        "system": system,
                        "tau": tau,
                        "model": name,
                        **asdict(model),
                        "observed_ms": own.mean(),
                        "predicted_ms": predicted.mean(),
                        **exponent(dense.lengths[at], own.to_numpy()).columns("exponent_ms"),
                        "exponent_flops": exponent(dense.lengths[at], replays[number].flops[at]).value,
                        "n": len(own),
                    }
                )
    table = pd.DataFrame(rows).astype({"tau": "float64"})
    table = table.groupby(["system", "tau", "model"], dropna=False, sort=False).mean().reset_index()
    return table.assign(task=results.task, error=table["predicted_ms"] / table["observed_ms"] - 1)[list(COST_COLUMNS)]


def _point(key: tuple[object, ...]) -> tuple[str, float | None]:
    system, tau = str(key[0]), float(str(key[1]))
    return system, None if np.isnan(tau) else tau
