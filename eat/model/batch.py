"""A batch of texts, packed: the input of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eat.model.layout import Layout


@dataclass(frozen=True)
class PackedBatch:
    """Token ids and segment ids of all rows, concatenated; int64 (n,) each, with the layout of the rows.

    order: the caller's number of each packed row, if they are packed in another order. The results of a forward pass
    are in the caller's order.
    saliency: the saliency of each token (n,), for training a reducer that learns from it.
    """

    ids: Tensor
    types: Tensor
    layout: Layout
    order: list[int] | None = None
    saliency: Tensor | None = None

    @property
    def rows(self) -> list[int]:
        """The caller's number of each packed row."""
        return list(range(self.layout.rows)) if self.order is None else self.order

    @classmethod
    def of(cls, texts: Sequence[tuple[Tensor, Tensor]], device: torch.device | str = "cpu") -> PackedBatch:
        """Pack (ids, types) of each text, int64 (t,); the shortest first, so that attention pads little."""
        if len(texts) == 1:
            ids, types = texts[0]
            return cls(ids.to(device), types.to(device), Layout([len(ids)], device))
        order = shortest_first([len(ids) for ids, _ in texts])
        ids, types = (torch.cat([texts[row][part] for row in order]).to(device) for part in (0, 1))
        return cls(ids, types, Layout([len(texts[row][0]) for row in order], device), order)


def shortest_first(lengths: Sequence[int]) -> list[int]:
    """The rows sorted by length; rows of equal length keep their order."""
    return sorted(range(len(lengths)), key=lengths.__getitem__)
