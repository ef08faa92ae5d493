"""The part of each batch that one of several processes trains on.

Every process draws the same batch of B texts, as a single process would. Process r of N computes the loss of the
texts r, r + N, r + 2 N ... of the batch in the order of their lengths, so that all have about as many tokens. Each part
of the loss is a mean over texts, labelled texts, tokens or pairs of tokens of the batch:

    mean over the batch = sum over processes of (count of the share / count of the batch) x mean over the share

With parts weighted in this way, the sum of the gradients of all processes is the gradient of the whole batch. All
counts follow from the batch, which every process knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

COUNTED = {"distillation": "texts", "hidden": "tokens", "attention": "pairs"}
"""What a part of the loss is a mean over; the parts of the exits are means over labelled texts."""


class Counts(NamedTuple):
    """What is in a batch. pairs: of tokens of the same text."""

    texts: int
    labelled: int
    tokens: int
    pairs: int

    @classmethod
    def of(cls, examples: Sequence[dict[str, Any]]) -> Counts:
        """The counts of some training examples."""
        lengths = [len(example["text"].ids) for example in examples]
        labelled = sum(example["label"] >= 0 for example in examples)
        return cls(len(lengths), labelled, sum(lengths), sum(length**2 for length in lengths))


@dataclass(frozen=True)
class Weights:
    """How a share counts in a batch. own, whole: the counts of both."""

    own: Counts
    whole: Counts

    def of(self, part: str) -> float:
        """The weight of a part of the loss; 0 if the batch has nothing over which it is a mean."""
        key = "labelled" if part.startswith("exit_") else COUNTED[part]
        own, whole = (getattr(counts, key) for counts in (self.own, self.whole))
        return float(own / max(whole, 1))


@dataclass(frozen=True)
class Share:
    """The texts of process `rank`, from 0, of `of` processes. The first process writes the results."""

    rank: int = 0
    of: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether there is a single process."""
        return self.of == 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and progress lines."""
        return self.rank == 0

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The share of a batch as `eat.finetune.examples.collate` packs it, and its `weights`.

        If the batch has fewer texts than there are processes, some get a text of weight 0: their forward pass takes
        part in the step with a gradient of 0.
        """
        from eat.finetune.examples import collate

        if self.is_whole:
            return collate(examples)
        ordered = sorted(examples, key=lambda example: len(example["text"].ids))
        own = ordered[self.rank :: self.of]
        return {**collate(own or ordered[:1]), "weights": Weights(Counts.of(own), Counts.of(ordered))}


ALONE = Share()
"""The share of a single process: every batch."""
