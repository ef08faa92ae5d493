"""Edits of English sentences that insert or remove one negation, by rule.

A pair is a sentence without a negation and the same sentence with one. One of the two is a text of the task, the other
is edited. A text takes part only if the number of its negations is certain: none for an insertion, exactly one for a
removal. Words such as `hardly` and `lacks` count, although no rule edits them, and so do phrases that no rule can undo,
such as `not only`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["insert", "remove"]
KINDS: tuple[Kind, ...] = ("insert", "remove")

_NT = r"n['\N{RIGHT SINGLE QUOTATION MARK}]t"
_ANY = re.compile(
    rf"\b(?:not|cannot|never|no|without|nothing|nobody|nowhere|none|neither|nor|hardly|barely|scarcely|seldom|rarely"
    rf"|lack|lacks|lacked|lacking)\b|{_NT}\b",
    re.IGNORECASE,
)
"""Every negation that is counted."""

_BE = "is|are|was|were"
_SUBJECT = "i|you|he|she|it|we|they|this|that|these|those|there"
_FIRST = rf"(?<=[a-z0-9,)]\s)(?P<auxiliary>{{}})(?=\s+(?!(?:{_SUBJECT}|all)\b)[a-z])"
"""An auxiliary within a statement: in a question it comes first, or before the subject."""
_A_NOUN = r"(?!(?:lot|few|little|bit|number|couple|great deal)\b)"


@dataclass(frozen=True)
class Pair:
    """A text of a task and its edit.

    id: of the text. rule: the name of a rule. start, end, replacement: the edit of the text, in characters. cue: where
    the negation is in `negated`, in characters, from and to.
    """

    id: str
    kind: Kind
    rule: str
    start: int
    end: int
    replacement: str
    affirmative: str
    negated: str
    cue: tuple[int, int]


@dataclass(frozen=True)
class _Rule:
    """What a match of `pattern` is replaced by; cue: the negation, a group of a removal, a word of an insertion."""

    name: str
    pattern: re.Pattern[str]
    replacement: str
    cue: str


def _rule(name: str, pattern: str, replacement: str, cue: str = "cue") -> _Rule:
    return _Rule(name, re.compile(pattern, re.IGNORECASE), replacement, cue)


INSERTIONS = (
    _rule("not", _FIRST.format(rf"{_BE}|could|will|would|should|must|may|might"), r"\g<auxiliary> not", "not"),
    _rule("n't", _FIRST.format(rf"{_BE}|could|would|should"), r"\g<auxiliary>n't", "n't"),
    _rule("never", _FIRST.format(rf"{_BE}|could|will|would|should|must|may|might"), r"\g<auxiliary> never", "never"),
    _rule("no", rf"\b(?P<verb>{_BE}|has|have|had)\s+(?:a|an|some)\s+{_A_NOUN}(?=[a-z])", r"\g<verb> no ", "no"),
    _rule("without", r"\bwith\s+(?!(?:which|whom|whose|regard|respect)\b)(?=[a-z])", "without ", "without"),
    _rule("nothing", r"\beverything\b(?! but\b)", "nothing", "nothing"),
    _rule("nobody", r"\b(?:everyone|everybody)\b", "nobody", "nobody"),
)

REMOVALS = (
    _rule(
        "not",
        r"(?<!\bor )(?<!\bif )(?<!\bwhy )\b(?P<cue>not)\s+"
        r"(?!(?:only|just|merely|even|simply|so much|to mention|least|all|until|exactly)\b)(?=[a-z])",
        "",
    ),
    _rule("cannot", r"\b(?P<auxiliary>can)(?P<cue>not)\b", r"\g<auxiliary>"),
    _rule(
        "n't",
        r"\b(?P<auxiliary>is|are|was|were|do|does|did|has|have|had|could|would|should|must|need|might)\s?"
        rf"(?P<cue>{_NT})\b",
        r"\g<auxiliary>",
    ),
    _rule("n't", rf"\bca\s?(?P<cue>{_NT})\b", "can"),
    _rule("n't", rf"\bwo\s?(?P<cue>{_NT})\b", "will"),
    _rule("n't", rf"\bai\s?(?P<cue>{_NT})\b", "is"),
    _rule("never", r"\b(?P<cue>never)\s+(?!mind\b)(?=[a-z])", ""),
    _rule(
        "no",
        r"(?<!\bor )\b(?P<cue>no)\s+"
        r"(?!(?:longer|doubt|matter|more|less|one|means|wonder|sooner|better|worse|other|such)\b)(?=[a-z])",
        "some ",
    ),
    _rule("without", r"\b(?P<cue>without)\s+(?!(?:(?:a|any) )?(?:doubt|question)\b|\w+ing\b)(?=[a-z])", "with "),
    _rule("nothing", r"\b(?P<cue>nothing)\b(?!\s+(?:but|more|less|if|short|other)\b)", "something"),
    _rule("nobody", r"\b(?P<cue>nobody|no one)\b", "somebody"),
    _rule("nowhere", r"\b(?P<cue>nowhere)\b(?!\s+near\b)", "somewhere"),
)


def pair_of(identity: str, text: str, kind: Kind) -> Pair | None:
    """The pair of a text and its edit of a kind; `None` if no rule applies.

    If several insertions are possible, a hash of the text's id picks one, so that all rules occur. The first match of
    the rule is edited.
    """
    count = len(_ANY.findall(text))
    if count != (1 if kind == "remove" else 0):
        return None
    rules = INSERTIONS if kind == "insert" else REMOVALS
    found = [(rule, match) for rule in rules if (match := rule.pattern.search(text))]
    if not found:
        return None
    rule, match = found[_number(kind, identity) % len(found)]
    start, end = match.span()
    replacement = match.expand(rule.replacement)
    if match[0][:1].isupper():
        replacement = replacement[:1].upper() + replacement[1:]
    if not replacement and text[start].isupper():
        replacement, end = text[end].upper(), end + 1
    edited = text[:start] + replacement + text[end:]
    if kind == "insert":
        cue = start + replacement.lower().rindex(rule.cue)
        return Pair(identity, kind, rule.name, start, end, replacement, text, edited, (cue, cue + len(rule.cue)))
    if _ANY.search(edited):
        return None
    return Pair(identity, kind, rule.name, start, end, replacement, edited, text, match.span(rule.cue))


def _number(kind: str, identity: str) -> int:
    return int(hashlib.sha256(f"{kind} {identity}".encode()).hexdigest()[:8], 16)


def pairs_of(texts: Iterable[tuple[str, str]]) -> list[Pair]:
    """The pairs of texts (id, text), in their order: at most one of each kind for each text."""
    found = (pair_of(identity, text, kind) for identity, text in texts for kind in KINDS)
    return [pair for pair in found if pair is not None]
