"""Selection of tokens by scores and counts, or by a flag per token; sums and softmax over rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eat.model.layout import Layout
from eat.model.reducers.base import Reduction


def keep_most_important(scores: Tensor, layout: Layout, counts: Sequence[int], wants_margin: bool = True) -> Reduction:
    """Keep the `counts[b]` tokens of row b with the highest scores, in their order; ties go to the earlier token.

    scores: (n,), at least 0, inf for tokens that must be kept. The counts are known on the host, so that no result is
    transferred from the device.
    """
    new_layout = Layout(counts, layout.device)
    if layout.rows == 1:
        ordered, order = scores.sort(descending=True, stable=True)
        kept = order[: counts[0]].sort().values
        ordered = ordered[None]
    else:
        table = rows_of(scores, layout, -torch.inf)
        ordered, order = table.sort(dim=1, descending=True, stable=True)
        flags = torch.zeros_like(table, dtype=torch.bool).scatter_(1, order, new_layout.live_of(layout.longest))
        kept = torch.nonzero_static(flags.view(-1)[layout.cells], size=new_layout.tokens)[:, 0]
    return Reduction(new_layout, kept, margin=_cut_margin(ordered, new_layout) if wants_margin else None)


def _cut_margin(ordered: Tensor, kept: Layout) -> Tensor:
    """The relative gap at the cut in each row of descending scores (B, T), inf if nothing is removed; (B,)."""
    last = kept.lengths_tensor[:, None]
    least = ordered.gather(1, last - 1)[:, 0]
    nothing = torch.full_like(ordered[:, :1], -torch.inf)
    best_removed = torch.cat([ordered, nothing], dim=1).gather(1, last)[:, 0]
    gap = (least - best_removed) / least.clamp_min(torch.finfo(ordered.dtype).tiny)
    return torch.where(best_removed.isneginf() | least.isposinf(), torch.inf, gap)


def keep_above(
    scores: Tensor, threshold: Tensor, protected: Tensor, layout: Layout, wants_margin: bool = True
) -> Reduction:
    """Keep the protected tokens and those with a score of at least the threshold; scores (n,), threshold (n,) or ().

    The margin of a row is the smallest relative distance of an unprotected token's score to its threshold. The host
    waits once for the number of kept tokens, which is known only on the device.
    """
    flags = (scores >= threshold) | protected
    if layout.rows == 1:
        kept = torch.nonzero(flags)[:, 0]
        lengths = [len(kept)]
    else:
        lengths = rows_of(flags, layout, 0).sum(dim=1).tolist()
        kept = torch.nonzero_static(flags, size=sum(lengths))[:, 0]
    margin = None
    if wants_margin:
        tiny = torch.finfo(scores.dtype).tiny
        gap = ((scores - threshold).abs() / threshold.clamp_min(tiny)).masked_fill(protected, torch.inf)
        margin = rows_of(gap, layout, torch.inf).amin(dim=1)
    if len(kept) == layout.tokens:
        return Reduction(layout, margin=margin)
    return Reduction(Layout(lengths, layout.device), kept, margin=margin)


def ranks(scores: Tensor, layout: Layout) -> Tensor:
    """The rank of each token in its row by descending score, from 0; ties go to the earlier token; int64 (n,)."""
    order = rows_of(scores, layout, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(layout.longest, device=scores.device).expand_as(order)
    found: Tensor = torch.empty_like(order).scatter_(1, order, places).view(-1)[layout.cells]
    return found


def rows_of(values: Tensor, layout: Layout, empty: float) -> Tensor:
    """(n,) to (B, T), with `empty` in cells that hold no token."""
    if layout.is_uniform:
        return values.view(layout.rows, layout.longest)
    table = values.new_full((layout.rows * layout.longest,), empty)
    return table.index_copy(0, layout.cells, values).view(layout.rows, layout.longest)


def log_softmax_of_rows(logits: Tensor, layout: Layout) -> Tensor:
    """Log-probabilities over the tokens of each row; (n,) to (n,)."""
    table = torch.log_softmax(rows_of(logits, layout, -torch.inf), dim=1)
    return table.view(-1) if layout.is_uniform else table.view(-1).index_select(0, layout.cells)


def sum_of_rows(values: Tensor, layout: Layout) -> Tensor:
    """(n,) to (B,)."""
    return rows_of(values, layout, 0.0).sum(dim=1)
