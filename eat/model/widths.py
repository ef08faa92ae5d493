"""Narrow forms of a trained encoder: its first attention heads and intermediate neurons (DynaBERT, arXiv:2004.04037).

At the width w, a layer with h heads and m neurons computes the first ceil(w h) heads and the first ceil(w m) neurons.
Hidden states, embeddings, norms and exit heads stay as they are, so that a narrow encoder is an ordinary one with fewer
heads, each as wide as before, and a narrower feed-forward part. The order of heads and of neurons within a layer does
not change what the layer computes at full width; it decides what a narrow form keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil

import torch
from torch import Tensor

from eat.model.shape import Shape
from eat.model.weights import Checkpoint

Chosen = slice | Tensor
"""Which heads or neurons of a layer, and in which order: the first ones as a slice, or their numbers from 0, int64."""


def narrow_shape(shape: Shape, width: float) -> Shape:
    """The shape at a width, above 0 and at most 1; at 1 it is the same."""
    if width == 1.0:
        return shape
    return replace(
        shape,
        heads=_share(shape.heads, width),
        intermediate=_share(shape.intermediate, width),
        head_size=shape.size_of_head,
    )


def _share(total: int, width: float) -> int:
    # 0.07 x 100 is a little above 7 as a float, and is 7
    return ceil(round(total * width, 9))


def narrow_tensors(tensors: Mapping[str, Tensor], shape: Shape, width: float) -> dict[str, Tensor]:
    """The tensors that a width changes, named as in `PackedEncoder`; gradients pass through to the given ones.

    tensors, shape: of the full width.
    """
    narrow = narrow_shape(shape, width)
    heads, neurons = slice(narrow.heads), slice(narrow.intermediate)
    found: dict[str, Tensor] = {}
    for layer in range(shape.layers):
        found |= layer_tensors(tensors, shape, layer, heads, neurons)
    return found


def narrowed(checkpoint: Checkpoint, width: float) -> Checkpoint:
    """A checkpoint of this project at a width."""
    if width == 1.0:
        return checkpoint
    tensors = {**checkpoint.tensors, **narrow_tensors(checkpoint.tensors, checkpoint.shape, width)}
    return replace(checkpoint, shape=narrow_shape(checkpoint.shape, width), tensors=tensors)


def layer_tensors(
    tensors: Mapping[str, Tensor], shape: Shape, layer: int, heads: Chosen, neurons: Chosen
) -> dict[str, Tensor]:
    """The tensors of a layer, from 0, with these heads and neurons only, in this order.

    A head has its rows of query, key and value, and its columns of the output; a neuron its row of the first product of
    the feed-forward part, and its column of the second. All other tensors belong to neither.
    """
    size, name = shape.size_of_head, f"layers.{layer}"
    qkv, bias, output = (tensors[f"{name}.{key}"] for key in ("qkv.weight", "qkv.bias", "attention_output.weight"))
    return {
        # (3 h s, d), (3 h s,) and (d, h s), with s the width of a head
        f"{name}.qkv.weight": torch.unflatten(qkv, 0, (3, -1, size))[:, heads].flatten(0, 2),
        f"{name}.qkv.bias": torch.unflatten(bias, 0, (3, -1, size))[:, heads].flatten(),
        f"{name}.attention_output.weight": torch.unflatten(output, 1, (-1, size))[:, heads].flatten(1),
        # (m, d), (m,) and (d, m)
        f"{name}.up.weight": tensors[f"{name}.up.weight"][neurons],
        f"{name}.up.bias": tensors[f"{name}.up.bias"][neurons],
        f"{name}.down.weight": tensors[f"{name}.down.weight"][:, neurons],
    }
