"""Sentences as word pieces: the words are tokenized one by one, and the first piece of each stands for its word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer
from torch import Tensor

from eat.errors import DamagedFile, EatError
from eat.files import read_table
from eat.model.batch import PackedBatch

UNKNOWN_PIECE = "[UNK]"


@dataclass(frozen=True)
class EncodedSentence:
    """A sentence of w words as t word pieces with [CLS] and [SEP].

    ids: int64 (t,). types: int64 (t,), zeros: the first segment. first: the place of the first piece of each word,
    int64 (w,).
    """

    ids: Tensor
    types: Tensor
    first: Tensor


@dataclass
class Pieces:
    """The word pieces of words, tokenized once each. A word that the tokenizer drops (U+FEFF) becomes [UNK]."""

    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        self._known: dict[str, list[int]] = {}
        self._begin, *_, self._end = self.tokenizer.encode("").ids

    def of(self, word: str) -> list[int]:
        """The ids of a word's pieces, at least one. Raises `EatError` for a tokenizer without [UNK]."""
        if word not in self._known:
            found: list[int] = self.tokenizer.encode(word, add_special_tokens=False).ids
            unknown = self.tokenizer.token_to_id(UNKNOWN_PIECE)
            if not found and unknown is not None:
                found = [unknown]
            if not found:
                raise EatError(
                    f"the word {word!r} has no word pieces, and the tokenizer no [UNK]; take BERT's tokenizer"
                )
            self._known[word] = found
        return self._known[word]

    def encode(self, words: Sequence[str]) -> EncodedSentence:
        """The pieces of a sentence's words, between [CLS] and [SEP]."""
        ids, first = [self._begin], []
        for word in words:
            first.append(len(ids))
            ids += self.of(word)
        ids.append(self._end)
        return EncodedSentence(torch.tensor(ids), torch.zeros(len(ids), dtype=torch.int64), torch.tensor(first))


@dataclass(frozen=True)
class SentenceBatch:
    """Sentences packed as `PackedBatch` packs texts, the shortest first.

    packed: the word pieces. first: the index in the packed batch of the first piece of each word, int64 (w,), in packed
    order. words: the number of words of each packed row.
    """

    packed: PackedBatch
    first: Tensor
    words: list[int]

    @classmethod
    def of(cls, sentences: Sequence[EncodedSentence], device: torch.device | str = "cpu") -> SentenceBatch:
        """Pack sentences; row i of the packed batch is the sentence `packed.rows[i]`."""
        packed = PackedBatch.of([(sentence.ids, sentence.types) for sentence in sentences], device)
        ordered = [sentences[row] for row in packed.rows]
        starts = packed.layout.starts.tolist()
        first = torch.cat([sentence.first + start for sentence, start in zip(ordered, starts, strict=True)])
        return cls(packed, first.to(device), [len(sentence.first) for sentence in ordered])


def read_sentences_split(path: Path) -> pd.DataFrame:
    """Read a split that `eat.tagging.prepare` wrote: columns id, line, words, tags.

    Raises `DamagedFile` if it is missing or incomplete, or a sentence has not one tag per word.
    """
    table = read_table(path, required=("id", "line", "words", "tags"))
    if (table["words"].map(len) != table["tags"].map(len)).any() or (table["words"].map(len) == 0).any():
        raise DamagedFile(f"{path}: a sentence has not one tag for each word; delete it and run again")
    return table
