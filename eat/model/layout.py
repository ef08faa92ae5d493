"""The positions of each row's tokens in a packed batch.

A packed batch concatenates its sequences along one axis of n = sum(lengths) tokens, without padding. The lengths are
plain integers on the host, so that the number of tokens a reducer keeps is known without waiting for the device. The
index tensors of attention (to a padded view and back) are computed once and shared by all layers between two removals.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

PADDED = 1.2
"""The most cells of a padded view per token; above it, the rows are divided into groups."""

SMALLEST_GROUP = 4
"""Views with fewer rows are not divided, since a call costs as much as some padding."""


class Layout:
    """The lengths of the rows of a packed batch, and the index tensors that follow from them.

    lengths: tokens of each row, each at least 1. device: of the index tensors.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.lengths = list(lengths)
        self.device = torch.device(device)
        self.rows = len(self.lengths)
        self.tokens = sum(self.lengths)
        self.longest = max(self.lengths)

    @cached_property
    def is_uniform(self) -> bool:
        """Whether all rows are equally long, so that a padded view is a plain reshape."""
        return self.tokens == self.rows * self.longest

    @cached_property
    def starts(self) -> Tensor:
        """The index of each row's first token, which is [CLS]; int64 (B,)."""
        if self.rows == 1:
            return torch.zeros(1, dtype=torch.int64, device=self.device)
        return torch.tensor([0, *accumulate(self.lengths[:-1])], device=self.device)

    @cached_property
    def lengths_tensor(self) -> Tensor:
        """The lengths on the device; int64 (B,)."""
        return torch.tensor(self.lengths, device=self.device)

    @cached_property
    def live(self) -> Tensor:
        """Which cells of the padded view hold a token; bool (B, T)."""
        return self.live_of(self.longest)

    def live_of(self, width: int) -> Tensor:
        """Which cells of a view padded to `width` hold a token; bool (B, width)."""
        return torch.arange(width, device=self.device) < self.lengths_tensor[:, None]

    @cached_property
    def cells(self) -> Tensor:
        """The flat cell of the padded view (B * T) of each token; int64 (n,)."""
        return torch.nonzero_static(self.live.flatten(), size=self.tokens)[:, 0]

    @cached_property
    def gather(self) -> Tensor:
        """The token of each flat cell (B * T); in cells without a token, the row's last one."""
        position = torch.arange(self.longest, device=self.device).expand(self.rows, -1)
        return (self.starts[:, None] + torch.minimum(position, self.lengths_tensor[:, None] - 1)).flatten()

    @cached_property
    def row_of_token(self) -> Tensor:
        """The row each token belongs to; int64 (n,)."""
        rows = torch.arange(self.rows, device=self.device)
        return torch.repeat_interleave(rows, self.lengths_tensor, output_size=self.tokens)

    @cached_property
    def positions(self) -> Tensor:
        """The rank of each token within its row, from 0; int64 (n,)."""
        return torch.arange(self.tokens, device=self.device) - self.starts.index_select(0, self.row_of_token)

    @cached_property
    def groups(self) -> list[Layout]:
        """Adjacent rows of similar length that share a padded view, each group as a layout.

        With rows sorted by length this leaves little padding. On a GPU, where a call costs more than padding, all
        rows are one group.
        """
        if self.rows <= SMALLEST_GROUP or self.is_uniform or self.device.type != "cpu":
            return [self]
        groups: list[Layout] = []
        group: list[int] = []
        for length in [*self.lengths, None]:
            if length is None or (
                len(group) >= SMALLEST_GROUP and (len(group) + 1) * max(length, *group) > PADDED * (sum(group) + length)
            ):
                groups.append(Layout(group, self.device))
                group = []
            if length is not None:
                group.append(length)
        return groups if len(groups) > 1 else [self]

    def pad(self, packed: Tensor) -> Tensor:
        """(n, ...) to (B, T, ...); cells beyond a row's end repeat its last token and must be masked."""
        if not self.is_uniform:
            packed = packed.index_select(0, self.gather)
        return packed.view(self.rows, self.longest, *packed.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, T, ...) back to (n, ...)."""
        flat = padded.reshape(self.rows * self.longest, *padded.shape[2:])
        return flat if self.is_uniform else flat.index_select(0, self.cells)

    def first(self, packed: Tensor) -> Tensor:
        """Each row's first token, which is [CLS]; (n, d) to (B, d)."""
        return packed[:1] if self.rows == 1 else packed.index_select(0, self.starts)

    def mean(self, packed: Tensor) -> Tensor:
        """The mean of each row's tokens; (n, d) to (B, d)."""
        if self.rows == 1:
            return packed.mean(dim=0, keepdim=True)
        sums = packed.new_zeros(self.rows, packed.shape[1]).index_add(0, self.row_of_token, packed)
        return sums / self.lengths_tensor[:, None].to(packed.dtype)

    def max(self, packed: Tensor) -> Tensor:
        """The maximum of each row's tokens; (n, d) to (B, d)."""
        if self.rows == 1:
            return packed.amax(dim=0, keepdim=True)
        index = self.row_of_token[:, None].expand(-1, packed.shape[1])
        empty = packed.new_zeros(self.rows, packed.shape[1])
        return empty.scatter_reduce(0, index, packed, "amax", include_self=False)

    def keep_rows(self, rows: Sequence[int]) -> tuple[Layout, Tensor]:
        """The layout of some rows alone, and the indices (m,) of their tokens in this one."""
        layout = Layout([self.lengths[row] for row in rows], self.device)
        starts = self.starts.index_select(0, torch.tensor(rows, device=self.device))
        return layout, starts.index_select(0, layout.row_of_token) + layout.positions
