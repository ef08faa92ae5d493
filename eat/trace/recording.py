"""Recording a trace: one pass of a trained model over a split, at full depth, in which no text exits early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from eat.engines.devices import resolve_device
from eat.engines.engine import LoadedModel
from eat.engines.registry import engine_of, require_usable
from eat.errors import EatError, listed
from eat.model.options import Parts
from eat.model.tokenizer import Encoded, encode_split, load_tokenizer, read_split
from eat.progress import Progress
from eat.results.trace import Trace

BATCH_TOKENS = 4096


def record_trace(
    models: Sequence[Path],
    parts: Parts,
    split: Path,
    labels: Sequence[str],
    max_length: int,
    name: str,
    device: str = "cpu",
) -> Trace:
    """Run a trained model over a split at full depth and record its outputs.

    models: its folder; for a cascade, those of its systems in order. parts: those with which its weights are run.
    labels: the task's, in order. name: printed in progress lines. device: on which it runs; the trace records it.
    Raises `EatError` if the device is not available or does not support the precision, if the model was trained for
    other labels or in another order, and if a logit is NaN or infinite.
    """
    where = resolve_device(device)
    require_usable(parts.engine, parts.precision, where)
    model = engine_of(parts.engine).load(models, parts, where)
    if model.labels != list(labels):
        raise EatError(f"{models[0]}: answers {listed(model.labels)}, but the text has the labels {listed(labels)}")
    table = read_split(split)
    texts = encode_split(load_tokenizer(models[0]), table, max_length)
    return trace_texts(model, texts, list(table["id"]), table["label"].to_numpy(dtype=np.int64), name)


def trace_texts(
    model: LoadedModel, texts: Sequence[Encoded], ids: Sequence[str], labels: np.ndarray, name: str = ""
) -> Trace:
    """The trace of encoded texts. Rows keep their order; batches have texts of similar length."""
    count = len(texts)
    lengths = np.array([len(text.ids) for text in texts], dtype=np.int32)
    classes = len(model.labels)
    logits = {depth: np.empty((count, classes), dtype=np.float32) for depth in model.exits}
    tokens = {key: np.empty((count, model.layers), dtype=np.int32) for key in ("attended", "fed", "alive")}
    cut_margin = np.full((count, model.layers), np.inf)
    with torch.inference_mode(), Progress("traced", count, "texts", name) as progress:
        for rows in _batches_of_like_length(lengths):
            found = model.full_depth([texts[row] for row in rows])
            for depth, values in found.logits.items():
                logits[depth][rows] = values
            for key, column in tokens.items():
                column[rows] = getattr(found, key)
            cut_margin[rows] = found.cut_margin
            progress.advance(len(rows))
    for depth, values in logits.items():
        if not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))[0]
            raise EatError(f"{name}: the logits of exit {depth} are not finite for text {ids[bad]}; train again")
    return Trace(
        ids=np.array(ids, dtype=object),
        labels=labels,
        lengths=lengths,
        logits=logits,
        **tokens,
        pairs=_by_length(lambda length: model.pairs(length)[0], tokens["attended"]),
        pattern_pairs=_by_length(lambda length: model.pairs(length)[1], tokens["attended"]),
        cut_margin=cut_margin,
        shape=model.shape(),
    )


def _batches_of_like_length(lengths: np.ndarray, tokens: int = BATCH_TOKENS) -> list[np.ndarray]:
    """Rows sorted by length, divided into batches of about `tokens` tokens."""
    order = np.argsort(lengths, kind="stable")
    cuts = np.searchsorted(np.cumsum(lengths[order]), np.arange(tokens, int(lengths.sum()), tokens))
    return [rows for rows in np.split(order, cuts) if len(rows)]


def _by_length(pairs: Callable[[int], int], attended: np.ndarray) -> np.ndarray:
    """Apply a count of pairs by length to every entry; int64, the shape of `attended`."""
    values, inverse = np.unique(attended, return_inverse=True)
    return np.array([pairs(int(value)) for value in values], dtype=np.int64)[inverse].reshape(attended.shape)
