"""Scores of tagged sentences: F1 of entity spans, and the share of words with the right tag.

Both are 2 tp / (predicted + gold), summed over sentences: of spans that agree in type, begin and end, or of words that
agree in their tag, where predicted = gold. So the bootstrap over sentences needs three counts per sentence for either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from eat.statistics import Estimate, percentile_interval
from eat.tagging.conll import OUTSIDE

Counts = npt.NDArray[np.int64]
"""(sentences, 3): true positives, predicted, gold."""

DRAWS = 2000


def spans_of(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The spans of a sentence's tags: type, first word, last word.

    As conlleval and seqeval's default read them: an I- that continues no span of its type begins one. A model may give
    such tags; files with them are refused.
    """
    found, begin = set(), 0
    kind = ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        continues = tag.startswith("I-") and tag[2:] == kind
        if kind and not continues:
            found.add((kind, begin, place - 1))
        if not continues:
            kind, begin = tag[2:], place
    return found


def counts_of(
    answers: Sequence[Sequence[int]], gold: Sequence[Sequence[int]], tags: Sequence[str], metric: str
) -> Counts:
    """The counts of each sentence. answers, gold: the tags' numbers of each sentence's words."""
    rows = []
    for own, right in zip(answers, gold, strict=True):
        if metric == "token_accuracy":
            rows.append((int(np.equal(own, right).sum()), len(own), len(right)))
        else:
            mine, theirs = (spans_of([tags[number] for number in numbers]) for numbers in (own, right))
            rows.append((len(mine & theirs), len(mine), len(theirs)))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def score(counts: Counts) -> float:
    """2 tp / (predicted + gold) of all sentences; 0 if there is neither. counts: (..., sentences, 3)."""
    return float(_scores(counts.sum(axis=-2)))


def score_interval(counts: Sequence[Counts], other: Sequence[Counts] | None = None, seed: int = 0) -> Estimate:
    """The score with its 95 % interval, or its difference to that of another system, by a bootstrap over sentences.

    counts: of each seed, on the same sentences; the score is the mean over seeds, and a sentence is drawn with all of
    them.
    """
    own = np.stack(counts)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(own.shape[1], size=(DRAWS, own.shape[1]))
    # how often each sentence is drawn, so that the sums of a draw are a product
    weights = np.stack([np.bincount(rows, minlength=own.shape[1]) for rows in drawn])
    value, draws = _mean_scores(own, weights)
    if other is not None:
        theirs, their_draws = _mean_scores(np.stack(other), weights)
        value, draws = value - theirs, draws - their_draws
    low, high = percentile_interval(draws)
    return Estimate(value, float(low), float(high))


def _mean_scores(counts: Counts, weights: Counts) -> tuple[float, npt.NDArray[np.float64]]:
    """The mean over seeds of the score, and that of each draw; counts (S, N, 3), weights (draws, N)."""
    draws = np.mean([_scores(weights @ own) for own in counts], axis=0)
    return float(np.mean([_scores(own.sum(axis=0)) for own in counts])), draws


def _scores(sums: Counts) -> npt.NDArray[np.float64]:
    hits, both = 2.0 * sums[..., 0], sums[..., 1] + sums[..., 2]
    found: npt.NDArray[np.float64] = np.divide(hits, both, out=np.zeros_like(hits), where=both > 0)
    return found
