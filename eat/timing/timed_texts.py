"""The texts that are timed."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eat.files import sha256_of
from eat.model.tokenizer import Encoded, encode_split, load_tokenizer, read_split


class TimedTexts:
    """The dev texts that are timed, stratified by length and shuffled, for each system's tokenizer.

    dev: the split. reference: the model folder whose tokenizer determines the lengths. ids: the texts' ids, in order.
    """

    def __init__(self, dev: Path, reference: Path, max_length: int, count: int) -> None:
        self._table = read_split(dev)
        self._max_length = max_length
        self._encoded: dict[str, list[Encoded]] = {}
        every = encode_split(load_tokenizer(reference), self._table, max_length)
        self._table = self._table.iloc[stratified([len(text.ids) for text in every], count)]
        self.ids = [str(text) for text in self._table["id"]]

    def encoded_for(self, model: Path) -> list[Encoded]:
        """The texts as tokens of the tokenizer in a model's folder."""
        digest = sha256_of(model / "tokenizer.json")
        if digest not in self._encoded:
            self._encoded[digest] = encode_split(load_tokenizer(model), self._table, self._max_length)
        return self._encoded[digest]

    def tokenization_ms(self, model: Path) -> float:
        """The mean time to tokenize a text, one by one, in ms."""
        tokenizer = load_tokenizer(model)
        started = time.perf_counter()
        for row in range(len(self._table)):
            encode_split(tokenizer, self._table.iloc[[row]], self._max_length)
        return (time.perf_counter() - started) / len(self._table) * 1e3


def stratified(lengths: Sequence[int], count: int, seed: int = 0) -> list[int]:
    """`count` rows (all, if there are fewer) with the distribution of lengths of all rows, in a shuffled order."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    count = min(count, len(order))
    middle = (np.arange(count) + 0.5) / count * len(order)
    rows = [int(row) for row in order[middle.astype(int)]]
    random.Random(seed).shuffle(rows)
    return rows
