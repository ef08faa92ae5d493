"""Training of one set of weights at several widths (DynaBERT, arXiv:2004.04037).

First the heads and neurons of each layer are put in the order of their importance for the loss L on training texts, so
that every width keeps the most important ones. With W_O the output of the attention, W_1 and W_2 the two products of
the feed-forward part, and a dot for the sum of the products of corresponding weights,

    head i:    mean over batches of | W_O[:, i] . dL/dW_O[:, i] |
    neuron j:  mean over batches of | W_1[j] . dL/dW_1[j] + W_2[:, j] . dL/dW_2[:, j] |

A head enters the loss only through its columns of W_O, so the first is the paper's |dL/dh . h|, the first-order change
of the loss if the head were removed. Then every step adds the losses at all widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from eat.model.batch import PackedBatch
from eat.model.encoder import EncoderLayer, EncoderOutput, PackedEncoder
from eat.model.exit_policy import ExitPolicy
from eat.model.tokenizer import Encoded
from eat.model.widths import layer_tensors, narrow_shape, narrow_tensors
from eat.progress import Progress

TEXTS, BATCH = 1024, 32
"""The training texts from which the importance is computed, at equal distances in the split; and those of a batch."""


class Importance(NamedTuple):
    """The importance of the heads (L, h) and of the neurons (L, m) of an encoder."""

    heads: Tensor
    neurons: Tensor


def rewire(encoder: PackedEncoder, examples: Sequence[dict[str, Any]], name: str = "") -> None:
    """Put the heads and neurons of an encoder, in place, in the order of their importance; its function stays the same.

    encoder: in evaluation mode. examples: of training, from which those with a label are taken. name: printed in
    progress lines.
    """
    labelled = [example for example in examples if example["label"] >= 0]
    chosen = [labelled[row] for row in evenly_spaced(len(labelled), TEXTS)]
    found = importance(encoder, [each["text"] for each in chosen], [each["label"] for each in chosen], name)
    reorder(encoder, found)


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers from 0 to `count` - 1, at equal distances."""
    if count <= wanted:
        return list(range(count))
    return [number * count // wanted for number in range(wanted)]


def importance(encoder: PackedEncoder, texts: Sequence[Encoded], labels: Sequence[int], name: str = "") -> Importance:
    """The importance of heads and neurons for the cross-entropy of the last exit. encoder: in evaluation mode."""
    shape, device = encoder.shape, encoder.embeddings.token.weight.device
    found = Importance(
        torch.zeros(shape.layers, shape.heads, device=device),
        torch.zeros(shape.layers, shape.intermediate, device=device),
    )
    ends = ("attention_output.weight", "up.weight", "down.weight")
    weights = {key: weight for key, weight in encoder.named_parameters() if key.endswith(ends)}
    batches = range(0, len(texts), BATCH)
    with Progress("importance of heads and neurons from", len(texts), "texts", name) as progress:
        for start in batches:
            part = texts[start : start + BATCH]
            logits = encoder(PackedBatch.of(part, device), ExitPolicy()).logits
            loss = F.cross_entropy(logits, torch.tensor(labels[start : start + BATCH], device=device))
            gradients = torch.autograd.grad(loss, list(weights.values()))
            pairs = zip(weights.items(), gradients, strict=True)
            products = {key: (weight * gradient).detach() for (key, weight), gradient in pairs}
            for layer in range(shape.layers):
                output, up, down = (products[f"layers.{layer}.{end}"] for end in ends)
                found.heads[layer] += output.sum(dim=0).view(shape.heads, -1).sum(dim=1).abs()
                found.neurons[layer] += (up.sum(dim=1) + down.sum(dim=0)).abs()
            progress.advance(len(part))
    return Importance(*(total / len(batches) for total in found))


def reorder(encoder: PackedEncoder, importance: Importance) -> None:
    """Put the heads and neurons of each layer in descending order of importance, in place; equal ones keep theirs."""
    parameters = dict(encoder.named_parameters())
    with torch.no_grad():
        for layer in range(encoder.shape.layers):
            heads, neurons = (scores[layer].argsort(descending=True, stable=True) for scores in importance)
            for key, tensor in layer_tensors(parameters, encoder.shape, layer, heads, neurons).items():
                parameters[key].copy_(tensor)


def run_at_width(encoder: PackedEncoder, batch: PackedBatch, width: float) -> EncoderOutput:
    """The forward pass of the narrow form, whose gradients reach the weights of the encoder."""
    if width == 1.0:
        output: EncoderOutput = encoder(batch)
        return output
    narrow = narrow_tensors(dict(encoder.named_parameters()), encoder.shape, width)
    with _heads(encoder, narrow_shape(encoder.shape, width).heads):
        found: EncoderOutput = functional_call(encoder, narrow, (batch,))
    return found


@contextmanager
def _heads(encoder: PackedEncoder, heads: int) -> Iterator[None]:
    """Let the layers have this number of attention heads in the block."""
    layers = [layer for layer in encoder.layers if isinstance(layer, EncoderLayer)]
    for layer in layers:
        layer.heads = heads
    try:
        yield
    finally:
        for layer in layers:
            layer.heads = encoder.shape.heads
