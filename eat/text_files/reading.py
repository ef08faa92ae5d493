"""Rows of a text file (CSV, TSV, JSON Lines, plain text), one at a time, with the characters they are written in.

Everything that reads a file of texts reads it here, or Parquet by its own library: `eat.prepare.sources.tables` for
tables in memory, `eat.predict` for files of any size. It needs no library.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, cast

from eat.errors import DamagedFile, EatError
from eat.text_files import guesses
from eat.text_files.columns import TEXT_COLUMN
from eat.text_files.form import DELIMITED, NO_HEADER, Form, delimiter_of, is_packed, quote_of

LONGEST_CELL = 10_000_000
"""The most characters of a cell. Without a limit, a quotation mark that is not closed would take the whole file."""

STDIN = "standard input"
MARK = "\ufeff"


class Row(NamedTuple):
    """A row: the line it begins in, from 1; its characters without the last line break, after blank lines before it;
    the line break; and its cells, in JSON Lines an object."""

    line: int
    raw: str
    end: str
    cells: Any


def require_file(path: Path) -> None:
    """Raise `EatError` if there is no such file, `DamagedFile` if it is empty."""
    if not path.is_file():
        raise EatError(f"{path}: no such file; the path is relative to {Path.cwd()}")
    if path.stat().st_size == 0:
        raise DamagedFile(f"{path}: an empty file; give a file with text in it")


def not_whole(where: object, kind: str, error: object) -> DamagedFile:
    """The error for a file that cannot be parsed."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return DamagedFile(f"{where}: not a whole {kind.upper()} file ({reason}); correct the file")


def no_rows(where: object) -> DamagedFile:
    """The error for a file without rows."""
    return DamagedFile(f"{where}: no rows; give a file with text in it")


class Reading:
    """An open text file, as a context manager; iterating gives its rows, each a `Row`, once.

    path: the file; `None` for standard input. kind: one of `KINDS` but `parquet`. names: of the columns; in JSON Lines
    the keys of the first object. header: the row of the names, if there is one. has_mark: whether it begins with a byte
    order mark. may_be_short: whether a row may have fewer cells than the header. Raises, also while iterating,
    `DamagedFile` if it is empty or cannot be parsed, `EatError` if the encoding is unknown.
    """

    def __init__(self, path: Path | None, kind: str, form: Form, may_be_short: bool = False) -> None:
        self.path, self.kind, self.form = path, kind, form
        self.where = str(path or STDIN)
        self.has_mark = False
        self.header: Row | None = None
        self._may_be_short = may_be_short
        self._bytes = _opened(path)
        try:
            self._text = io.TextIOWrapper(self._bytes, encoding=form.encoding, newline="")
        except LookupError:
            raise EatError(f"encoding {form.encoding!r} is unknown; give one such as utf-8, latin-1") from None
        self._lines = _Lines(self._text, self)
        self._rows = self._parsed()
        self._first: Row | None = None
        self.names = self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.path is not None:
            self._text.close()
        else:
            self._text.detach()  # standard input stays open

    def __iter__(self) -> Iterator[Row]:
        if self._first is not None:
            yield self._first
        while (row := self._next()) is not None:
            yield row

    def _begin(self) -> list[str]:
        """Read the header, or the first row, and return the names of the columns."""
        row = self._next()
        if row is None:
            raise no_rows(self.where)
        if self.kind == "jsonl":
            self._first = row
            return list(row.cells)
        if self.kind == "txt":
            self._first = row
            return [TEXT_COLUMN]
        self._width = len(row.cells)
        if self.form.header == NO_HEADER:
            self._first = row
            return [str(number + 1) for number in range(self._width)]
        self.header, self._first = row, self._next()
        if self._first is None:
            raise no_rows(self.where)
        return cast("list[str]", row.cells)

    def delimiter_hint(self) -> str:
        """What the delimiter may be, if the file seems to have another; for a message."""
        if self.kind not in DELIMITED:
            return ""
        begin = self.header or self._first
        return guesses.delimiter_hint(self.names, begin.raw if begin else "", delimiter_of(self.kind, self.form))

    def _next(self) -> Row | None:
        try:
            return next(self._rows, None)
        except EatError:
            raise
        except UnicodeDecodeError as error:
            raise self._not_text(error) from None
        except (ValueError, csv.Error, EOFError, OSError, zlib.error) as error:
            raise not_whole(self.where, self.kind, error) from None

    def _not_text(self, error: UnicodeDecodeError) -> DamagedFile:
        place, hint = f"{error.reason} near line {self._lines.count + 1}", ""
        if self.path is not None:
            place, hint = guesses.undecodable(lambda: _opened(self.path), self.form.encoding)
        return DamagedFile(
            f"{self.where}: not {self.form.encoding.upper()} text ({place}){hint}; save it as UTF-8, or give its "
            "encoding"
        )

    def _parsed(self) -> Iterator[Row]:
        if self.kind == "jsonl":
            return self._objects()
        return self._texts() if self.kind == "txt" else self._delimited()

    def _texts(self) -> Iterator[Row]:
        for line in self._lines:
            raw, end = _without_end(line)
            yield Row(self._lines.count, raw, end, [raw])
            self._lines.held.clear()

    def _objects(self) -> Iterator[Row]:
        for line in self._lines:
            if not line.strip():
                continue
            value = _object(line, self._lines.count)
            yield self._row(value)

    def _delimited(self) -> Iterator[Row]:
        quote = quote_of(self.form)
        form: dict[str, Any] = {"delimiter": delimiter_of(self.kind, self.form)}
        form |= {"quoting": csv.QUOTE_NONE} if quote is None else {"quotechar": quote}
        csv.field_size_limit(LONGEST_CELL)
        reader = csv.reader(self._lines, **form)
        width, row = 0, None
        while True:
            began = self._lines.count + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                raise ValueError(f"line {began}: {error}{guesses.quote_hint(quote or '', quote)}") from None
            if not cells or (len(cells) == 1 < width and not cells[0].strip()):  # a blank line
                continue
            if width == 0:
                width = len(cells)
            if len(cells) > width or (len(cells) < width and not self._may_be_short):
                raise ValueError(
                    f"line {began}: {len(cells)} cells, and {width} before"
                    f"{guesses.quote_hint(''.join(self._lines.held), quote)}"
                )
            row = self._row(cells, began)
            yield row
        if row is not None and quote is not None:
            _require_closed(row, form)

    def _row(self, cells: Sequence[str] | Mapping[str, Any], began: int | None = None) -> Row:
        """The row of the lines that were read since the last one."""
        raw, end = _without_end("".join(self._lines.held))
        self._lines.held.clear()
        return Row(began or self._lines.count, raw, end, cells)


