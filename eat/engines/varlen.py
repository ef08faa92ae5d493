"""Attention over packed rows of different lengths on a GPU, without a padded view.

`torch.nn.attention.varlen` computes dense attention from the packed queries, keys and values and the ends of the rows.
It exists in newer versions of PyTorch, on CUDA, in float16 and bfloat16. The padded view stays for everything else: one
row, rows of equal length, windows that do not cover a row, a bias of the keys, training.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from functools import cache
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from eat.engines.probe import MISSING
from eat.model.attention import AttentionPattern
from eat.model.layout import Layout

TOLERANCE = 0.02
"""The largest difference from the padded view for inputs of size 1: a few steps of bfloat16."""


_ENDS: WeakKeyDictionary[Layout, Tensor] = WeakKeyDictionary()
"""Layout -> the ends of its rows, int32 (B + 1), which all layers between two removals share."""


@dataclass(frozen=True)
class VarlenPattern(AttentionPattern):
    """An attention pattern that is computed without a padded view where that is possible."""

    def __call__(
        self, qkv: Tensor, layout: Layout, heads: int, dropout: float = 0.0, key_bias: Tensor | None = None
    ) -> Tensor:
        """As `AttentionPattern`."""
        if layout.is_uniform or not self.covers(layout.longest) or dropout or key_bias is not None:
            return super().__call__(qkv, layout, heads, dropout, key_bias)
        return varlen_attention(qkv, layout, heads)


def varlen_attention(qkv: Tensor, layout: Layout, heads: int) -> Tensor:
    """Dense attention within each row; (n, 3d) to (n, d)."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = qkv.view(layout.tokens, 3, heads, -1).unbind(1)  # (n, h, d / h) each
    if layout not in _ENDS:
        _ENDS[layout] = F.pad(layout.lengths_tensor.cumsum(0), (1, 0)).to(torch.int32)
    ends = _ENDS[layout]
    found = varlen_attn(query, key, value, ends, ends, layout.longest, layout.longest)
    context = found if isinstance(found, Tensor) else found[0]
    return context.flatten(1)


def fastest_pattern(pattern: AttentionPattern, precision: str, device: torch.device) -> AttentionPattern:
    """The pattern as it is computed fastest on a device: the same function.

    If it could be computed without a padded view, but a trial on the device disagrees, one line is printed.
    """
    if device.type != "cuda" or precision == "float32" or isinstance(pattern, VarlenPattern):
        return pattern
    return VarlenPattern(**asdict(pattern)) if varlen_fault(precision, device) is None else pattern


@cache
def varlen_fault(precision: str, device: torch.device) -> str | None:
    """Why attention is computed in a padded view on a device, in a few words; tried and printed once per process."""
    layout = Layout([5, 3, 17], device)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.empty(layout.tokens, 3 * 64).uniform_(-1.0, 1.0, generator=generator)
    qkv = qkv.to(device, getattr(torch, precision))
    try:
        difference = float((varlen_attention(qkv, layout, 2) - AttentionPattern()(qkv, layout, 2)).abs().max())
    except ImportError:
        return f"PyTorch {torch.__version__} has no varlen_attn"  # an older version: nothing to report
    except MISSING as error:
        fault = f"it does not run ({(str(error).splitlines() or ['no message'])[0]})"
    else:
        if difference <= TOLERANCE:
            return None
        fault = f"it differs from the padded view by {difference:.1e}"
    print(f"attention in {precision} is computed in a padded view: varlen_attn: {fault}", file=sys.stderr, flush=True)
    return fault
