"""A corpus: rows with texts, read a chunk at a time, and how the answers are written beside them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from eat.errors import EatError, listed
from eat.text_files.columns import is_empty

if TYPE_CHECKING:
    from eat.runtime.classifier import Answer, Text

Cells = tuple[str, float, int, str]
"""Label, probability, depth and exit reason."""


@dataclass(frozen=True)
class Chunk:
    """Some rows in their order: their numbers in the file, their texts, and what they are written from.

    A text is `None` if it is empty; of a pair, if one of the two is.
    """

    numbers: Sequence[int]
    texts: Sequence[Text | None]
    rows: Sequence[Any]


class Corpus(ABC):
    """A file of texts, or standard input.

    where: its name in messages. added: the names of the added columns.
    """

    unit: ClassVar[str] = "line"
    """What is numbered: lines or rows."""

    where: str
    added: tuple[str, ...]

    @abstractmethod
    def scan(self) -> int | None:
        """Read all of it, and return the number of rows; `None` if it can be read only once.

        So a mistake in the last row is found before the first text is classified. Raises `EatError` as `chunks`.
        """

    @abstractmethod
    def chunks(self, size: int, skip: int) -> Iterator[Chunk]:
        """The rows after the first `skip`, at most `size` at a time.

        Raises `DamagedFile` if the content cannot be parsed, `EatError` if a column is missing or must not be there.
        """

    @abstractmethod
    def head(self) -> bytes:
        """What stands before the first row of the output."""

    @abstractmethod
    def lines(self, chunk: Chunk, answers: Sequence[Answer | None]) -> bytes:
        """The rows of a chunk as they are written; a row without an answer has empty cells."""

    @abstractmethod
    def finish(self, written: Path, to: Path) -> None:
        """Give what was written the name `to`; it then is whole."""

    @abstractmethod
    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise `EatError` if a label cannot be written into this output."""

    def require_free(self, names: Sequence[str], place: str = "") -> None:
        """Raise `EatError` if a column has a name that is to be added. place: the row, for the message."""
        if taken := [name for name in self.added if name in names]:
            raise EatError(
                f"{self.where}{place}: has the column {listed(taken)} already; give a prefix for the new columns, such "
                "as --prefix eat_"
            )


def example(cells: Sequence[str]) -> Text | None:
    """The text, or the pair of texts, of a row; `None` if one is empty."""
    if any(is_empty(cell) for cell in cells):
        return None
    return cells[0] if len(cells) == 1 else (cells[0], cells[1])


def cells_of(answer: Answer) -> Cells:
    """An answer as four cells; the probability has six decimals."""
    return answer.label, round(answer.probability, 6), answer.depth, answer.exit_reason
