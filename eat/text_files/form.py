"""What a file of texts looks like: its kind, and the form of a file that is text.

Options say it, and nothing is guessed; a guess only helps a message (`eat.text_files.guesses`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eat.errors import EatError, listed

KINDS = ("csv", "tsv", "parquet", "jsonl", "txt")
"""What is read. The ending of a file names its kind; all but Parquet may also end in `.gz`."""

DELIMITED = ("csv", "tsv")

FIRST_LINE, NO_HEADER = "first_line", "none"
NO_QUOTE = "none"


class Form(Protocol):
    """The form of a text file: `TextForm`, or the part of a study's configuration with the same fields."""

    @property
    def encoding(self) -> str:
        """Of its characters, such as utf-8."""

    @property
    def delimiter(self) -> str | None:
        """Between cells; `None`: a comma, in TSV files a tab."""

    @property
    def quote(self) -> str:
        """The quotation mark around cells, or `none`."""

    @property
    def header(self) -> str:
        """`first_line`, or `none`: columns are then numbered from 1."""


@dataclass(frozen=True)
class TextForm:
    """The form that the options of a command give; see `Form`. Raises `EatError` if a value is not allowed."""

    encoding: str = "utf-8"
    delimiter: str | None = None
    quote: str = '"'
    header: str = FIRST_LINE

    def __post_init__(self) -> None:
        if not self.encoding:
            raise EatError("--encoding: found ''; give one such as utf-8, latin-1")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in "\r\n\0"):
            raise EatError(f"--delimiter: found {self.delimiter!r}; give one character")
        if self.quote != NO_QUOTE and (len(self.quote) != 1 or self.quote in "\r\n\0"):
            raise EatError(f"--quote: found {self.quote!r}; give one character, or {NO_QUOTE}")
        if self.quote == self.delimiter:
            raise EatError(f"--quote: found {self.quote!r}, which is also the delimiter; give another character")
        if self.header not in (FIRST_LINE, NO_HEADER):
            raise EatError(f"--header: found {self.header!r}; allowed: {FIRST_LINE}, {NO_HEADER}")


ORDINARY = TextForm()
"""UTF-8, with commas (in TSV files tabs), quotation marks and a header."""


def kind_of(path: Path) -> str:
    """The kind of a file, by its ending. Raises `EatError` for another ending."""
    ending = (path.with_suffix("") if is_packed(path) else path).suffix.lower()
    kind = ending[1:]
    if kind not in KINDS or (kind == "parquet" and is_packed(path)):
        raise EatError(
            f"{path}: ending {path.suffix!r} is not one of {listed(f'.{kind}' for kind in KINDS)}; convert the file"
        )
    return kind


def is_packed(path: Path) -> bool:
    """Whether a file is compressed by gzip."""
    return path.suffix.lower() == ".gz"


def delimiter_of(kind: str, form: Form) -> str:
    """The separator of the cells of a delimited file."""
    return form.delimiter or ("\t" if kind == "tsv" else ",")


def quote_of(form: Form) -> str | None:
    """The quotation mark; `None` if such marks are ordinary text."""
    return None if form.quote == NO_QUOTE else form.quote
