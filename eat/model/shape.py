"""The hyper-parameters of an architecture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The hyper-parameters of the architecture (defaults: BERT-base).

    embedding: the width of the embeddings, which a linear layer then widens; 0 if it is that of the layers.
    head_size: the width of an attention head; 0 if all heads together are as wide as the layers.
    """

    vocabulary: int = 30522
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    positions: int = 512
    token_types: int = 2
    classes: int = 2
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float = 0.1
    separator: int = 102
    embedding: int = 0
    head_size: int = 0

    @property
    def size_of_head(self) -> int:
        """The width of an attention head."""
        return self.head_size or self.hidden // self.heads

    @property
    def attention_width(self) -> int:
        """The width of all attention heads together."""
        return self.heads * self.head_size or self.hidden
