"""Edits of the characters of a word, after which a person still reads the same word."""

from __future__ import annotations

from collections.abc import Iterator

LATIN = "acehijlnopqsuvwxyzABCEFHIJKMNOPQSTUWXYZ"
ALIKE = (
    "\u0430\u0441\u0435\u04bb\u0456\u0458\u04cf\u0578\u043e\u0440\u051b\u0455\u057d\u1d20\u051d\u0445"
    "\u0443\u1d22\u0410\u0412\u0421\u0415\u03dc\u041d\u0406\u0408\u039a\u041c\u039d\u041e\u0420\u051a"
    "\u0405\u0422\u054d\u051c\u0425\u04ae\u0396"
)
"""For each letter of `LATIN` a letter of another script with the same shape.

Computed from the font DejaVu Sans: the first of the Cyrillic, Greek, Armenian and Latin letters that has the same
outline, and that Unicode's compatibility normalisation (NFKC) does not replace. `tests/test_evasion.py` computes it
again.
"""

_TWINS = dict(zip(LATIN, ALIKE, strict=True))


def lookalikes(word: str) -> Iterator[str]:
    """The word with all letters replaced that have a twin in another script, and with each alone."""
    whole = "".join(_TWINS.get(letter, letter) for letter in word)
    if whole != word:
        yield whole
    for place, letter in enumerate(word):
        if letter in _TWINS and (alone := word[:place] + _TWINS[letter] + word[place + 1 :]) != whole:
            yield alone


def misspellings(word: str) -> Iterator[str]:
    """The word with two inner letters swapped, or an inner letter left out or doubled. The first and last stay."""
    for place in range(1, len(word) - 2):
        if word[place] != word[place + 1]:
            yield word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    for place in range(1, len(word) - 1):
        yield word[:place] + word[place + 1 :]
        yield word[:place] + word[place] + word[place:]
