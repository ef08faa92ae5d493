"""A table of rounded text, written as LaTeX (`eat.report.latex`), as Markdown, and as HTML by the report.

A `Table` contains text that is already rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from eat import rounding

CHOSEN = "\N{WHITE RIGHT-POINTING SMALL TRIANGLE}"
"""The mark of a chosen operating point in Markdown."""


@dataclass(frozen=True)
class Column:
    """A column's title, the unit below it, and whether each cell also holds an interval.

    width: the width of a column of sentences as a share of the page; 0 for one as wide as its longest cell.
    """

    title: str
    unit: str = ""
    align: Literal["left", "right"] = "right"
    interval: bool = False
    width: float = 0.0


@dataclass(frozen=True)
class Cell:
    """Rounded text, with its interval if it has one; `best` marks the best of a column.

    tone: a keyword that a page may use to colour the cell.
    """

    text: str
    interval: str = ""
    best: bool = False
    tone: str = ""


@dataclass(frozen=True)
class Row:
    """The cells of one line; `chosen` marks an operating point picked on the calibration split."""

    cells: tuple[Cell, ...]
    chosen: bool = False


def text_row(*texts: str) -> Row:
    """A line of cells without intervals."""
    return Row(tuple(map(Cell, texts)))


@dataclass(frozen=True)
class Group:
    """Rows under a common heading (empty: no heading)."""

    heading: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table: caption, a label that is unique in the report, columns, and groups of rows with one cell per column."""

    caption: str
    label: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        for group in self.groups:
            for row in group.rows:
                if len(row.cells) != len(self.columns):
                    raise ValueError(f"table {self.label}: {len(row.cells)} cells in a row of {len(self.columns)}")


def aligned(table: Table) -> Table:
    """The table with the numbers of each right-aligned column padded, so that their decimal points are aligned."""
    padded = []
    for place, column in enumerate(table.columns):
        texts = [row.cells[place].text for group in table.groups for row in group.rows]
        padded.append(rounding.padded(texts) if column.align == "right" else texts)
    lines = iter(zip(*padded, strict=True))
    groups = [
        replace(
            group,
            rows=tuple(
                replace(
                    row,
                    cells=tuple(replace(cell, text=text) for cell, text in zip(row.cells, next(lines), strict=True)),
                )
                for row in group.rows
            ),
        )
        for group in table.groups
    ]
    return replace(table, groups=tuple(groups))


def to_markdown(table: Table) -> str:
    """The table for a Markdown page: intervals in brackets after their values, the best of a column in bold.

    A triangle marks a chosen operating point.
    """

    def text(cell: Cell) -> str:
        value = f"**{cell.text}**" if cell.best else cell.text
        return f"{value} {cell.interval}".strip().replace("|", r"\|")

    def line(row: Row) -> list[str]:
        first, *others = map(text, row.cells)
        return [f"{CHOSEN} {first}" if row.chosen else first, *others]

    heads = [f"{column.title} {f'({column.unit})' if column.unit else ''}".strip() for column in table.columns]
    rules = ["---" if column.align == "left" else "---:" for column in table.columns]
    lines = [heads, rules, *(line(row) for group in table.groups for row in group.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
