"""A forward pass of one text in segments of fixed shapes, which a CUDA graph can capture (`eat.engines.graphs`).

A text is padded to a *bucket*, the next of a few lengths. Attention masks the padding, and the heads leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from eat.model.batch import PackedBatch
from eat.model.encoder import EncoderLayer, PackedEncoder
from eat.model.layout import Layout
from eat.model.tokenizer import Encoded

BUCKETS = (8, 16, 32, 64, 128, 256, 512)
"""The lengths to which texts are padded, ascending; multiples of 8, which the kernels of attention need for a mask."""


def buckets_of(positions: int) -> tuple[int, ...]:
    """The buckets of a model with this number of positions."""
    return tuple(bucket for bucket in BUCKETS if bucket <= positions)


def bucket_of(length: int, buckets: Sequence[int]) -> int | None:
    """The smallest bucket that holds `length` tokens; `None` if none does. buckets: ascending."""
    return next((bucket for bucket in buckets if length <= bucket), None)


class PaddedLayout(Layout):
    """One text in a view of `bucket` cells.

    length: the number of its tokens, on the device, so that the same captured kernels serve every length; int64 (1,).
    A head that reads it leaves out the padding.
    """

    def __init__(self, bucket: int, length: Tensor) -> None:
        super().__init__([bucket], length.device)
        self._length = length

    @cached_property
    def is_uniform(self) -> bool:
        """False: the cells after the text are padding."""
        return False

    @cached_property
    def lengths_tensor(self) -> Tensor:
        """As `Layout`."""
        return self._length

    def pad(self, packed: Tensor) -> Tensor:
        """As `Layout`; the padding is there already."""
        return packed.view(1, *packed.shape)

    def unpad(self, padded: Tensor) -> Tensor:
        """As `Layout`; the padding stays."""
        return padded.reshape(self.longest, *padded.shape[2:])

    def mean(self, packed: Tensor) -> Tensor:
        """The mean of the text's tokens; (bucket, d) to (1, d)."""
        live = torch.where(self.live[0][:, None], packed, 0.0)
        return (live.sum(dim=0, keepdim=True, dtype=torch.float32) / self._length).to(packed.dtype)

    def max(self, packed: Tensor) -> Tensor:
        """The maximum of the text's tokens; (bucket, d) to (1, d)."""
        return torch.where(self.live[0][:, None], packed, float("-inf")).amax(dim=0, keepdim=True)


@dataclass(frozen=True)
class Segment:
    """The layers `first` to `last`, from 1; the first segment also embeds. has_head: whether the exit after `last` is
    evaluated."""

    first: int
    last: int
    has_head: bool


def segments_of(encoder: PackedEncoder, may_exit: bool) -> list[Segment]:
    """The segments of a forward pass: each ends at an exit (only the last one, unless texts may exit) or a removal."""
    last = len(encoder.layers)
    heads = {*encoder.exits} if may_exit else {last}
    ends = sorted(heads | {depth for depth in encoder.reducer.after if depth < last})
    return [Segment(start + 1, end, end in heads) for start, end in zip([0, *ends], ends, strict=False)]


class Cells:
    """The buffers of a bucket, at fixed addresses: what the host writes, and the state between two segments.

    inputs: ids, segment ids and the length, one after another, int64 (2 bucket + 1). hidden: (bucket, d). logits: of
    the last evaluated head, float32 (1, C).
    """

    def __init__(self, bucket: int, encoder: PackedEncoder, device: torch.device) -> None:
        shape, weight = encoder.shape, encoder.embeddings.token.weight
        self.bucket = bucket
        self._host = torch.zeros(2 * bucket + 1, dtype=torch.int64, pin_memory=device.type == "cuda")
        self.inputs = torch.zeros(2 * bucket + 1, dtype=torch.int64, device=device)
        self.ids, self.types = self.inputs[:bucket], self.inputs[bucket : 2 * bucket]
        self.length = self.inputs[2 * bucket :]
        self.hidden = torch.zeros(bucket, shape.hidden, dtype=weight.dtype, device=device)
        self.logits = torch.zeros(1, shape.classes, dtype=torch.float32, device=device)

    def load(self, text: Encoded) -> None:
        """Send a text to the device. The padding keeps ids of an earlier text, which nothing reads."""
        length = len(text.ids)
        self._host[:length] = text.ids
        self._host[self.bucket : self.bucket + length] = text.types
        self._host[-1] = length
        # every call waits for the device before it returns, so the host's buffer is free again
        self.inputs.copy_(self._host, non_blocking=True)

    def take(self, hidden: Tensor) -> None:
        """Continue with these tokens; (m, d)."""
        self.hidden[: len(hidden)] = hidden
        self.length.fill_(len(hidden))


def run_segment(encoder: PackedEncoder, segment: Segment, cells: Cells) -> None:
    """Run a segment from the buffers of a bucket into them; every operation has a fixed shape."""
    padded = PaddedLayout(cells.bucket, cells.length)
    hidden = cells.hidden
    if segment.first == 1:
        hidden = encoder.embeddings(PackedBatch(cells.ids, cells.types, padded))
    # padding as a bias of the keys, computed once for all layers: attention then treats the bucket as a full text
    bias = torch.zeros(cells.bucket, dtype=hidden.dtype, device=hidden.device)
    bias = bias.masked_fill(~padded.live[0], float("-inf"))
    full = Layout([cells.bucket], cells.length.device)
    for depth in range(segment.first, segment.last + 1):
        layer = encoder.layers[depth - 1]
        assert isinstance(layer, EncoderLayer)
        # the last layer may go on with [CLS] alone, which the head then reads
        hidden, _ = layer.attend(hidden, full, encoder.pattern, bias, encoder.ends_with_first(depth))
        hidden = layer.feed(hidden)
    if segment.last < len(encoder.layers):
        cells.hidden.copy_(hidden)
    if segment.has_head:
        cells.logits.copy_(encoder.head(segment.last)(hidden, padded))
