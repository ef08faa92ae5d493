"""Text and tables as LaTeX: names in a study never become commands, and numbers are aligned.

Tables need only array, booktabs and graphicx, so that a paper can include them unchanged.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from eat import rounding
from eat.files import write_text
from eat.report import published_tables, summary_tables
from eat.report.published import Published
from eat.report.table import Column, Group, Row, Table, aligned
from eat.results.rows import rows_of
from eat.study.paths import TABLES

ROWS_A_PAGE = 36
"""A longer table is split into parts that each fit on a page."""
SENTENCES_A_PAGE = 18
"""The same for rows that hold sentences and take several lines."""


class Latex(str):
    """Text that is already LaTeX and is not escaped again."""

    __slots__ = ()


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_\allowbreak{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "`": r"\textasciigrave{}",
    rounding.MINUS: r"\ensuremath{-}",
    rounding.TIMES: r"\ensuremath{\times}",
    rounding.DASH: r"\textendash{}",
    "±": r"\ensuremath{\pm}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "τ": r"\ensuremath{\tau}",
    "\N{EM DASH}": r"\textemdash{}",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{NO-BREAK SPACE}": "~",
    rounding.DIGIT_SPACE: r"\phantom{0}",
    rounding.POINT_SPACE: r"\phantom{.}",
}


_LIGATURES = re.compile(r"(?<=[-,'!?])(?=[-,'`])")
"""Places where TeX would join two characters into one: `--` a dash, `''` a quotation mark."""


def escape_latex(text: str) -> Latex:
    """Escape `text` so that LaTeX prints it: no character acts as a command, and every line break becomes a space.

    Accented letters that pdfLaTeX supports are kept; any other character beyond ASCII is printed as `[U+4E2D]`.
    """
    if isinstance(text, Latex):
        return text
    one_line = re.sub(r"[^\S\N{NO-BREAK SPACE}\N{FIGURE SPACE}\N{PUNCTUATION SPACE}]+", " ", text)
    one_line = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", one_line)  # no line break between a number and its sign
    parts = _LIGATURES.split(one_line)
    return Latex("{}".join("".join(_latex_letter(letter) for letter in part) for part in parts))


_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030c": "v",
    "\u0327": "c",
}


def _latex_letter(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    if letter.isascii():
        return letter if letter.isprintable() else " "
    base, *marks = list(unicodedata.normalize("NFD", letter))
    if len(marks) == 1 and marks[0] in _ACCENTS and base.isascii() and base.isalpha():
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    return f"[U+{ord(letter):04X}]"


def to_latex(table: Table) -> Latex:
    """The table as one float, or as several if it is longer than a page. Needs array, booktabs, graphicx.

    Intervals have their own column, so that values are right-aligned.
    """
    parts = _pages(aligned(table))
    return Latex("\n".join(_float(part, first=number == 0) for number, part in enumerate(parts)))


def _pages(table: Table) -> list[Table]:
    """Tables that each fit on a page and are about equally long; the order of groups is kept."""
    limit = SENTENCES_A_PAGE if any(column.width for column in table.columns) else ROWS_A_PAGE
    rows = sum(len(group.rows) for group in table.groups)
    most = math.ceil(rows / math.ceil(rows / limit)) if rows else limit
    pages: list[list[Group]] = [[]]
    room = most
    for group in table.groups:
        rest = group.rows
        while rest:
            if room <= 0:
                pages.append([])
                room = most
            pages[-1].append(Group(group.heading, rest[:room]))
            taken = len(rest[:room])
            rest, room = rest[room:], room - taken
    return [replace(table, groups=tuple(groups)) for groups in pages]


def _float(table: Table, first: bool) -> str:
    spec = "".join(_spec(column, number) for number, column in enumerate(table.columns))
    titles = " & ".join(_head(column, column.title) for column in table.columns)
    units = " & ".join(_head(column, column.unit) for column in table.columns)
    width = sum(2 if column.interval else 1 for column in table.columns)
    caption = escape_latex(table.caption if first else f"{table.caption} (continued)")
    lines = [
        r"\begin{table*}[!htbp]",
        # a continued table keeps its number
        *([] if first else [r"\addtocounter{table}{-1}"]),
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption}}}" + (rf"\label{{tab:{_label(table.label)}}}" if first else ""),
        r"\vspace{4pt}",
        # as wide as the page at most
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
        r"\toprule",
        titles + r" \\",
        *([units + r" \\"] if any(column.unit for column in table.columns) else []),
        r"\midrule",
    ]
    for number, group in enumerate(table.groups):
        if number:
            lines.append(r"\midrule")
        if group.heading:
            lines.append(rf"\multicolumn{{{width}}}{{@{{}}l}}{{\itshape {escape_latex(group.heading)}}} \\")
        # keeps the sentences of adjacent rows apart
        between = "\n\\addlinespace\n" if any(column.width for column in table.columns) else "\n"
        lines.append(between.join(_line(row, table.columns) for row in group.rows))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}", ""])


def _spec(column: Column, number: int) -> str:
    if column.width:
        return rf">{{\raggedright\arraybackslash}}p{{{column.width:g}\linewidth}}"
    if number == 0:  # long names are wrapped
        return r"p{0.16\linewidth}"
    if column.interval:
        return r"r@{\hspace{2pt}}l"
    return "l" if column.align == "left" else "r"


def _head(column: Column, text: str) -> str:
    if column.interval:
        return rf"\multicolumn{{2}}{{c}}{{{escape_latex(text)}}}"
    return escape_latex(text)


def _line(row: Row, columns: Sequence[Column]) -> str:
    cells = []
    for number, (cell, column) in enumerate(zip(row.cells, columns, strict=True)):
        text: str = escape_latex(cell.text)
        if cell.best:
            text = rf"\textbf{{{text}}}"
        if number == 0:
            mark = r"\ensuremath{\triangleright} " if row.chosen else ""
            text = rf"\raggedright {mark}{text}"
        cells.append(text)
        if column.interval:
            cells.append(escape_latex(cell.interval))
    # \\ after \raggedright would end the paragraph of the cell, not the row
    return " & ".join(cells) + r" \tabularnewline"


def _label(name: str) -> str:
    """A name as a LaTeX label: letters, digits and a few signs; any other character is replaced by its number."""
    return "".join(letter if re.fullmatch(r"[A-Za-z0-9:.-]", letter) else f"-{ord(letter):x}-" for letter in name)


def write_tables(
    summary: pd.DataFrame,
    paper_columns: pd.DataFrame,
    task: str,
    title: str,
    reference: str,
    published: Published,
    out_folder: Path | str,
    f1: bool = False,
) -> list[Path]:
    """Write every table of a task as `{kind}_{task}.tex`; returns the files.

    summary: summary.csv. title: the task's name in the tables. paper_columns: summary_{task}.csv. published:
    report/published.yaml. f1: see `main_table`. If a study timed only batch 1, the file of the throughput table
    contains just a comment, so that the set of files is always the same.
    """
    rows = rows_of(summary, task).assign(task=title)
    made = task_tables(rows, paper_columns, title, reference, published, f1)
    written = []
    for kind in TABLES:
        table, path = made[kind], Path(out_folder) / f"{kind}_{task}.tex"
        write_text(path, "% only batch size 1 was timed\n" if table is None else to_latex(table))
        written.append(path)
    return written


def task_tables(
    rows: pd.DataFrame, paper_columns: pd.DataFrame, title: str, reference: str, published: Published, f1: bool
) -> dict[str, Table | None]:
    """The tables `TABLES` of a task; arguments as `write_tables`. rows: those of the task, under its title."""
    return {
        "results": summary_tables.main_table(rows, title, f1),
        "throughput": summary_tables.throughput_table(rows, title),
        "frontier": summary_tables.frontier_table(rows, title, f1),
        "calibration": summary_tables.calibration_table(rows, title),
        "paper": published_tables.paper_table(paper_columns, title, reference, published),
    }
