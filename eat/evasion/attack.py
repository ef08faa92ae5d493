"""An attack on one text: a greedy search for a few edits of its words, which sees only the answers of the model.

The words are ranked by leave-one-out: how much the score of the goal changes if the word is missing. In this order each
word is edited in several ways, and the edit with the highest score stays if it is above that before. Every text that
the model is asked counts as a query.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eat.evasion.characters import lookalikes, misspellings
from eat.evasion.vocabulary import Vocabulary, plain

if TYPE_CHECKING:
    from eat.runtime.classifier import Answer

CANDIDATES = 6
"""The most edits of one kind that are tried on a word."""

TYPICAL = 24
"""The words of each other label from which insertions are taken."""

RANKED = 0.5
"""The largest share of the queries that leave-one-out may use; later words keep their order."""

Ask = Callable[[str], "Answer"]


@dataclass(frozen=True)
class Goal:
    """What an attack is after.

    needs_exits: whether a model without early exits cannot be attacked so. applies: whether a text can be attacked, by
    its first answer. score: how near an answer is; higher is nearer. reached: whether it is there. The arguments are
    the answer, the label of the text, and the layers of the model.
    """

    needs_exits: bool
    applies: Callable[[Answer, str, int], bool]
    score: Callable[[Answer, str, int], float]
    reached: Callable[[Answer, str, int], bool]


def _is_right(answer: Answer, label: str, layers: int) -> bool:
    return answer.label == label


def _is_wrong(answer: Answer, label: str, layers: int) -> bool:
    return answer.label != label


def _against(answer: Answer, label: str, layers: int) -> float:
    return 1.0 - answer.probabilities[label]


def _against_and_early(answer: Answer, label: str, layers: int) -> float:
    return _against(answer, label, layers) + (1.0 - answer.depth / layers if answer.label != label else 0.0)


GOALS = {
    "wrong": Goal(False, _is_right, _against, _is_wrong),
    "early": Goal(
        True,
        _is_right,
        _against_and_early,
        lambda answer, label, layers: answer.label != label and answer.depth < layers,
    ),
    "slow": Goal(
        True,
        lambda answer, label, layers: answer.depth < layers,
        # less than one layer for the certainty of the exit
        lambda answer, label, layers: answer.depth + 1.0 - answer.probability,
        lambda answer, label, layers: answer.depth == layers,
    ),
}
"""wrong: another answer than the label, at any layer. early: the same, before the last layer. slow: through all layers,
for a text that exits early."""

KINDS = ("lookalike", "misspell", "substitute", "insert")
"""The kinds of edits: letters of the same shape, misspelt words, words that stand between the same neighbours, and
words of another label in addition."""


@dataclass(frozen=True)
class Attack:
    """A goal, the kinds of edits, and the limits.

    queries: the most texts that the model is asked about one text, with the text itself. edits: the largest share of
    the words of a text that are edited, at least one word.
    """

    goal: str
    kinds: tuple[str, ...]
    queries: int = 200
    edits: float = 0.2


@dataclass
class Attempt:
    """The attack on a text: the answers before and after, the edited text, and how it came about.

    applies: whether the text could be attacked. reached: whether the goal was. edits: (word, what stands there now).
    """

    label: str
    before: Answer
    after: Answer
    text: str
    applies: bool
    reached: bool = False
    queries: int = 1
    edits: list[tuple[str, str]] = field(default_factory=list)


def attempt(ask: Ask, attack: Attack, text: str, label: str, layers: int, words: Words) -> Attempt:
    """Attack one text. ask: the model. label: of the text. layers: of the model. words: those for edits."""
    goal = GOALS[attack.goal]
    first = ask(text)
    found = Attempt(label, first, first, text, goal.applies(first, label, layers))
    if not found.applies:
        return found
    search = _Search(ask, attack, found, words, layers)
    with suppress(_SpentError):
        search.run()
    return found


@dataclass(frozen=True)
class Words:
    """The words for edits, from texts that are not attacked.

    vocabulary: of these texts. others: label -> words that are typical of the other labels.
    """

    vocabulary: Vocabulary
    others: dict[str, list[str]]

    @classmethod
    def of(cls, texts: Sequence[tuple[str, str]], labels: Sequence[str]) -> Words:
        """From labelled texts. labels: all labels of the model."""
        vocabulary = Vocabulary(texts)
        typical = {label: vocabulary.typical(label, TYPICAL) for label in labels}
        return cls(
            vocabulary,
            {label: [word for other in labels if other != label for word in typical[other]] for label in labels},
        )

    def candidates(self, kind: str, words: Sequence[str], place: int, label: str) -> Iterator[str]:
        """What may stand in the place of a word of a text."""
        word = words[place]
        core = plain(word)
        start = word.lower().find(core) if core else 0
        before, own, after = word[:start], word[start : start + len(core)], word[start + len(core) :]
        if kind == "lookalike":
            yield from lookalikes(word)
        elif kind == "misspell":
            yield from (before + found + after for found in misspellings(own) if own.isalpha())
        elif kind == "substitute" and core:
            others = self.vocabulary.in_the_same_place([plain(one) for one in words], place, CANDIDATES)
            yield from (before + (one.capitalize() if own[0].isupper() else one) + after for one in others)
        elif kind == "insert":
            others = self.others[label]
            # other words at each place, so that a text is not edited with the same word again and again
            for number in range(min(CANDIDATES, len(others))):
                yield f"{others[(place * CANDIDATES + number) % len(others)]} {word}"


class _SpentError(Exception):
    """All queries are used."""


class _Search:
    """The search on one text, which fills its `Attempt`."""

    def __init__(self, ask: Ask, attack: Attack, found: Attempt, words: Words, layers: int) -> None:
        self._ask, self._attack, self._found, self._words, self._layers = ask, attack, found, words, layers
        self._goal = GOALS[attack.goal]
        # words at even places, the white space between them at odd ones
        self._pieces = re.split(r"(\s+)", found.text)
        self._score = self._score_of(found.before)

    def run(self) -> None:
        """Edit words until the goal is reached or a limit is."""
        original = list(self._pieces)
        places = [place for place in range(0, len(original), 2) if original[place]]
        words = [original[place] for place in places]
        most = max(1, int(self._attack.edits * len(words)))
        for number in self._ranked(places):
            if len(self._found.edits) == most or self._edit(places[number], words, number):
                return

    def _ranked(self, places: Sequence[int]) -> list[int]:
        """The numbers of the words, those first without which the score rises most."""
        room = int(RANKED * self._attack.queries)
        changes = {}
        for number, place in list(enumerate(places))[:room]:
            without = "".join([*self._pieces[:place], *self._pieces[place + 1 :]])
            if without.strip():
                changes[number] = self._score_of(self._query(without)) - self._score
        return sorted(range(len(places)), key=lambda number: -changes.get(number, -float("inf")))

    def _edit(self, place: int, words: Sequence[str], number: int) -> bool:
        """Try the edits of a word and keep the best, if it is better; whether the goal is reached."""
        best: tuple[float, str, Answer] | None = None
        for kind in self._attack.kinds:
            found = self._words.candidates(kind, words, number, self._found.label)
            for _, piece in zip(range(CANDIDATES), found, strict=False):
                answer = self._query("".join([*self._pieces[:place], piece, *self._pieces[place + 1 :]]))
                if self._goal.reached(answer, self._found.label, self._layers):
                    self._keep(place, piece, answer)
                    self._found.reached = True
                    return True
                score = self._score_of(answer)
                if score > (self._score if best is None else best[0]):
                    best = score, piece, answer
        if best is not None:
            self._score, piece, answer = best
            self._keep(place, piece, answer)
        return False

    def _keep(self, place: int, piece: str, answer: Answer) -> None:
        self._found.edits.append((self._pieces[place], piece))
        self._pieces[place] = piece
        self._found.text, self._found.after = "".join(self._pieces), answer

    def _query(self, text: str) -> Answer:
        if self._found.queries == self._attack.queries:
            raise _SpentError
        self._found.queries += 1
        return self._ask(text)

    def _score_of(self, answer: Answer) -> float:
        return self._goal.score(answer, self._found.label, self._layers)
