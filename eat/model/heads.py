"""The heads that classify a layer's output.

A head after layer l computes P_l(y | x) from [CLS] (the paper, section 3.3), from the mean or the maximum of the live
tokens, from all three, or from the output of a small self-attention (FastBERT). The mean costs as little as [CLS] and
makes heads after the first layers useful, since [CLS] carries little information there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eat.errors import EatError, listed
from eat.model.attention import DENSE
from eat.model.layout import Layout
from eat.model.operations import Operations

READER_HIDDEN, READER_HEADS = 128, 2
MLP_HIDDEN = 256
"""The width of the hidden layer of the head `mlp`."""

HEADS = ("linear", "mlp", "bert", "distilbert", "electra")
ALL_VECTORS = "cls_mean_max"
READS = ("cls", "mean", "max", ALL_VECTORS, "attention")


ACTIVATIONS_OF_HEADS: Mapping[str, Callable[[Tensor], Tensor]] = {"bert": torch.tanh, "electra": F.gelu}
"""Kind -> the activation of its hidden layer; of the others it is ReLU."""


class AttendingReader(nn.Module):
    """FastBERT's reader: linear d -> 128, tanh, self-attention with two heads over the live tokens; then [CLS].

    The attention has an output projection; it is computed only for [CLS].
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(hidden, READER_HIDDEN)
        self.qkv = nn.Linear(READER_HIDDEN, 3 * READER_HIDDEN)
        self.output = nn.Linear(READER_HIDDEN, READER_HIDDEN)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Hidden states (n, d) of the packed rows to one vector per row (B, 128)."""
        qkv = self.qkv(torch.tanh(self.narrow(hidden)))
        vector: Tensor = self.output(layout.first(DENSE(qkv, layout, READER_HEADS)))
        return vector

    def operations(self) -> Operations:
        """The products per token, scores and context per pair, and the product of [CLS] per text."""
        hidden = self.narrow.in_features
        return Operations(
            fixed=2.0 * READER_HIDDEN**2,
            per_token=2.0 * READER_HIDDEN * (hidden + 3 * READER_HIDDEN),
            per_pair=4.0 * READER_HIDDEN,
        )


class ExitHead(nn.Module):
    """A classifier on one vector per text.

    kind: the layers before the logits: none (`linear`), a hidden layer of 256 units (`mlp`: linear, ReLU), the pooler
    of BERT and RoBERTa (linear, tanh), DistilBERT's (linear, ReLU), or ELECTRA's (linear, GELU). read: the vector:
    `cls`, `mean` or `max` of the live tokens, the three of them after one another (`cls_mean_max`), or `attention`.
    """

    def __init__(
        self, hidden: int, classes: int, kind: str = "linear", read: str = "cls", dropout: float = 0.0
    ) -> None:
        super().__init__()
        for found, allowed in ((kind, HEADS), (read, READS)):
            if found not in allowed:
                raise EatError(f"exit head: found {found!r}; allowed: {listed(allowed)}")
        self.kind = kind
        self.read = read
        self.reader = AttendingReader(hidden) if read == "attention" else None
        width = READER_HIDDEN if self.reader is not None else 3 * hidden if read == ALL_VECTORS else hidden
        projected = MLP_HIDDEN if kind == "mlp" else width
        self.projection = None if kind == "linear" else nn.Linear(width, projected)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(projected, classes)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Hidden states (n, d) of the packed rows to logits (B, C)."""
        return self.classify(self.vector(hidden, layout))

    def vector(self, hidden: Tensor, layout: Layout) -> Tensor:
        """What the head classifies, one vector per row: (n, d) to (B, width)."""
        if self.reader is not None:
            attended: Tensor = self.reader(hidden, layout)
            return attended
        if self.read == ALL_VECTORS:
            return torch.cat([layout.first(hidden), layout.mean(hidden), layout.max(hidden)], dim=1)
        vectors = {"cls": layout.first, "mean": layout.mean, "max": layout.max}
        return vectors[self.read](hidden)

    def classify(self, vector: Tensor) -> Tensor:
        """Vectors (B, width) to logits (B, C)."""
        if self.projection is not None:
            vector = self.projection(vector)
            vector = ACTIVATIONS_OF_HEADS.get(self.kind, torch.relu)(vector)
        if self.training:
            vector = self.dropout(vector)
        logits: Tensor = self.classifier(vector)
        return logits

    def operations(self) -> Operations:
        """The operations of the head for a text."""
        reader = Operations() if self.reader is None else self.reader.operations()
        linears = [linear for linear in (self.projection, self.classifier) if linear is not None]
        fixed = sum(2.0 * linear.in_features * linear.out_features for linear in linears)
        return reader._replace(fixed=reader.fixed + fixed)
