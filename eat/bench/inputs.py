"""Random texts as token ids: of one length, or of mixed lengths that resemble those of sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eat.errors import EatError
from eat.model.tokenizer import Encoded, encode, load_tokenizer

CLS, SEP, FIRST_WORD = 101, 102, 999
"""Token ids of the uncased BERT vocabulary."""

MEAN_LENGTH, SPREAD = 27.0, 0.36
"""Mean number of tokens, and standard deviation of their logarithm. The mean is that of the sentences of
rotten_tomatoes; with this spread, batches of 32 in the order of arrival have 48 % padding, similar to theirs (49 %).
Their spread is larger (0.46), but to the short side: a lognormal of that spread has longer texts, and 55 % padding."""

SHORTEST = 2
"""[CLS] [SEP]."""

MIXED_BATCHES = 8
"""Batches in a pass over texts of mixed lengths, so that sorting them by length has something to sort."""

MIXED_TEXTS = 64
"""The fewest texts in such a pass, so that they are also a sample of the lengths at batch 1."""


@dataclass(frozen=True)
class Case:
    """The input that all systems run in turn: texts in the order of arrival, in batches of `batch_size`.

    length: tokens of every text, or `None` if they differ.
    """

    length: int | None
    batch_size: int
    texts: tuple[Encoded, ...]

    @property
    def name(self) -> str:
        """The name in the tables."""
        return "mixed" if self.length is None else str(self.length)

    @property
    def orders(self) -> tuple[str, ...]:
        """The orders in which the texts are batched: also sorted by length, if lengths differ."""
        return ("arrival",) if self.length is not None or self.batch_size == 1 else ("arrival", "sorted")

    def batches(self, order: str) -> list[list[Encoded]]:
        """The texts in batches, in the given order."""
        texts = list(self.texts)
        if order == "sorted":
            texts.sort(key=lambda text: len(text.ids))
        return [texts[start : start + self.batch_size] for start in range(0, len(texts), self.batch_size)]

    @property
    def tokens(self) -> int:
        """The number of tokens of all texts, without padding."""
        return sum(len(text.ids) for text in self.texts)


def random_texts(lengths: Sequence[int], vocabulary: int, seed: int = 0) -> tuple[Encoded, ...]:
    """Texts of these many tokens, [CLS] first and [SEP] last, all of segment 0."""
    generator = torch.Generator().manual_seed(seed)
    # a vocabulary smaller than BERT's (tests) has other special tokens; with random weights it makes no difference
    first = FIRST_WORD if vocabulary > FIRST_WORD else 0
    found = []
    for length in lengths:
        ids = torch.randint(first, vocabulary, (length,), generator=generator)
        if first:
            ids[0], ids[-1] = CLS, SEP
        found.append(Encoded(ids, torch.zeros(length, dtype=torch.int64)))
    return tuple(found)


def equal_case(length: int, batch_size: int, vocabulary: int) -> Case:
    """One batch of texts of the same length."""
    return Case(length, batch_size, random_texts([length] * batch_size, vocabulary))


def mixed_lengths(count: int, longest: int) -> list[int]:
    """`count` lengths of a fixed lognormal distribution of mean 27, from 2 to `longest`; the same on every call."""
    draws = np.random.default_rng(0).lognormal(np.log(MEAN_LENGTH) - SPREAD**2 / 2, SPREAD, count)
    return [int(length) for length in np.clip(np.rint(draws), SHORTEST, longest)]


def mixed_case(batch_size: int, vocabulary: int, longest: int, texts: Sequence[Encoded] | None = None) -> Case:
    """A pass over texts of mixed lengths: the given ones from the first on, or random ones."""
    count = max(MIXED_BATCHES * batch_size, MIXED_TEXTS)
    if texts is None:
        return Case(None, batch_size, random_texts(mixed_lengths(count, longest), vocabulary))
    return Case(None, batch_size, tuple(texts[number % len(texts)] for number in range(count)))


def read_texts(path: Path, longest: int, vocabulary: int, model: Path | None) -> list[Encoded]:
    """The non-empty lines of a text file as tokens, in a fixed shuffled order.

    With a model's folder its tokenizer is used; without one, words and punctuation marks are counted, with random ids.
    Raises `EatError` if there is no text.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read as UTF-8 text ({error})"
        raise EatError(f"{path}: {reason}; give a file with one text per line") from None
    lines = [line for line in lines if line]
    if not lines:
        raise EatError(f"{path}: no text in it; give a file with one text per line")
    order = np.random.default_rng(0).permutation(len(lines))
    lines = [lines[index] for index in order]
    if model is not None:
        return encode(load_tokenizer(model), lines, None, longest)
    lengths = [min(len(re.findall(r"\w+|[^\w\s]", line)) + SHORTEST, longest) for line in lines]
    return list(random_texts(lengths, vocabulary))
