"""The saliency of tokens for a model's answer: gradient x input at the embeddings.

With e_i the embedded token and z_y the logit of the label after the last layer, the saliency is the L2 norm of
e_i * dz_y/de_i, divided by the sum over the text's tokens. It is the target of AdapLeR's predictors, and other scores
of importance are compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eat.model.batch import PackedBatch
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.reducers.selection import sum_of_rows
from eat.model.tokenizer import Encoded
from eat.progress import Progress


def saliency(model: EatForSequenceClassification, batch: PackedBatch, labels: Tensor) -> Tensor:
    """The saliency of each token of a batch, float32 (n,); that of a text's tokens sums to 1.

    model: in evaluation mode. labels: int64 (B,), in the caller's order. No text exits early; a removed token has the
    saliency that it had before its removal.
    """
    embedded: list[Tensor] = []

    def remember(module: nn.Module, arguments: tuple[PackedBatch], output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    handle = model.encoder.embeddings.register_forward_hook(remember)
    try:
        logits = model.encoder(batch).logits
    finally:
        handle.remove()
    chosen = logits.gather(1, labels[:, None]).sum()  # the rows of a batch are independent
    (gradient,) = torch.autograd.grad(chosen, embedded[0])
    values = torch.linalg.vector_norm(gradient * embedded[0].detach(), dim=1).float()
    tiny = torch.finfo(values.dtype).tiny
    totals = sum_of_rows(values, batch.layout).clamp_min(tiny)
    shares: Tensor = values / totals.index_select(0, batch.layout.row_of_token)
    return shares


def saliency_of_texts(
    model: EatForSequenceClassification,
    texts: Sequence[Encoded],
    labels: Sequence[int],
    name: str = "",
    batch_size: int = 32,
) -> list[Tensor]:
    """The saliency of each text's tokens, float32 (t,) each. name: used in progress lines."""
    found: list[Tensor] = []
    with Progress("saliency of", len(texts), "texts", name) as progress:
        for start in range(0, len(texts), batch_size):
            part = texts[start : start + batch_size]
            batch = PackedBatch.of(part, model.device)
            values = saliency(model, batch, torch.tensor(labels[start : start + batch_size], device=model.device))
            packed = torch.split(values.cpu(), batch.layout.lengths)
            found += [packed[place] for place in sorted(range(len(part)), key=batch.rows.__getitem__)]
            progress.advance(len(part))
    return found
