"""The heads that classify a layer's output: a head after layer l computes P_l(y | x) (the paper, section 3.3)."""

from __future__ import annotations

from torch import Tensor, nn

from eat.errors import EatError, listed
from eat.model.head_parts import KINDS, READERS
from eat.model.layout import Layout
from eat.model.operations import Operations


class ExitHead(nn.Module):
    """A classifier on one vector per text; kind and read name its parts, in `KINDS` and `READERS`."""

    def __init__(
        self, hidden: int, classes: int, kind: str = "linear", read: str = "cls", dropout: float = 0.0
    ) -> None:
        super().__init__()
        for found, allowed in ((kind, KINDS), (read, READERS)):
            if str(found) not in allowed:
                raise EatError(f"exit head: found {found!r}; allowed: {listed(allowed)}")
        self.hidden = hidden
        self.kind = kind
        self.read = read
        self.reader = READERS[read].layers(hidden)
        width = READERS[read].width(hidden)
        projected = KINDS[kind].width or width
        self.projection = None if KINDS[kind].activation is None else nn.Linear(width, projected)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(projected, classes)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Hidden states (n, d) of the packed rows to logits (B, C)."""
        return self.classify(self.vector(hidden, layout))

    def vector(self, hidden: Tensor, layout: Layout) -> Tensor:
        """What the head classifies, one vector per row: (n, d) to (B, width)."""
        return READERS[self.read].read(hidden, layout, self.reader)

    def classify(self, vector: Tensor) -> Tensor:
        """Vectors (B, width) to logits (B, C)."""
        activation = KINDS[self.kind].activation
        if self.projection is not None and activation is not None:
            vector = activation(self.projection(vector))
        if self.training:
            vector = self.dropout(vector)
        logits: Tensor = self.classifier(vector)
        return logits

    def operations(self) -> Operations:
        """The operations of the head for a text."""
        reader = READERS[self.read].operations(self.hidden)
        linears = [linear for linear in (self.projection, self.classifier) if linear is not None]
        fixed = sum(2.0 * linear.in_features * linear.out_features for linear in linears)
        return reader._replace(fixed=reader.fixed + fixed)
