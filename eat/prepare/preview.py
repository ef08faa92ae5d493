"""A user's labelled file as a study would use it: the first rows, the labels with counts, and what looks wrong.

`eat init`, `eat train` and the check of a study print it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.errors import EatError, listed
from eat.prepare.backbones import MINILM, MINILM_FOLDER
from eat.prepare.packages import package_files
from eat.prepare.sources.file import FileReader
from eat.prepare.sources.looks import first_cells, giving, hinting, was_decoded_wrongly
from eat.prepare.sources.texts import Texts
from eat.prepare.splits import distinct, text_columns
from eat.study.backbones import Backbone, FolderBackbone, PackagedBackbone
from eat.study.tasks import FileSource

SHOWN_ROWS = 5
SHOWN_LABELS = 20
WIDTH = 90
"""The characters of a text that are shown."""

SAMPLED = 4000
"""The texts whose tokens are counted, evenly spread over the file."""

TOKENS_PER_WORD = 1.4
"""Of English text in WordPiece, where no tokenizer is at hand."""

MOST_LABELS = 50
ROWS_PER_LABEL = 10
"""More than `MOST_LABELS` labels with fewer rows each on average are no classes."""


@dataclass(frozen=True)
class Preview:
    """What a file gives.

    texts: its rows. counts: label -> rows. rows: read, empty, contradicting, duplicates (see `distinct`). lengths: of a
    sample of texts, in tokens with [CLS] and [SEP]. hints: what looks wrong, with the key that mends it.
    """

    path: Path
    source: FileSource
    texts: Texts
    counts: Mapping[str, int]
    rows: Mapping[str, int]
    lengths: npt.NDArray[np.int64]
    hints: Sequence[str]

    @property
    def different(self) -> int:
        """The number of texts that the splits divide."""
        left = ("empty", "contradicting", "duplicates")
        return self.rows["read"] - sum(self.rows[name] for name in left)

    def lines(self) -> list[str]:
        """The lines to print."""
        table = self.texts.table
        shown = [
            [self.texts.labels[row["label"]], *(_shown(row[name]) for name in text_columns(table))]
            for row in table.head(SHOWN_ROWS).to_dict("records")
        ]
        labels = [
            [_shown(label, 40), f"{count:,}", f"{100 * count / len(table):.1f} %"]
            for label, count in [*self.counts.items()][:SHOWN_LABELS]
        ]
        more = len(self.counts) - SHOWN_LABELS
        quantiles = np.percentile(self.lengths, [50, 99, 100]).astype(int)
        dev = [] if self.texts.dev is None else [f"dev texts: {self.texts.description['dev']}"]
        return [
            f"{self.path}: {self.rows['read']:,} rows; the first, as they would be used:",
            *_aligned([[self.source.label, *self.source.text], *shown]),
            f"labels in {self.source.label!r}:",
            *_aligned(labels, right=(1, 2)),
            *([f"  and {more} more"] if more > 0 else []),
            f"texts: {self.different:,} different; left out: {self.rows['empty']:,} empty, "
            f"{self.rows['duplicates']:,} repeats, {self.rows['contradicting']:,} with contradictory labels",
            *dev,
            f"tokens of a text: median {quantiles[0]}, 99 % at most {quantiles[1]}, longest {quantiles[2]}",
            *(f"hint: {hint}" for hint in self.hints),
        ]


def preview(source: FileSource, backbone: Backbone | None = None, max_length: int | None = None) -> Preview:
    """Read a file and look at it.

    backbone: whose tokenizer counts tokens. max_length: of the study, for a hint about longer texts. Raises as
    `FileReader.read`; the message then also says what the file looks like.
    """
    path = Path(source.path)
    reader = FileReader(source)
    with hinting(path, source, *reader.files()):
        texts = reader.read()
    counted = Counter(texts.labels[number] for number in texts.table["label"])
    _, rows = distinct(texts.table)
    lengths = token_lengths(texts.table, backbone)
    counts = dict(counted.most_common())
    hints = [
        *_of_form(path, source, texts, counts),
        *_of_labels(source, counts),
        *_of_texts(source, rows),
        *_of_lengths(lengths, max_length),
    ]
    return Preview(path, source, texts, counts, rows, lengths, hints)


def token_lengths(table: pd.DataFrame, backbone: Backbone | None) -> npt.NDArray[np.int64]:
    """The tokens of up to `SAMPLED` texts, with [CLS] and [SEP]; estimated from words if there is no tokenizer."""
    some = table.iloc[:: max(1, len(table) // SAMPLED)]
    columns = [list(some[name]) for name in text_columns(table)]
    file = _tokenizer_file(backbone)
    added = len(columns) + 1
    if file is None:
        words = [sum(len(text.split()) for text in row) for row in zip(*columns, strict=True)]
        return np.array([round(TOKENS_PER_WORD * count) + added for count in words], dtype=np.int64)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = [tokenizer.encode_batch_fast(texts, add_special_tokens=False) for texts in columns]
    return np.array([sum(map(len, row)) + added for row in zip(*encoded, strict=True)], dtype=np.int64)


def _tokenizer_file(backbone: Backbone | None) -> Path | None:
    if isinstance(backbone, FolderBackbone):
        file = Path(backbone.path) / "tokenizer.json"
        return file if file.is_file() else None
    if isinstance(backbone, PackagedBackbone):
        try:
            return package_files(MINILM, MINILM_FOLDER).get(f"{MINILM_FOLDER}tokenizer.json")
        except EatError:
            return None
    return None


# --- what looks wrong ---------------------------------------------------------------------------------------------


def _of_form(path: Path, source: FileSource, texts: Texts, counts: Mapping[str, int]) -> Iterator[str]:
    first = first_cells(path, source)
    label = texts.labels[texts.table["label"].iloc[0]]
    if source.header == "first_line" and set(first) & set(counts):
        yield f"the first line, {_cells(first)}, looks like a row, not like names: {giving('header', 'none')}"
    if source.header == "none" and counts[label] == 1 and len(texts.table) > 2:
        yield f"the first line, {_cells(first)}, looks like names: {giving('header', 'first_line')}"
    column = texts.table["text"]
    if was_decoded_wrongly(list(column), source):
        yield f"texts look like UTF-8 that is read as {source.encoding}: {giving('encoding', 'utf-8')}"
    if column.str.contains("\ufffd", regex=False).any():
        yield "texts hold the character for what could not be decoded (U+FFFD): save the file anew from its origin"
    for mark in ('"', "'"):
        inside = column.str.len().gt(2) & column.str.startswith(mark) & column.str.endswith(mark)
        if mark != source.quote and inside.mean() > 0.5:
            yield f"most texts are within {mark}: {giving('quote', mark)}"


def _of_labels(source: FileSource, counts: Mapping[str, int]) -> Iterator[str]:
    total = sum(counts.values())
    label, most = next(iter(counts.items()))
    if most > 0.9 * total:
        yield (
            f"{100 * most / total:.1f} % of the rows are {label!r}: always answering it would be as accurate; look at "
            "macro F1 too"
        )
    rare = [f"{label!r} ({count} rows)" for label, count in counts.items() if count < 50]
    if rare:
        better = ", or raise splits.dev to measure it better" if source.dev_path is None else ""
        yield f"few rows of {listed(rare[:5])}{' and others' if len(rare) > 5 else ''}: give more{better}"
    words = [len(label.split()) for label in counts]
    if len(counts) > MOST_LABELS or np.mean(words) > 6:
        yield (
            f"{len(counts)} different labels, such as {_shown(label, 40)!r}: if {source.label!r} does not hold the "
            "labels, name another column as label (--label)"
        )


def _of_texts(source: FileSource, rows: Mapping[str, int]) -> Iterator[str]:
    names = listed(map(repr, source.text))
    remedy = "if the text is elsewhere, name its column as text (--text)"
    if rows["empty"] > 0.05 * rows["read"]:
        yield f"{rows['empty']:,} texts in {names} are empty: {remedy}"
    if rows["duplicates"] > 0.2 * rows["read"]:
        yield f"{rows['duplicates']:,} texts in {names} repeat others: {remedy}"
    if rows["contradicting"] > 0.05 * rows["read"]:
        yield f"{rows['contradicting']:,} texts have different labels in different rows: correct the labels"


def _of_lengths(lengths: npt.NDArray[np.int64], max_length: int | None) -> Iterator[str]:
    if max_length is None:
        return
    longer = float((lengths > max_length).mean())
    if longer > 0.05:
        needed = int(np.percentile(lengths, 95))
        yield (
            f"{100 * longer:.0f} % of the texts have more than {max_length} tokens and are cut off: max_length: "
            f"{needed} would hold 95 % of them, and cost more time"
        )
    if np.percentile(lengths, 99) * 2 < max_length and max_length > 64:
        yield f"99 % of the texts have less than half of max_length: {max_length} tokens"


def require_classes(preview: Preview) -> None:
    """Refuse a label column that holds numbers or identifiers, not classes. Raises `EatError`."""
    many, rows = len(preview.counts), preview.rows["read"]
    if many > MOST_LABELS and rows < ROWS_PER_LABEL * many:
        raise EatError(
            f"{preview.path}: {many} different labels in {rows} rows of {preview.source.label!r}, such as "
            f"{_shown(next(iter(preview.counts)), 40)!r}; numbers and identifiers are no classes: name another column "
            "with --label, or group them"
        )


# --- columns ------------------------------------------------------------------------------------------------------


def column_lines(rows: pd.DataFrame) -> list[str]:
    """A line for each column: its number, name, how many different values it has, and two of them."""
    found = []
    for number, name in enumerate(rows.columns, start=1):
        column = rows.iloc[:, number - 1]
        for path, values in _plain_columns(str(name), column):
            texts = ["" if _is_missing(value) else str(value) for value in values]
            examples = listed(repr(_shown(text, 40)) for text in list(dict.fromkeys(filter(None, texts)))[:2])
            few = len(set(texts))
            found.append([str(number), path, f"{few:,} different", examples])
    return _aligned([["", "column", "values", "examples"], *found])


def _plain_columns(name: str, values: Any, depth: int = 3) -> Iterator[tuple[str, Any]]:
    """A column, or the columns within its objects as dotted paths."""
    inside = [value for value in values if isinstance(value, Mapping)]
    if not inside or depth == 0:
        yield name, values
        return
    for key in dict.fromkeys(key for value in inside[:100] for key in value):
        below = [value.get(key) if isinstance(value, Mapping) else None for value in values]
        yield from _plain_columns(f"{name}.{key}", below, depth - 1)


def _is_missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


# --- printing -----------------------------------------------------------------------------------------------------


def _shown(text: str, width: int = WIDTH) -> str:
    """A text in one line."""
    plain = "".join(character if unicodedata.category(character)[0] != "C" else " " for character in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= width else f"{plain[: width - 3]}..."


def _cells(cells: Sequence[str]) -> str:
    return listed(repr(_shown(cell, 30)) for cell in cells[:4])


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of cells as lines, with columns of equal width."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
