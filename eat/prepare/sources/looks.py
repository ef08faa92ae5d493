"""What a user's file looks like: guesses from its first bytes, for messages only. Nothing here is ever applied.

Each guess names the key of a `file` source, which is also an option of the commands that take a file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from eat.errors import EatError
from eat.files import MEGABYTE
from eat.prepare.sources.tables import delimiter_of
from eat.text_files.detection import delimiter_in, encoding_of, quote_in, same_encoding
from eat.text_files.form import Form

DELIMITED = (".csv", ".tsv")

MOST_BYTES = 8 * MEGABYTE
"""The part of a file from which its encoding is guessed."""


def giving(key: str, value: str) -> str:
    """How to give a key: in a configuration, and as an option."""
    shown = {"\t": '"\\t"', "'": '"\'"', "first_line": "first_line", "none": "none"}.get(value)
    if shown is None:
        shown = f'"{value}"' if len(value) == 1 else value
    option = {"\t": "$'\\t'"}.get(value, shown)
    return f"give {key}: {shown} (--{key} {option})"


@contextmanager
def hinting(path: Path, form: Form, *others: Path) -> Iterator[None]:
    """Add what the file looks like, and the key to give, to the message of an error in the block.

    others: more files of this form; the hint is about one of them if the message begins with its name.
    """
    try:
        yield
    except EatError as error:
        named = next((other for other in others if str(error).startswith(f"{other}: ")), path)
        hint = hint_of(named, form, str(error))
        if not hint or hint in str(error):
            raise
        raise type(error)(f"{error}; {hint}") from None


def hint_of(path: Path, form: Form, problem: str) -> str:
    """What to give so that a file can be read that was refused with this message; empty if nothing is known."""
    if not path.is_file() or path.suffix.lower() == ".parquet":
        return ""
    content = _first_bytes(path)
    looks = encoding_of(content)
    if looks is not None and not same_encoding(looks, form.encoding):
        said = f"it looks like {looks}"
        return giving("encoding", looks) if said in problem else f"{said}: {giving('encoding', looks)}"
    if path.suffix.lower() not in DELIMITED:
        return ""
    return next(_of_cells(_lines(content, form), delimiter_of(path, form), form, problem), "")


def _of_cells(lines: Sequence[str], used: str, form: Form, problem: str) -> Iterator[str]:
    """Hints about delimiter, quotes and header, the likeliest first."""
    found = delimiter_in(lines)
    if "give the delimiter" not in problem and found not in (None, used):
        yield f"its cells look separated by {_named(found)}: {giving('delimiter', str(found))}"
    if "is not closed" in problem and form.quote != "none":
        yield f"if quotation marks are ordinary text, {giving('quote', 'none')}"
    if (mark := quote_in(lines, used)) not in (None, form.quote):
        yield f"its cells look quoted by {mark}: {giving('quote', str(mark))}"
    if "no column" in problem and form.header == "none":
        yield f"columns are numbers with header: none; if the first line names them, {giving('header', 'first_line')}"


def was_decoded_wrongly(texts: Sequence[str], form: Form) -> bool:
    """Whether most texts with other characters than ASCII are UTF-8 that was read in another encoding."""
    if same_encoding(form.encoding, "utf-8"):
        return False
    telling = [text for text in texts if not text.isascii()][:200]

    def is_utf_8(text: str) -> bool:
        try:
            text.encode(form.encoding).decode("utf-8")
        except UnicodeError:
            return False
        return True

    return bool(telling) and sum(map(is_utf_8, telling)) > 0.5 * len(telling)


def first_cells(path: Path, form: Form) -> list[str]:
    """The cells of the first line of a delimited file; empty for other files."""
    if path.suffix.lower() not in DELIMITED:
        return []
    lines = _lines(_first_bytes(path)[: MEGABYTE // 4], form)
    mark = None if form.quote == "none" else form.quote
    rows = csv.reader(
        lines,
        delimiter=delimiter_of(path, form),
        quotechar=mark,
        quoting=csv.QUOTE_NONE if mark is None else csv.QUOTE_MINIMAL,
    )
    with suppress(csv.Error):
        return next(rows, [])
    return []


def _first_bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return b""


def _lines(content: bytes, form: Form) -> list[str]:
    with suppress(LookupError):
        return content.decode(form.encoding, errors="replace").removeprefix("\ufeff").splitlines()
    return []


def _named(delimiter: str | None) -> str:
    return {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}.get(str(delimiter), repr(delimiter))
