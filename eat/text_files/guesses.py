"""What a file looks like, for messages only: nothing here decides how a file is read.

Each hint begins with a semicolon and a blank, or is empty if there is none.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import BinaryIO

from eat.text_files.detection import DELIMITERS, delimiter_in, encoding_of

SEEN_BYTES = 2**16
"""As much of a file is looked at."""


def encoding_hint(head: bytes) -> str:
    """What the encoding may be."""
    found = encoding_of(head)
    return f"; it looks like {found}" if found else ""


def delimiter_hint(names: list[str], head: str, used: str) -> str:
    """A hint if the name of the only column holds another separator."""
    if len(names) != 1 or not any(other in names[0] for other in DELIMITERS):
        return ""
    found = delimiter_in(head.splitlines()) or next(other for other in DELIMITERS if other in names[0])
    spoken = {",": "commas", "\t": "tabs"}.get(used, repr(used))
    return "" if found == used else f"; cells are separated by {spoken}, not {found!r}: give the delimiter {found!r}"


def quote_hint(raw: str, quote: str | None) -> str:
    """A hint for a row with too few or too many cells."""
    if quote is not None and raw.count(quote) % 2:
        return f"; a quotation mark ({quote}) is not closed: double it, or read the file with the quote none"
    other = "'" if quote != "'" else '"'
    if raw.count(other) >= 2 and raw.count(other) % 2 == 0:
        return f"; the quotation mark may be {other}"
    return "; quote cells that hold delimiters or line breaks"


def undecodable(open_again: Callable[[], BinaryIO], encoding: str) -> tuple[str, str]:
    """Where the first bytes are that are no text in an encoding, and the hint of the encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    with open_again() as file:
        head = file.read(SEEN_BYTES)
        block, before, lines = head, 0, 1
        while True:
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                at = before - pending + error.start
                lines += block[: max(error.start - pending, 0)].count(b"\n")
                return f"{error.reason} at byte {at}, in line {lines}", encoding_hint(head + block)
            if not block:  # the file has changed since
                return "bytes that are no text", encoding_hint(head)
            before += len(block)
            lines += block.count(b"\n")
            block = file.read(SEEN_BYTES)
