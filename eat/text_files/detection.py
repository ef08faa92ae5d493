"""What the first bytes of a file look like. Only messages use it: nothing here decides how a file is read."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from contextlib import suppress

DELIMITERS = ",;\t|"

WESTERN = frozenset("äöüßÄÖÜéèêëàâçîïôûùñáíóúãõåæøÉÀÇÑÅÆØ’‘“”–—…€£°«»´§©®·")  # noqa: RUF001
"""The characters beyond ASCII that texts of Western Europe have most."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks. That of UTF-16 begins that of UTF-32, which therefore comes first."""


def encoding_of(content: bytes) -> str | None:
    """The encoding that the beginning of a file looks like; `None` if it is unknown.

    Other encodings than UTF need `charset-normalizer`, which many packages install.
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return name
    if b"\0" in content:
        return "utf-16-le" if b"\0" in content[1::2] else "utf-16-be"
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(content)  # the last character may be cut off
        return "utf-8"
    # lines of ASCII say nothing
    telling = [line for line in content.split(b"\n") if not line.isascii()][:400]
    # most files of the West that are not UTF-8 are of Windows; short texts mislead a detector
    if _is_western(telling):
        return "cp1252"
    try:
        from charset_normalizer import from_bytes
    except ModuleNotFoundError:
        return None
    found = from_bytes(b"\n".join(telling)).best()
    return None if found is None else found.encoding.replace("_", "-")


def delimiter_in(lines: Sequence[str]) -> str | None:
    """The separator of cells that most lines have equally often; `None` if there is none."""
    sample = "\n".join(lines[:30])[:8000]
    try:
        found = csv.Sniffer().sniff(sample, DELIMITERS).delimiter
    except csv.Error:
        return None
    sizes = [len(row) for row in csv.reader(io.StringIO(sample), delimiter=found) if row][:-1]
    usual = max(set(sizes), key=sizes.count, default=1)
    return found if usual > 1 and sizes.count(usual) >= 0.8 * len(sizes) else None


def quote_in(lines: Sequence[str], delimiter: str) -> str | None:
    """A single quotation mark, if cells of most lines are within them; `None` otherwise."""
    body = [line for line in lines[1:200] if line.strip()]
    quoted = [line for line in body if f"'{delimiter}" in line and line.lstrip()[:1] == "'"]
    return "'" if body and len(quoted) >= 0.5 * len(body) else None


def same_encoding(first: str, second: str) -> bool:
    """Whether two names are those of encodings that read the same texts alike."""
    try:
        names = {codecs.lookup(name).name for name in (first, second)}
    except LookupError:
        return False
    # cp1252 extends latin-1, and both extend ASCII; a byte order mark is no other encoding
    alike: tuple[set[str], ...] = ({"utf-8", "utf-8-sig", "ascii"}, {"cp1252", "iso8859-1"})
    return len(names) == 1 or any(names <= group for group in alike)


def _is_western(lines: Sequence[bytes]) -> bool:
    """Whether the bytes beyond ASCII are, in the code page of Windows, mostly letters within words."""
    with suppress(UnicodeDecodeError):
        text = b"\n".join(lines).decode("cp1252")
        other = [character for character in text if not character.isascii()]
        return sum(character in WESTERN for character in other) > 0.9 * len(other)
    return False