class _Lines:
    """The lines of a file: how many were read, and those `held` since the last row."""

    def __init__(self, stream: io.TextIOWrapper, reading: Reading) -> None:
        self._stream = stream
        self._reading = reading
        self.count = 0
        self.held: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._stream)
        if self.count == 0 and line.startswith(MARK):
            self._reading.has_mark = True
            line = line.removeprefix(MARK)
        self.count += 1
        if "\0" in line:
            hint = guesses.encoding_hint(line.encode(errors="replace"))
            raise ValueError(f"line {self.count}: a NUL character{hint}; remove it, or give the encoding of the file")
        self.held.append(line)
        return line


def _opened(path: Path | None) -> BinaryIO:
    if path is None:
        return sys.stdin.buffer
    try:
        return cast(BinaryIO, gzip.open(path)) if is_packed(path) else open(path, "rb")
    except OSError as error:
        raise EatError(f"{path}: cannot be read ({error.strerror}); correct the path or its rights") from None


def _without_end(line: str) -> tuple[str, str]:
    """A line without its line break, and the line break."""
    raw = line.removesuffix("\n").removesuffix("\r")
    return raw, line[len(raw) :]


def _object(line: str, number: int) -> dict[str, Any]:
    """A line of JSON Lines. Raises `ValueError` that names the line."""
    try:
        value = json.loads(line)
        if "\\u" in line:  # an escape such as \ud800 is valid JSON, but not text
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"line {number}: half of a surrogate pair") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"line {number}: {type(value).__name__}, not an object")
    return value


def _require_closed(row: Row, form: Mapping[str, Any]) -> None:
    """Refuse a last row whose quotation mark is not closed, which the parser takes as closed at the end."""
    try:
        list(csv.reader(io.StringIO(row.raw, newline=""), strict=True, **form))
    except csv.Error as error:
        if "end of data" in str(error):
            raise ValueError(f"line {row.line}: a quotation mark is not closed") from None
