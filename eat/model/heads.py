"""The heads that classify a layer's output.

A head after layer l computes P_l(y | x) from [CLS] (the paper, section 3.3), from the mean of the live tokens, or from
the output of a small self-attention (FastBERT); the mean costs as little as [CLS] and makes heads after
the first layers useful, since [CLS] carries little information there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eat.errors import EatError, listed
from eat.model.attention import DENSE
from eat.model.layout import Layout
from eat.model.operations import Operations

READER_HIDDEN, READER_HEADS = 128, 2

HEADS = ("linear", "bert", "distilbert")
READS = ("cls", "mean", "attention")


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

    kind: the layers before the logits: none (`linear`), the pooler of BERT (linear, tanh), or DistilBERT's (linear,
    ReLU). read: the vector: `cls`, `mean` of the live tokens, or `attention`.
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
        width = READER_HIDDEN if self.reader is not None else hidden
        self.projection = nn.Linear(width, width) if kind in ("bert", "distilbert") else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Hidden states (n, d) of the packed rows to logits (B, C)."""
        if self.reader is not None:
            vector = self.reader(hidden, layout)
        else:
            vector = layout.first(hidden) if self.read == "cls" else layout.mean(hidden)
        if self.projection is not None:
            vector = self.projection(vector)
            vector = torch.tanh(vector) if self.kind == "bert" else torch.relu(vector)
        if self.training:
            vector = self.dropout(vector)
        logits: Tensor = self.classifier(vector)
        return logits

    def operations(self) -> Operations:
        """The operations of the head for a text."""
        reader = Operations() if self.reader is None else self.reader.operations()
        width, classes = self.classifier.in_features, self.classifier.out_features
        fixed = 2.0 * width * classes + (0.0 if self.projection is None else 2.0 * width * width)
        return reader._replace(fixed=reader.fixed + fixed)
