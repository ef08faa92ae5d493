"""Attention patterns over packed rows: dense, and the paper's window with a global [CLS] (section 3.2).

Padding exists only here, and only if rows of different lengths share a view (`Layout.groups`). With one row, or rows of
equal length, nothing is masked. The window counts *live* tokens, whose order never changes.

The same windowed function is computed in three ways that agree to 1e-5: as dense attention if every window covers
the whole row, with a precomputed band up to `blocked_from` tokens, and by blocks of queries beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from eat.model.layout import Layout

BLOCK = 64
"""The number of queries per block of the blocked path."""

BLOCKED_FROM = 256
"""The length above which blocks are faster than a band, measured in two threads on a CPU: from 260 [240, 321] tokens
(`eat bench growth`)."""


@dataclass(frozen=True)
class AttentionPattern:
    """The keys that a query attends to: all, or `left` and `right` neighbours and [CLS] (`window` is then set).

    blocked_from: the length above which a window is computed by blocks.
    """

    left: int = 0
    right: int = 0
    window: bool = False
    blocked_from: int = BLOCKED_FROM

    def covers(self, length: int) -> bool:
        """Whether the pattern contains all pairs of a row of `length` tokens."""
        return not self.window or length - 2 <= min(self.left, self.right)

    def pattern_pairs(self, length: int) -> int:
        """Pairs (query, key) of the pattern in one row, which an ideal kernel would compute."""
        if self.covers(length):
            return length * length
        others = length - 1
        neighbours = others + sum(max(others - distance, 0) for distance in range(1, self.left + 1))
        neighbours += sum(max(others - distance, 0) for distance in range(1, self.right + 1))
        return neighbours + 2 * length - 1

    def computed_pairs(self, length: int) -> int:
        """Pairs (query, key) that are computed for a single row."""
        if self.covers(length) or length <= self.blocked_from:
            return length * length
        blocks = -(-length // BLOCK)
        return blocks * BLOCK * (1 + self.left + BLOCK + self.right) + length

    def __call__(
        self, qkv: Tensor, layout: Layout, heads: int, dropout: float = 0.0, key_bias: Tensor | None = None
    ) -> Tensor:
        """Queries, keys and values (n, 3d) of the packed rows to contexts (n, d).

        dropout: the probability that an attention weight is dropped; 0 outside training. key_bias: (n,), added to the
        logits of each token as a key: for merged tokens the log of their number, for softly removed tokens a negative
        number.
        """
        if qkv.is_cpu and torch.is_autocast_enabled("cpu"):
            # mixed precision: on a CPU the backward pass of attention takes ten times as long in bfloat16 as in float32
            with torch.autocast("cpu", enabled=False):
                return self(qkv.float(), layout, heads, dropout, key_bias)
        groups = layout.groups
        if len(groups) == 1:
            return self._of_group(qkv, layout, heads, dropout, key_bias)
        sizes = [group.tokens for group in groups]
        parts = torch.split(qkv, sizes)  # slices would each allocate a gradient of all tokens in the backward pass
        biases = [None] * len(groups) if key_bias is None else torch.split(key_bias, sizes)
        return torch.cat(
            [
                self._of_group(part, group, heads, dropout, bias)
                for part, group, bias in zip(parts, groups, biases, strict=True)
            ]
        )

    def _of_group(self, qkv: Tensor, layout: Layout, heads: int, dropout: float, key_bias: Tensor | None) -> Tensor:
        """The contexts of rows that share a padded view; (n, 3d) to (n, d)."""
        query, key, value = _split_heads(qkv, layout, heads)
        if self.covers(layout.longest) or layout.longest <= self.blocked_from:
            mask = self.mask(layout, qkv.dtype, key_bias)
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        else:
            context = self._blocked(query, key, value, layout, dropout, key_bias)
        # concatenate heads: (B, T, h, d / h) is (B, T, d)
        return layout.unpad(context.transpose(1, 2).flatten(2))

    def mask(self, layout: Layout, dtype: torch.dtype, key_bias: Tensor | None = None) -> Tensor | None:
        """The additive mask of the padded view, (B or 1, 1, T or 1, T); `None` if nothing is masked."""
        mask = self._mask(layout, dtype)
        if key_bias is None:
            return mask
        bias = layout.pad(key_bias.to(dtype))[:, None, None, :]
        return bias if mask is None else mask + bias

    def _mask(self, layout: Layout, dtype: torch.dtype) -> Tensor | None:
        """The mask from the pattern and the lengths."""
        length, device = layout.longest, layout.device
        if layout.is_uniform and self.covers(length):
            return None
        band = None if self.covers(length) else _band(length, self.left, self.right, device, dtype)
        if layout.is_uniform:
            return band
        padding = torch.zeros(layout.live.shape, dtype=dtype, device=device)
        padding = padding.masked_fill_(~layout.live, float("-inf"))[:, None, None, :]
        return padding if band is None else padding + band

    def received(
        self, qkv: Tensor, layout: Layout, heads: int, key_bias: Tensor | None = None, own_query: bool = True
    ) -> Tensor:
        """The attention each token receives, averaged over heads and the live queries of its row; (n,).

        Computed from the probabilities before dropout. A row's scores sum to 1. own_query: whether a token's attention
        to itself counts; without it the sum is less than 1.
        """
        scores = attention_scores(qkv, layout, heads)
        mask = self.mask(layout, qkv.dtype, key_bias)
        probabilities = torch.softmax(scores if mask is None else scores + mask, dim=-1).mean(dim=1)  # (B, T, T)
        if not own_query:
            probabilities = probabilities - torch.diag_embed(probabilities.diagonal(dim1=1, dim2=2))
        if not layout.is_uniform:
            probabilities = probabilities * layout.live[:, :, None]
        return layout.unpad(probabilities.sum(dim=1) / layout.lengths_tensor[:, None])

    def _blocked(
        self, query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: float, key_bias: Tensor | None
    ) -> Tensor:
        """The window by blocks of queries, each with its own stretch of keys and [CLS]; (B, h, T, d / h)."""
        rows, heads, length, width = query.shape
        blocks = -(-length // BLOCK)
        tail = blocks * BLOCK - length
        stretch = self.left + BLOCK + self.right

        def stretches(x: Tensor) -> Tensor:  # (B, h, T, w) -> (B * blocks, h, 1 + stretch, w), [CLS] first
            windows = F.pad(x, (0, 0, self.left, self.right + tail)).unfold(2, stretch, BLOCK).transpose(3, 4)
            first = x[:, :, :1].unsqueeze(2).expand(-1, -1, blocks, -1, -1)
            return torch.cat([first, windows], dim=3).transpose(1, 2).flatten(0, 1)

        queries = F.pad(query, (0, 0, 0, tail)).view(rows, heads, blocks, BLOCK, width).transpose(1, 2).flatten(0, 1)
        mask = _block_mask(length, self.left, self.right, layout.device)  # (blocks, BLOCK, 1 + stretch)
        mask = mask.expand(rows, -1, -1, -1)
        if not layout.is_uniform:
            ends = layout.lengths_tensor[:, None, None, None]
            keys = _block_keys(blocks, self.left, stretch, layout.device)  # (blocks, 1 + stretch)
            mask = mask & (keys[None, :, None, :] < ends)
        mask = mask.flatten(0, 1)[:, None]  # (B * blocks, 1, BLOCK, 1 + stretch)
        everything = None if layout.is_uniform else layout.live[:, None, None, :]
        if key_bias is not None:
            bias = layout.pad(key_bias.to(query.dtype))[:, None, :, None]  # (B, 1, T, 1)
            mask = torch.where(mask, stretches(bias).transpose(2, 3), float("-inf"))
            every_bias = bias.transpose(2, 3)
            everything = every_bias if everything is None else torch.where(everything, every_bias, float("-inf"))
        context = F.scaled_dot_product_attention(
            queries, stretches(key), stretches(value), attn_mask=mask, dropout_p=dropout
        )
        context = context.view(rows, blocks, heads, BLOCK, width).transpose(1, 2).reshape(rows, heads, -1, width)
        cls = F.scaled_dot_product_attention(query[:, :, :1], key, value, attn_mask=everything, dropout_p=dropout)
        return torch.cat([cls, context[:, :, 1:length]], dim=2)


DENSE = AttentionPattern()


def attention_scores(qkv: Tensor, layout: Layout, heads: int) -> Tensor:
    """Q K^T / sqrt(d / h) of the padded view, before mask and softmax; (n, 3d) to (B, h, T, T)."""
    query, key, _ = _split_heads(qkv, layout, heads)
    scores: Tensor = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    return scores


def _split_heads(qkv: Tensor, layout: Layout, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 3d) to query, key, value of the padded view, each (B, h, T, d / h)."""
    padded = layout.pad(qkv)
    query, key, value = padded.view(*padded.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return query, key, value


@lru_cache(maxsize=1024)
def _band(length: int, left: int, right: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """0 within the window and in the row and column of [CLS], -inf elsewhere; (T, T)."""
    with torch.inference_mode(False):  # a mask cached during tracing must also work in a backward pass
        position = torch.arange(length, device=device)
        distance = position[None, :] - position[:, None]
        seen = (distance >= -left) & (distance <= right)
        seen[0, :] = True
        seen[:, 0] = True
        return torch.zeros(length, length, dtype=dtype, device=device).masked_fill_(~seen, float("-inf"))


@lru_cache(maxsize=64)
def _block_keys(blocks: int, left: int, stretch: int, device: torch.device) -> Tensor:
    """The position of every key of every block, [CLS] first; (blocks, 1 + stretch)."""
    with torch.inference_mode(False):
        keys = torch.arange(blocks, device=device)[:, None] * BLOCK - left + torch.arange(stretch, device=device)
        return torch.cat([keys.new_zeros(blocks, 1), keys], dim=1)


@lru_cache(maxsize=64)
def _block_mask(length: int, left: int, right: int, device: torch.device) -> Tensor:
    """The keys that a query of a block attends to; bool (blocks, BLOCK, 1 + stretch). [CLS] is in the first column."""
    blocks = -(-length // BLOCK)
    stretch = left + BLOCK + right
    keys = _block_keys(blocks, left, stretch, device)[:, 1:]
    with torch.inference_mode(False):
        queries = torch.arange(blocks * BLOCK, device=device).view(blocks, BLOCK)
        distance = keys[:, None, :] - queries[:, :, None]
        seen = (distance >= -left) & (distance <= right) & (keys > 0)[:, None, :] & (keys < length)[:, None, :]
        return torch.cat([seen.new_ones(blocks, BLOCK, 1), seen], dim=2)
