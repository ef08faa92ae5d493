"""The words of a task's own texts: those typical of a label, and those that stand between the same neighbours."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

RARE = 3
"""A typical word occurs in at least this number of texts of its label."""


def words_of(text: str) -> list[str]:
    """The words, divided at white space, in lower case and without the punctuation around them."""
    return [word for word in (plain(word) for word in text.split()) if word]


def plain(word: str) -> str:
    """A word in lower case, without the punctuation around it."""
    start, end = 0, len(word)
    while start < end and not word[start].isalnum():
        start += 1
    while end > start and not word[end - 1].isalnum():
        end -= 1
    return word[start:end].lower()


class Vocabulary:
    """The words of labelled texts.

    texts: (text, label). The texts that are attacked must not be among them.
    """

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self._texts: Counter[str] = Counter()
        self._with: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._after: defaultdict[str, set[str]] = defaultdict(set)
        self._before: defaultdict[str, set[str]] = defaultdict(set)
        self._count: Counter[str] = Counter()
        for text, label in texts:
            words = words_of(text)
            self._texts[label] += 1
            self._with[label].update(set(words))
            self._count.update(words)
            for left, right in zip(["", *words], [*words, ""], strict=True):
                self._after[left].add(right)
                self._before[right].add(left)

    def typical(self, label: str, number: int) -> list[str]:
        """The words that speak most for a label against all others, by the ratio of their shares of texts.

        Half a text is added to either side, so that a word of one label only has a finite ratio.
        """
        own, others = self._with[label], Counter[str]()
        for other, words in self._with.items():
            if other != label:
                others.update(words)
        total = sum(self._texts.values()) - self._texts[label]

        def ratio(word: str) -> float:
            return math.log((own[word] + 0.5) / (self._texts[label] + 1)) - math.log((others[word] + 0.5) / (total + 1))

        known = [word for word, texts in own.items() if texts >= RARE and word.isalpha() and ratio(word) > 0.0]
        return sorted(known, key=lambda word: (-ratio(word), word))[:number]

    def in_the_same_place(self, words: Sequence[str], place: int, number: int) -> list[str]:
        """Other words that these texts have between the same two neighbours, the most frequent first.

        words: of a text, as `plain` gives them. A word at an end of the text has one neighbour.
        """
        left = words[place - 1] if place else ""
        right = words[place + 1] if place + 1 < len(words) else ""
        found = (self._after[left] & self._before[right]) - {words[place], ""}
        return sorted(found, key=lambda word: (-self._count[word], word))[:number]
