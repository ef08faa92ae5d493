"""What a user's file looks like: guesses from its first bytes, for messages only. Nothing here is ever applied.

Each guess names the key of a `file` source, which is also an option of the commands that take a file.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from eat.errors import EatError
from eat.files import MEGABYTE
from eat.prepare.sources.tables import delimiter_of
from eat.study.tasks import FileFormat

DELIMITERS = ",;\t|"
DELIMITED = (".csv", ".tsv")

MOST_BYTES = 8 * MEGABYTE
"""The part of a file from which its encoding is guessed."""

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


def giving(key: str, value: str) -> str:
    """How to give a key: in a configuration, and as an option."""
    shown = {"\t": '"\\t"', "'": '"\'"', "first_line": "first_line", "none": "none"}.get(value)
    if shown is None:
        shown = f'"{value}"' if len(value) == 1 else value
    option = {"\t": "$'\\t'"}.get(value, shown)
    return f"give {key}: {shown} (--{key} {option})"


@contextmanager
def hinting(path: Path, form: FileFormat) -> Iterator[None]:
    """Add what the file looks like, and the key to give, to the message of an error in the block."""
    try:
        yield
    except EatError as error:
        hint = hint_of(path, form, str(error))
        if not hint or hint in str(error):
            raise
        raise type(error)(f"{error}; {hint}") from None


def hint_of(path: Path, form: FileFormat, problem: str) -> str:
    """What to give so that a file can be read that was refused with this message; empty if nothing is known."""
    if not path.is_file() or path.suffix.lower() == ".parquet":
        return ""
    content = _first_bytes(path)
    looks = encoding_of(content)
    if looks is not None and not _same_encoding(looks, form.encoding):
        return f"it looks like {looks}: {giving('encoding', looks)}"
    if path.suffix.lower() not in DELIMITED:
        return ""
    return next(_of_cells(_lines(content, form), delimiter_of(path, form), form, problem), "")


def _of_cells(lines: Sequence[str], used: str, form: FileFormat, problem: str) -> Iterator[str]:
    """Hints about delimiter, quotes and header, the likeliest first."""
    found = delimiter_in(lines)
    if "give the delimiter" not in problem and found not in (None, used):
        yield f"its cells look separated by {_named(found)}: {giving('delimiter', str(found))}"
    if "EOF inside string" in problem and form.quote != "none":
        yield f"a quotation mark is not closed: if they are ordinary text, {giving('quote', 'none')}"
    if (mark := quote_in(lines, used)) not in (None, form.quote):
        yield f"its cells look quoted by {mark}: {giving('quote', str(mark))}"
    if "Expected" in problem and "fields" in problem:
        yield f"a text with {_named(used)} in it needs quotation marks around it"
    if "no column" in problem and form.header == "none":
        yield f"columns are numbers with header: none; if the first line names them, {giving('header', 'first_line')}"


def encoding_of(content: bytes) -> str | None:
    """The encoding that the beginning of a file looks like; `None` if it is unknown.

    Other encodings than UTF need `charset-normalizer`, which many packages install.
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return name
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


def was_decoded_wrongly(texts: Sequence[str], form: FileFormat) -> bool:
    """Whether most texts with other characters than ASCII are UTF-8 that was read in another encoding."""
    if _same_encoding(form.encoding, "utf-8"):
        return False
    telling = [text for text in texts if not text.isascii()][:200]

    def is_utf_8(text: str) -> bool:
        try:
            text.encode(form.encoding).decode("utf-8")
        except UnicodeError:
            return False
        return True

    return bool(telling) and sum(map(is_utf_8, telling)) > 0.5 * len(telling)


def first_cells(path: Path, form: FileFormat) -> list[str]:
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


def _lines(content: bytes, form: FileFormat) -> list[str]:
    with suppress(LookupError):
        return content.decode(form.encoding, errors="replace").removeprefix("\ufeff").splitlines()
    return []


def _is_western(lines: Sequence[bytes]) -> bool:
    """Whether the bytes beyond ASCII are, in the code page of Windows, mostly letters within words."""
    with suppress(UnicodeDecodeError):
        text = b"\n".join(lines).decode("cp1252")
        other = [character for character in text if not character.isascii()]
        return sum(character in WESTERN for character in other) > 0.9 * len(other)
    return False


def _same_encoding(first: str, second: str) -> bool:
    try:
        names = {codecs.lookup(name).name for name in (first, second)}
    except LookupError:
        return False
    # cp1252 extends latin-1, and both extend ASCII; a byte order mark is no other encoding
    alike: tuple[set[str], ...] = ({"utf-8", "utf-8-sig", "ascii"}, {"cp1252", "iso8859-1"})
    return len(names) == 1 or any(names <= group for group in alike)


def _named(delimiter: str | None) -> str:
    return {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}.get(str(delimiter), repr(delimiter))
