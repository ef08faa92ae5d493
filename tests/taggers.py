"""Tiny taggers with random weights, and sentences for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tiny import MASK, SHAPE, VOCABULARY, randomise

from eat.model.shape import Shape
from eat.tagging.model import Tagger
from eat.tagging.sentences import EncodedSentence

TAGS = ["O", "B-x", "I-x"]


def tagger(exits: Sequence[int] = (1, 2, 3), seed: int = 0, tags: Sequence[str] = TAGS) -> Tagger:
    """A random tagger in evaluation mode."""
    torch.manual_seed(seed)
    built = Tagger(Shape(**SHAPE, classes=len(tags)), tags, exits)
    randomise(built, seed)
    with torch.no_grad():  # so that some words are sure early, and some never
        for head in built.heads.values():
            head.weight.mul_(0.5)
    return built.eval()


def sentences(words: Sequence[int], seed: int = 0) -> list[EncodedSentence]:
    """Random sentences of these many words, each of one to three word pieces."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in words:
        pieces = torch.randint(1, 4, (count,), generator=generator)
        first = 1 + torch.cat([torch.zeros(1, dtype=torch.int64), pieces.cumsum(0)[:-1]])
        ids = torch.randint(MASK + 1, VOCABULARY, (2 + int(pieces.sum()),), generator=generator)
        ids[0], ids[-1] = 2, 3
        found.append(EncodedSentence(ids, torch.zeros(len(ids), dtype=torch.int64), first))
    return found
