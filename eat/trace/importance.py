"""Does a score of importance find the tokens that matter? Its rank correlation with gradient saliency.

Each system that scores tokens runs at full depth with nothing removed, and its scores are recorded at each of its
places. Saliency is gradient x input of the dense reference for the true class (`eat.model.saliency`), the same for all
systems. Spearman's rho is computed within a text, over the tokens that may be removed, and averaged over texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eat.engines.devices import resolve_device
from eat.model.batch import PackedBatch
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.reducers.base import Reducer, Reduction, TokenView
from eat.model.reducers.observer import Observer, reducing_by
from eat.model.saliency import saliency_of_texts
from eat.model.tokenizer import Encoded, encode_split, load_tokenizer, read_split
from eat.progress import Progress
from eat.results.columns import IMPORTANCE_COLUMNS
from eat.statistics import Estimate, proportion_interval

if TYPE_CHECKING:
    from eat.study.study import Study


FEWEST = 4
"""The fewest unprotected tokens of a text; with fewer, ranks are unreliable."""


class Listener(Observer):
    """Records a reducer's scores, and removes no tokens."""

    def __init__(self, observed: Reducer) -> None:
        super().__init__(observed)
        self.heard: dict[int, tuple[Tensor, Tensor]] = {}

    def reduce(self, view: TokenView) -> Reduction | None:
        """Record the scores of all tokens (n,) of the layer, and which of them may be removed."""
        self.heard[view.depth] = self.observed.importance(view).float(), ~self.protected(view)
        return None


def scores_by_layer(model: EatForSequenceClassification, text: Encoded) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The scores of the model's reducer for a text: layer -> scores (t,), and which tokens may be removed."""
    listener = Listener(model.encoder.reducer)
    with torch.inference_mode(), reducing_by(model.encoder, listener):
        model.run(PackedBatch.of([text], model.device))
    return {depth: (scores.cpu().numpy(), free.cpu().numpy()) for depth, (scores, free) in listener.heard.items()}


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho, ties by their mean rank; 0 if all values of one are equal."""
    from scipy.stats import spearmanr

    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return 0.0
    return float(spearmanr(first, second).statistic)


def correlations(
    model: EatForSequenceClassification, texts: Sequence[Encoded], saliency: Sequence[Tensor], name: str = ""
) -> dict[int, list[float]]:
    """Layer -> rho of each text that has enough tokens. saliency: the saliency of each text's tokens."""
    found: dict[int, list[float]] = {depth: [] for depth in sorted(model.encoder.reducer.after)}
    with Progress("scored", len(texts), "texts", name) as progress:
        for text, judged in zip(texts, saliency, strict=True):
            for depth, (scores, free) in scores_by_layer(model, text).items():
                if free.sum() >= FEWEST:
                    found[depth].append(rank_correlation(scores[free], judged.numpy()[free]))
            progress.advance()
    return found


def compare_importance(
    study: Study, task: str, models: dict[tuple[str, int], Path], dev: Path, texts: int
) -> pd.DataFrame:
    """The table of a task: a row for each system that scores tokens, seed and layer.

    models: (system, seed) -> folder, including the reference. texts: the number of dev texts, from the first on. They
    run on the device of the study's traces. rho is a mean over n texts, with a 95 % interval (see `_mean_of`); both are
    NaN if n is below 2. Raises `EatError` if the device is not available.
    """
    device = resolve_device(study.trace_device, "trace.device")
    table = read_split(dev).iloc[:texts]
    labels = [int(label) for label in table["label"]]
    rows: list[dict[str, Any]] = []
    for seed in study.seeds:
        folder = models[study.reference, seed]
        reference = load_model(folder, study.parts(study.reference)).to(device)
        encoded = encode_split(load_tokenizer(folder), table, study.tasks[task].max_length)
        saliency = saliency_of_texts(reference, encoded, labels, f"{task} saliency")
        for system in scoring_systems(study):
            model = load_model(models[system, seed], study.parts(system)).to(device)
            kind = study.systems[system].reducer.kind
            for depth, found in correlations(model, encoded, saliency, f"{task}/{system}").items():
                mean = _mean_of(found)
                key = {"task": task, "system": system, "seed": seed, "kind": kind, "layer": depth}
                rows.append(key | {"n": len(found), "rho": mean.value, "rho_low": mean.low, "rho_high": mean.high})
    return pd.DataFrame(rows, columns=list(IMPORTANCE_COLUMNS))


def _mean_of(values: Sequence[float]) -> Estimate:
    """The mean of correlations, with its 95 % interval by the normal approximation.

    If all values are equal, they show no spread. The interval is then Wilson's, as if -1 and 1 were the two outcomes of
    a trial, which is the widest possible for a mean of this many values.
    """
    if len(values) < 2:
        return Estimate(math.nan, math.nan, math.nan)
    mean, n = float(np.mean(values)), len(values)
    if min(values) == max(values):
        low, high = proportion_interval(n * (1 + mean) / 2, n)
        return Estimate(mean, 2 * low - 1, 2 * high - 1)
    half = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half)


def scoring_systems(study: Study) -> list[str]:
    """The systems whose reducer has a score of importance; of several with equal scores, the trained one.

    Rows with the same weights, reducer and attention have equal scores, with any exits and precision.
    """
    found: dict[str, str] = {}
    for name, row in sorted(study.systems.items(), key=lambda item: item[1].weights_of is not None):
        if row.reducer.kind != "none" and row.reducer.scores:
            score = (study.models_of(name), row.reducer.model_dump(), row.attention.model_dump())
            found.setdefault(repr(score), name)
    return list(found.values())
