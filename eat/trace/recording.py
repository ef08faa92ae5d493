"""Recording a trace: one pass of a trained model over a split, at full depth, in which nobody leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eat.engines.devices import resolve_device
from eat.engines.precision import prepare, require_usable
from eat.errors import EatError, listed
from eat.model.cascade import Cascade, load_system
from eat.model.encoder import PackedBatch
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.options import Parts
from eat.model.tokenizer import Encoded, encode_split, load_tokenizer, read_split
from eat.progress import Progress
from eat.results.trace import Trace


def record_trace(
    models: Sequence[Path],
    parts: Parts,
    split: Path,
    labels: Sequence[str],
    max_length: int,
    name: str,
    device: str = "cpu",
) -> Trace:
    """Run a trained model over a split at full depth and record what it did.

    models: its folder; those of a cascade, in their order. parts: how its weights are run. labels: the
    task's, in order. name: says in the progress lines what is traced. device: where it runs; the trace records it.
    Raises `EatError` where the device is not there or refuses the precision, where the model was trained for other
    labels or in another order, which would count right answers as wrong ones, and where a logit is NaN or infinite.
    """
    where = resolve_device(device)
    require_usable(parts.precision, where)
    model = load_system(models, parts)
    trained = [model.config.id2label[index] for index in range(model.encoder.shape.classes)]
    if trained != list(labels):
        raise EatError(f"{models[0]}: answers {listed(trained)}, but the text has the labels {listed(labels)}")
    parameters = parameters_of(model)  # before the layers' become functions
    for member in model.members:
        prepare(member, parts.precision, where)
    table = read_split(split)
    texts = encode_split(load_tokenizer(models[0]), table, max_length)
    trace = trace_texts(model, texts, list(table["id"]), table["label"].to_numpy(dtype=np.int64), name)
    trace.shape.update(precision=parts.precision, device=where.type, parameters=parameters)
    return trace


def trace_texts(
    model: EatForSequenceClassification | Cascade,
    texts: Sequence[Encoded],
    ids: Sequence[str],
    labels: np.ndarray,
    name: str = "",
) -> Trace:
    """The trace of encoded texts. Rows keep their order; batches are made of texts of like length."""
    encoder = model.encoder
    count, layers = len(texts), encoder.shape.layers
    lengths = np.array([len(text.ids) for text in texts], dtype=np.int32)
    logits = {depth: np.empty((count, encoder.shape.classes), dtype=np.float32) for depth in encoder.exits}
    tokens = {key: np.empty((count, layers), dtype=np.int32) for key in ("attended", "fed", "alive")}
    cut_margin = np.full((count, layers), np.inf)
    # what is removed after a layer first changes the next one
    delay = int(encoder.reducer.place == "layer_output")
    with torch.inference_mode(), Progress("traced", count, "texts", name) as progress:
        for rows in _batches_of_like_length(lengths):
            batch = PackedBatch.of([(texts[row].ids, texts[row].types) for row in rows], model.device)
            output = encoder(batch)
            for depth, values in output.exits.items():
                logits[depth][rows] = values.float().cpu().numpy()
            for layer, work in enumerate(output.work):
                for key, column in tokens.items():
                    column[rows[work.rows], layer] = getattr(work, key)
                if work.margin is not None:
                    cut_margin[rows[work.rows], layer + delay] = work.margin.cpu().double().numpy()
            progress.advance(len(rows))
    for depth, values in logits.items():
        if not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))[0]
            raise EatError(f"{name}: the logits of exit {depth} are not finite for text {ids[bad]}; train again")
    pattern = encoder.pattern
    return Trace(
        ids=np.array(ids, dtype=object),
        labels=labels,
        lengths=lengths,
        logits=logits,
        **tokens,
        pairs=_by_length(pattern.computed_pairs, tokens["attended"]),
        pattern_pairs=_by_length(pattern.pattern_pairs, tokens["attended"]),
        cut_margin=cut_margin,
        shape=_shape_of(model),
    )


def _batches_of_like_length(lengths: np.ndarray, tokens: int = 4096) -> list[np.ndarray]:
    """Rows sorted by length, cut into batches of about so many tokens."""
    order = np.argsort(lengths, kind="stable")
    cuts = np.searchsorted(np.cumsum(lengths[order]), np.arange(tokens, int(lengths.sum()), tokens))
    return [rows for rows in np.split(order, cuts) if len(rows)]


def _by_length(pairs: Callable[[int], int], attended: np.ndarray) -> np.ndarray:
    """Apply a count of pairs by length to every entry; int64, the shape of `attended`."""
    values, inverse = np.unique(attended, return_inverse=True)
    return np.array([pairs(int(value)) for value in values], dtype=np.int64)[inverse].reshape(attended.shape)


def parameters_of(model: EatForSequenceClassification | Cascade) -> int:
    """The number of a model's parameters."""
    return sum(parameter.numel() for member in model.members for parameter in member.parameters())


def _shape_of(model: EatForSequenceClassification | Cascade) -> dict[str, Any]:
    encoder = model.encoder
    shape = encoder.shape
    config: Mapping[str, Any] = model.config.to_dict()
    return {
        "layers": shape.layers,
        "hidden": shape.hidden,
        "intermediate": shape.intermediate,
        "heads": shape.heads,
        "classes": shape.classes,
        "exits": encoder.exits,
        "read": config["read"],
        "last_head": config["last_head"],
        "reducer": config["reducer"],
        "attention": config["attention"],
        "scoring": {str(depth): list(encoder.reducer.operations()) for depth in sorted(encoder.reducer.after)},
        "scoring_place": encoder.reducer.place,
        "head_operations": {str(depth): list(encoder.head(depth).operations()) for depth in encoder.exits},
        "parameters": parameters_of(model),
        "labels": [model.config.id2label[index] for index in range(shape.classes)],
    }
