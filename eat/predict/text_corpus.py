"""A corpus in a text file or from standard input. Rows are written as they were read, with the answers at their end."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eat.errors import EatError
from eat.files import sync
from eat.predict.corpus import Chunk, Corpus, cells_of, example
from eat.predict.options import WRITTEN_AS, PredictOptions
from eat.progress import Progress
from eat.text_files.columns import Place, chosen_columns, locate, no_column, text_of, value_within
from eat.text_files.form import NO_HEADER, ORDINARY, delimiter_of, quote_of
from eat.text_files.reading import MARK, Reading, Row, require_file

if TYPE_CHECKING:
    from eat.runtime.classifier import Answer, Text

LINE_BREAK = "\n"
"""After a last row that had none."""


class TextCorpus(Corpus):
    """A CSV, TSV, JSON Lines or plain text file, or standard input."""

    def __init__(self, options: PredictOptions) -> None:
        self._options = options
        self._path = options.path
        self.added = options.added
        if self._path is not None:
            require_file(self._path)
        self._reading = Reading(self._path, options.kind, options.form)
        if self._path is not None:  # it is opened again for each pass; standard input can be read once
            self._reading.close()
        self.where = self._reading.where
        self._names = self._reading.names
        self._extra_names: dict[str, None] = {}
        self._columns = chosen_columns(self.where, self._names, options.columns)
        self._places: list[Place] | None = None
        self._seen: set[str] = set()
        if options.kind != "jsonl":
            if options.form.header != NO_HEADER or options.kind == "txt":
                self.require_free(self._names)
            self._find_columns()
        self._encode = codecs.getincrementalencoder(options.form.encoding)().encode
        self._writes: Callable[[Row, Answer | None], str] = self._object if options.kind == "jsonl" else self._cells
        # plain text becomes CSV
        self._written = WRITTEN_AS.get(options.kind, options.kind)
        form = ORDINARY if options.kind == "txt" else options.form
        self._delimiter, self._quote = delimiter_of(self._written, form), quote_of(form)

    # --- reading --------------------------------------------------------------------------------------------------

    def scan(self) -> int | None:
        """As `Corpus`."""
        if self._path is None:
            return None
        rows = 0
        with self._open() as reading, Progress(f"checking {self.where}") as progress:
            for row in reading:
                self._check(row)
                rows += 1
                progress.detail = f"{rows} rows"
        self._require_found(itertools.chain(self._names, self._extra_names))
        return rows

    def chunks(self, size: int, skip: int) -> Iterator[Chunk]:
        """As `Corpus`."""
        with self._open() as reading:
            rows = itertools.islice(reading, skip, None)
            is_first = True
            while taken := list(itertools.islice(rows, size)):
                if self._path is None:
                    for row in taken:
                        self._check(row)
                    if is_first:
                        self._require_found(itertools.chain(self._names, self._extra_names))
                is_first = False
                yield Chunk([row.line for row in taken], [self._text(row) for row in taken], taken)

    @contextmanager
    def _open(self) -> Iterator[Reading]:
        if self._path is None:
            yield self._reading
            return
        with Reading(self._path, self._options.kind, self._options.form) as reading:
            yield reading

    def _check(self, row: Row) -> None:
        """Raise `EatError` if a row has a cell that is no text, or an object a key that is to be added."""
        if self._options.kind != "jsonl":
            return
        self.require_free(row.cells, f", line {row.line}")
        for key in row.cells:
            if key not in self._extra_names:
                self._extra_names[key] = None
        for column, value in zip(self._columns, self._values(row), strict=True):
            if value is not None:
                self._seen.add(column)
            text_of(f"{self.where}, line {row.line}", column, value)

    def _require_found(self, names: Iterator[str]) -> None:
        """Raise `EatError` if no object has a value of a column."""
        if self._options.kind != "jsonl":
            return
        for column in self._columns:
            if column not in self._seen:
                raise no_column(self.where, dict.fromkeys(names), column)

    def _find_columns(self) -> None:
        self._places = []
        for column in self._columns:
            place = locate(self.where, self._names, column)
            if place is None or place.keys:
                raise no_column(self.where, self._names, column, self._reading.delimiter_hint())
            self._places.append(place)

    def _values(self, row: Row) -> list[Any]:
        if self._places is not None:
            return [row.cells[place.number] for place in self._places]
        values = []
        for column in self._columns:
            # numbers are those of the first object's keys; names of others come later
            names = self._names if column.isdecimal() else [*row.cells]
            place = None if column in row.cells else locate(self.where, names, column)
            name, keys = (column, ()) if place is None else (place.name, place.keys)
            values.append(value_within(row.cells.get(name), keys))
        return values

    def _text(self, row: Row) -> Text | None:
        place = f"{self.where}, line {row.line}"
        values = zip(self._columns, self._values(row), strict=True)
        return example([text_of(place, column, value) for column, value in values])

    # --- writing --------------------------------------------------------------------------------------------------

    def head(self) -> bytes:
        """As `Corpus`."""
        text = MARK if self._reading.has_mark else ""
        if self._options.kind == "txt":
            text += self._joined((*self._names, *self.added)) + LINE_BREAK
        elif self._reading.header is not None:
            header = self._reading.header
            text += f"{header.raw}{self._delimiter}{self._joined(self.added)}{header.end or LINE_BREAK}"
        return self._bytes(text)

    def lines(self, chunk: Chunk, answers: Sequence[Answer | None]) -> bytes:
        """As `Corpus`."""
        return self._bytes("".join(map(self._writes, chunk.rows, answers)))

    def finish(self, written: Path, to: Path) -> None:
        """As `Corpus`."""
        sync(written)
        os.replace(written, to)
        sync(to.absolute().parent)

    def check_labels(self, labels: Sequence[str]) -> None:
        """As `Corpus`."""
        for label in (*labels, *self.added):
            try:
                label.encode(self._options.form.encoding)
                if self._options.kind != "jsonl":
                    self._joined([label])
            except UnicodeEncodeError:
                raise EatError(
                    f"{self.where}: the label {label!r} cannot be written in {self._options.form.encoding}; save the "
                    "file as UTF-8"
                ) from None
            except csv.Error:
                raise EatError(
                    f"{self.where}: the label {label!r} cannot be written without quotation marks; quote the file's "
                    "cells, and leave --quote none out"
                ) from None

    def _bytes(self, text: str) -> bytes:
        content = self._encode(text)
        # each chunk is a member of its own, so that a run that goes on can append
        return gzip.compress(content, mtime=0) if self._options.packs and content else content

    def _joined(self, cells: Sequence[Any]) -> str:
        """Cells as a delimited line."""
        form: dict[str, Any] = {"delimiter": self._delimiter, "lineterminator": ""}
        form |= {"quoting": csv.QUOTE_NONE} if self._quote is None else {"quotechar": self._quote}
        line = io.StringIO()
        csv.writer(line, **form).writerow(cells)
        return line.getvalue()

    def _cells(self, row: Row, answer: Answer | None) -> str:
        raw = self._joined(row.cells) if self._options.kind == "txt" else row.raw
        cells = self._delimiter * 3 if answer is None else self._joined(cells_of(answer))
        return f"{raw}{self._delimiter}{cells}{row.end or LINE_BREAK}"

    def _object(self, row: Row, answer: Answer | None) -> str:
        added = dict(zip(self.added, [None] * 4 if answer is None else cells_of(answer), strict=True))
        inside = json.dumps(added, ensure_ascii=False)[1:]
        raw = row.raw.rstrip().removesuffix("}").rstrip()
        return f"{raw}{', ' if row.cells else ''}{inside}{row.end or LINE_BREAK}"
