"""Sentences of words with tags, from CoNLL files.

Two forms are read: two columns, `word<TAB>tag`, and CoNLL-U, of which the word (column 2) and UPOS (column 4) are used.
An empty line ends a sentence. Every mistake is refused with the file and the number of its line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eat.errors import EatError, listed

OUTSIDE = "O"
CONLLU_COLUMNS = 10


@dataclass(frozen=True)
class Sentence:
    """The words of a sentence and the tag of each; line: of its first word, from 1."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    line: int


def read_sentences(path: Path, kind: str, spans: bool) -> list[Sentence]:
    """The sentences of a file in their order.

    kind: `conll` or `conllu`. spans: whether the tags mark spans: O, B-type and I-type, where I- continues a span of
    its type.

    Raises `EatError` in one line if the file cannot be read or has no sentence, a line has no tag, a sentence has no
    words, or a tag is not of this form.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EatError(
            f"{path}: {error.strerror}; put the file there, or correct the path in the configuration"
        ) from None
    except UnicodeDecodeError as error:
        raise EatError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    found = list(_sentences(path, text.split("\n"), kind == "conllu"))
    if not found:
        raise EatError(f"{path}: contains no sentence; give a file with a word and its tag per line")
    for sentence in found if spans else ():
        _require_spans(path, sentence)
    return found


def _sentences(path: Path, lines: Sequence[str], is_conllu: bool) -> Iterator[Sentence]:
    words: list[str] = []
    tags: list[str] = []
    first = 0
    begun = False  # whether something was read since the last empty line: in CoNLL-U a comment counts
    for number, line in enumerate((line.removesuffix("\r") for line in lines), start=1):
        if not line.strip():
            if words:
                yield Sentence(tuple(words), tuple(tags), first)
            elif begun:
                raise EatError(f"{path}, line {number}: an empty sentence: comments without words; remove it")
            elif any(map(str.strip, lines[number:])):
                raise EatError(f"{path}, line {number}: an empty sentence; leave one empty line between two sentences")
            words, tags, begun = [], [], False
            continue
        if is_conllu and line.startswith("#"):
            begun = True
            continue
        pair = _conllu_word(path, number, line) if is_conllu else _word(path, number, line)
        if pair is not None:
            first = first if words else number
            words.append(pair[0])
            tags.append(pair[1])
        begun = True
    if words:
        yield Sentence(tuple(words), tuple(tags), first)


def _word(path: Path, number: int, line: str) -> tuple[str, str]:
    """The word and the tag of a line of two columns."""
    cells = line.split("\t")
    if len(cells) != 2 or not cells[0].strip() or not cells[1].strip():
        raise EatError(
            f"{path}, line {number}: found {line[:60]!r}; a line is a word, a tab and its tag: add what is missing"
        )
    return cells[0], cells[1].strip()


def _conllu_word(path: Path, number: int, line: str) -> tuple[str, str] | None:
    """The word and UPOS of a line of CoNLL-U; `None` for a range (3-4) or an empty node (8.1)."""
    cells = line.split("\t")
    if len(cells) != CONLLU_COLUMNS:
        raise EatError(
            f"{path}, line {number}: {len(cells)} columns; CoNLL-U has {CONLLU_COLUMNS}: use kind: conll for two "
            "columns"
        )
    if "-" in cells[0] or "." in cells[0]:
        return None
    if not cells[1].strip() or cells[3] in ("_", ""):
        raise EatError(f"{path}, line {number}: found the word {cells[1]!r} with the UPOS {cells[3]!r}; give both")
    return cells[1], cells[3]


def _require_spans(path: Path, sentence: Sentence) -> None:
    """Refuse tags that are not O, B-type or I-type, and an I- that continues no span of its type."""
    before = OUTSIDE
    for word, tag in zip(sentence.words, sentence.tags, strict=True):
        at = f"{path}, sentence of line {sentence.line}: the word {word!r} has the tag {tag!r}"
        if tag != OUTSIDE and (tag[:2] not in ("B-", "I-") or len(tag) == 2):
            raise EatError(f"{at}; allowed: O, B-type and I-type; correct it, or set metric: token_accuracy")
        if tag.startswith("I-") and before[2:] != tag[2:]:
            raise EatError(f"{at} after {before!r}; a span begins with B-: correct the tag")
        before = tag


def tags_of(train: Sequence[Sentence], dev: Sequence[Sentence], dev_path: Path) -> list[str]:
    """The tags of the training sentences: O first, the others sorted.

    Raises `EatError` if dev has another tag, which no model could learn.
    """
    known = {tag for sentence in train for tag in sentence.tags}
    for sentence in dev:
        unknown = sorted({*sentence.tags} - known)
        if unknown:
            raise EatError(
                f"{dev_path}, sentence of line {sentence.line}: the tag {unknown[0]!r} is in no training sentence; "
                f"known: {listed(sorted(known))}: correct it, or give training sentences with it"
            )
    return sorted(known, key=lambda tag: (tag != OUTSIDE, tag))
