"""The trace of a tagger: its answers and its work for every sentence, at every operating point.

A halted word changes the hidden states of the words that go on. So no pass at full depth tells what another threshold
would do, and the trace is one forward pass per operating point, sentence by sentence: the same call that is timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from eat.errors import DamagedFile
from eat.files import read_json, read_table, write_json, write_table
from eat.model.operations import layer_operations
from eat.model.tokenizer import load_tokenizer
from eat.progress import Progress
from eat.study.tagging import Point, TaggingExits
from eat.tagging.forward import Halting, Tagged, tag
from eat.tagging.model import load_tagger
from eat.tagging.sentences import Pieces, SentenceBatch, read_sentences_split

COLUMNS = ("tau", "window", "id", "answers", "depths", "computed", "tokens", "read", "margin")


def halting_at(exits: TaggingExits, point: Point) -> Halting:
    """The operating point of a system's exits."""
    return Halting(exits.rule, tuple(sorted(exits.after)), *point)


def record_trace(model: Path, exits: TaggingExits, split: Path, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Tag the sentences of a split at every operating point.

    Returns a row for each point and sentence, and the model's shape. answers, depths: of each word; computed: the
    tokens whose queries and feed-forward part each executed layer computed; tokens: word pieces with [CLS] and [SEP],
    the keys of every executed layer; read: words that heads classified; margin: as `Tagged`.
    name: printed in progress lines.
    """
    tagger = load_tagger(model)
    table = read_sentences_split(split)
    batches = batches_of(model, table["words"].tolist())
    points = exits.points()
    rows = []
    with torch.inference_mode(), Progress("tagged", len(points) * len(batches), "sentences", name) as progress:
        for point in points:
            halting = halting_at(exits, point)
            for sentence, batch in zip(table["id"], batches, strict=True):
                found = tag(tagger, batch, halting, records_margin=True)
                rows.append((*point, sentence, *_cells(found), batch.packed.layout.tokens, found.read, found.margin))
                progress.advance()
    shape = {key: value for key, value in asdict(tagger.shape).items() if isinstance(value, int)}
    return pd.DataFrame(rows, columns=list(COLUMNS)), {"shape": shape, "tags": tagger.tags, "exits": tagger.exits}


def batches_of(model: Path, sentences: Sequence[Sequence[str]]) -> list[SentenceBatch]:
    """A batch of each sentence alone, by the tokenizer in the model's folder."""
    pieces = Pieces(load_tokenizer(model))
    return [SentenceBatch.of([pieces.encode(words)]) for words in sentences]


def _cells(found: Tagged) -> tuple[list[int], list[int], list[int]]:
    return found.answers.tolist(), found.depth.tolist(), [work.computed for work in found.work]


def write_trace(path: Path, trace: pd.DataFrame, shape: dict[str, Any]) -> None:
    """Write a trace, and its shape beside it."""
    write_table(path, trace)
    write_json(path.with_suffix(".json"), shape)


def read_trace(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What `write_trace` wrote. Raises `DamagedFile` if it is not whole."""
    trace = read_table(path, required=COLUMNS)
    if trace.duplicated(["tau", "window", "id"]).any():
        raise DamagedFile(f"{path}: a sentence appears twice at an operating point; delete it and run again")
    return trace, read_json(path.with_suffix(".json"))


def rows_at(table: pd.DataFrame, point: Point) -> pd.DataFrame:
    """The rows of one operating point of any table with the columns tau and window."""
    tau, window = point
    same = table["tau"].isna() if np.isnan(tau) else table["tau"] == tau
    return table[same & (table["window"] == window)]


def at_point(trace: pd.DataFrame, point: Point) -> pd.DataFrame:
    """The rows of a trace at one operating point, by the sentence's id."""
    return rows_at(trace, point).set_index("id")


def flops_of(trace: pd.DataFrame, shape: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Floating-point operations of each row; float64 (rows,). A multiply-add is two operations.

    A layer with t tokens, of which m are computed, costs 4 d e m (queries, outputs) + 4 d e t (keys, values) + 4 e m t
    (scores, contexts) + 4 d i m (feed-forward); a head 2 d C per word that it classifies. With m = t this is
    `eat.model.operations.layer_operations`.
    """
    sizes = shape["shape"]
    hidden = sizes["hidden"]
    width, inner = (
        np.array(float(size)) for size in (sizes["heads"] * sizes["head_size"] or hidden, sizes["intermediate"])
    )
    found = []
    for computed, tokens, read in zip(trace["computed"], trace["tokens"], trace["read"], strict=True):
        own = np.asarray(computed, dtype=np.float64)
        # half of the four projections, 8 d e, are of all tokens
        layers = layer_operations(hidden, width, inner, (own + tokens) / 2.0, own, own * tokens)
        found.append(float(layers.sum()) + 2.0 * hidden * len(shape["tags"]) * read)
    return np.array(found)
