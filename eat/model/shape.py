"""The hyper-parameters of an architecture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The hyper-parameters of the architecture (defaults: BERT-base).

    embedding: the width of the embeddings, which a linear layer then widens; 0 if it is that of the layers.
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
