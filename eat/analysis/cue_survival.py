"""Which tokens of a text a reducer keeps, and where the tokens of a negation are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from eat.model.batch import PackedBatch
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.reducers.base import Reducer, Reduction, TokenView
from eat.model.reducers.observer import Observer, reducing_by
from eat.model.tokenizer import Encoded
from eat.progress import Progress

TOGETHER = 64
"""The texts of a batch."""


class Recorder(Observer):
    """Reduces as another reducer does, and records the positions that are kept: layer -> positions, int64 (m,)."""

    def __init__(self, observed: Reducer) -> None:
        super().__init__(observed)
        self.kept: dict[int, torch.Tensor] = {}

    def reduce(self, view: TokenView) -> Reduction | None:
        """As the observed reducer."""
        reduction = self.observed.reduce(view)
        if reduction is not None and reduction.kept is not None:
            kept = reduction.kept
            self.kept[view.depth] = kept if view.origin is None else view.origin.index_select(0, kept)
        return reduction


@dataclass(frozen=True)
class Survival:
    """The tokens of a text that are alive after each removal, at full depth.

    alive: layer of a reducer -> bool (t,), ascending. own: the positions of the negation.
    """

    alive: dict[int, npt.NDArray[np.bool_]]
    own: tuple[int, ...]

    def lost(self, layer: int) -> bool:
        """Whether no token of the negation is alive after the removal of a layer."""
        return not self.alive[layer][list(self.own)].any()

    def others_lost(self, layer: int) -> float:
        """The share of the other tokens, [CLS] and [SEP] excluded, that are not alive; 0 if there are none."""
        others = np.ones(len(self.alive[layer]), dtype=bool)
        others[[0, -1, *self.own]] = False
        return float(np.mean(~self.alive[layer][others])) if others.any() else 0.0

    def lost_by(self, depth: int, place: str) -> bool:
        """Whether the negation is lost before the head after layer `depth` reads the tokens.

        place: of the reducer. A removal at the output of a layer comes after the head of that layer.
        """
        reached = [layer for layer in self.alive if layer < depth + (place != "layer_output")]
        return bool(reached) and self.lost(reached[-1])

    @property
    def lost_at(self) -> int | None:
        """The layer of the removal by which the negation is lost; `None` if it survives."""
        return next((layer for layer in self.alive if self.lost(layer)), None)


def survivals(
    model: EatForSequenceClassification, texts: Sequence[Encoded], own: Sequence[tuple[int, ...]], name: str = ""
) -> list[Survival]:
    """What survives of each text at full depth. own: the positions of the negation in each. name: in progress lines."""
    recorder = Recorder(model.encoder.reducer)
    found: dict[int, Survival] = {}
    parts = np.array_split(np.argsort([len(text.ids) for text in texts]), -(-len(texts) // TOGETHER))
    progress = Progress("recorded the tokens of", len(texts), "texts", name)
    with torch.inference_mode(), reducing_by(model.encoder, recorder), progress:
        for rows in parts:
            recorder.kept = {}
            batch = PackedBatch.of([texts[row] for row in rows], model.device)
            model.run(batch)
            found |= _of_batch(recorder, batch, [int(row) for row in rows], own)
            progress.advance(len(rows))
    return [found[row] for row in range(len(texts))]


def _of_batch(
    recorder: Recorder, batch: PackedBatch, rows: Sequence[int], own: Sequence[tuple[int, ...]]
) -> dict[int, Survival]:
    """The row of each text of the batch -> what survives of it. rows: of the texts, in the caller's order."""
    ends = np.cumsum(batch.layout.lengths)
    alive = np.ones(ends[-1], dtype=bool)
    layers: dict[int, list[npt.NDArray[np.bool_]]] = {}
    for layer in sorted(recorder.after):
        if layer in recorder.kept:
            alive = np.isin(np.arange(ends[-1]), recorder.kept[layer].cpu().numpy())
        layers[layer] = np.split(alive, ends[:-1])
    return {
        rows[given]: Survival({layer: parts[packed] for layer, parts in layers.items()}, own[rows[given]])
        for packed, given in enumerate(batch.rows)
    }


def positions_of(tokenizer: Tokenizer, text: str, start: int, end: int, max_length: int) -> tuple[int, ...]:
    """The positions of the tokens that overlap characters start to end of a text; empty if they are cut off."""
    offsets = tokenizer.encode(text).offsets
    found = [place for place, (low, high) in enumerate(offsets) if low < end and high > start]
    # the last position of a text that is too long is that of [SEP]
    last = min(len(offsets), max_length) - 2
    return tuple(found) if found and found[-1] <= last else ()
