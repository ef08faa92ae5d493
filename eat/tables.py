"""The tables of a study, each built once and written as LaTeX (booktabs), as Markdown, and as HTML by the report.

A `Table` holds text that is already rounded. A value is marked as the best of its column only where its interval lies
wholly on the good side of every other system's; columns without intervals are never marked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from eat import rounding
from eat.errors import EatError, listed
from eat.files import write_text
from eat.paths import TABLES
from eat.rounding import Rounder, or_dash
from eat.rows import is_true, rows_of
from eat.style import STOCK, STOCK_AGAIN

ROWS_A_PAGE = 36
"""A longer table is cut into parts that each fit on a page."""


@dataclass(frozen=True)
class Column:
    """A column's title, the unit below it, and whether each cell also holds an interval."""

    title: str
    unit: str = ""
    align: Literal["left", "right"] = "right"
    interval: bool = False


@dataclass(frozen=True)
class Cell:
    """Rounded text, with its interval if it has one; `best` marks the best of a column."""

    text: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """The cells of one line; `chosen` marks an operating point picked on the calibration split."""

    cells: tuple[Cell, ...]
    chosen: bool = False


@dataclass(frozen=True)
class Group:
    """Rows under a common heading (empty: no heading)."""

    heading: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A whole table: its caption, a label unique in the report, columns, and groups of rows with a cell a column."""

    caption: str
    label: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        for group in self.groups:
            for row in group.rows:
                if len(row.cells) != len(self.columns):
                    raise ValueError(f"table {self.label}: {len(row.cells)} cells in a row of {len(self.columns)}")


# --- columns of summary.csv ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Quantity:
    """A column of a table made from a column of summary.csv, with the columns of its interval."""

    title: str
    unit: str
    source: str
    rounder: Rounder
    bounds: tuple[str, str] | None = None

    def column(self) -> Column:
        return Column(self.title, self.unit, interval=self.bounds is not None)

    def cell(self, row: dict[Hashable, Any], best: bool) -> Cell:
        text = or_dash(row[self.source], self.rounder)
        if self.bounds is None or text == rounding.DASH:
            return Cell(text)
        low, high = (row[name] for name in self.bounds)
        # the reference against itself has no interval worth printing
        no_interval = pd.isna(low) or pd.isna(high) or low == high
        return Cell(text, "" if no_interval else rounding.interval(low, high, self.rounder), best)


_ACCURACY = _Quantity("Accuracy", "%", "accuracy", rounding.percent, ("accuracy_low", "accuracy_high"))
_DELTA = _Quantity("Difference", "pp", "delta_accuracy", rounding.points, ("delta_low", "delta_high"))
_MCNEMAR = _Quantity("McNemar", "p", "mcnemar_p", rounding.p_value)
_P50 = _Quantity("Latency", "p50, ms", "latency_ms_p50", rounding.milliseconds)
_P90 = _Quantity("", "p90, ms", "latency_ms_p90", rounding.milliseconds)
_SPEEDUP = _Quantity("Speed-up", "median", "speedup_vs_dense", rounding.speedup, ("speedup_low", "speedup_high"))
_SPEEDUP_MEAN = _Quantity("", "mean", "speedup_mean", rounding.speedup)
_PACKED = _Quantity("vs. packed", "median", "speedup_vs_packed_dense", rounding.speedup)
_RATE = _Quantity("Rate", "texts/s", "examples_per_s", rounding.throughput)
_DEPTH = _Quantity("Depth", "layers", "avg_depth", rounding.depth)
_RETENTION = _Quantity("Retention", "", "avg_retention", rounding.retention)
_WORK = _Quantity("FLOPs", "dense / own", "flops_ratio", rounding.ratio)


def main_table(summary: pd.DataFrame, task: str) -> Table:
    """The chosen row of each system at batch 1: accuracy, what it loses, its time, and what it executes."""
    rows = _chosen(_of_batch(rows_of(summary, task), task, 1))
    quantities = (_ACCURACY, _DELTA, _P50, _SPEEDUP, _SPEEDUP_MEAN, _PACKED, _DEPTH, _RETENTION, _WORK)
    caption = (
        f"Results on {task}: each system at the threshold chosen on the calibration split, batch size 1, with 95 % "
        "intervals. Differences are against the dense reference, speed-ups against its stock export, and beside them "
        "against the reference in the same packed engine. Retention is the part of a text's tokens alive when it is "
        "answered. FLOPs are the reference's over the system's own, so that above 1 is less work."
    )
    return _summary_table(rows, quantities, caption, f"results:{task}")


def throughput_table(summary: pd.DataFrame, task: str) -> Table | None:
    """The same systems at the largest batch that was timed; `None` where only batch 1 was."""
    rows = rows_of(summary, task)
    batch = int(rows["batch_size"].max())
    if batch == 1:
        return None
    quantities = (_ACCURACY, _RATE, _SPEEDUP, _SPEEDUP_MEAN, _PACKED, _WORK)
    caption = (
        f"Throughput on {task} at batch size {rounding.count(batch)}: each system at its chosen threshold. Speed-ups "
        "are against the stock model with padding, in the order of arrival."
    )
    return _summary_table(_chosen(_of_batch(rows, task, batch)), quantities, caption, f"throughput:{task}")


def frontier_table(summary: pd.DataFrame, task: str) -> Table:
    """Every operating point at batch 1."""
    rows = _of_batch(rows_of(summary, task), task, 1)
    quantities = (_ACCURACY, _DELTA, _MCNEMAR, _P50, _P90, _SPEEDUP, _DEPTH, _RETENTION)
    caption = f"All operating points on {task}, batch size 1. A triangle marks the threshold that was chosen."
    return _summary_table(rows, quantities, caption, f"frontier:{task}", mark=False)


def calibration_table(summary: pd.DataFrame, task: str) -> Table:
    """Calibration of each system at its chosen threshold: ECE before and after scaling, debiased, Brier score, NLL."""
    rows = _chosen(_of_batch(rows_of(summary, task), task, 1))
    rows = rows[rows["ece_raw"].notna() & ~rows["system"].isin([STOCK])]
    quantities = (
        _Quantity("ECE raw", "%", "ece_raw", rounding.calibration_error),
        _Quantity("calibrated", "%", "ece_calibrated", rounding.calibration_error),
        _Quantity(
            "debiased",
            "%",
            "ece_debiased",
            rounding.calibration_error,
            ("ece_debiased_low", "ece_debiased_high"),
        ),
        _Quantity("Brier", "", "brier", rounding.score),
        _Quantity("NLL", "", "nll", rounding.score),
        _Quantity("Temperature", "", "temperature", rounding.temperature),
    )
    caption = (
        f"Calibration on {task}: expected calibration error before and after temperature scaling, of the deepest exit "
        "from which texts may leave early (the last head where there is none)."
    )
    return _summary_table(rows, quantities, caption, f"calibration:{task}", mark=False)


def paper_table(columns: pd.DataFrame, task: str) -> Table:
    """The columns of the paper's own tables, from summary_{task}.csv (accuracy as a fraction, as there)."""
    titles = ["model", "tau", "latency_ms", "accuracy", "speedup_vs_bert", "delta_acc_pp", "avg_depth", "avg_retention"]
    rows = []
    for row in columns.to_dict("records"):
        cells = (
            str(row["model"]),
            or_dash(row["tau"], rounding.threshold),
            or_dash(row["latency_ms"], rounding.milliseconds),
            or_dash(row["accuracy"], rounding.fraction),
            or_dash(row["speedup_vs_bert"], rounding.x_times),
            or_dash(row["delta_acc_pp"], rounding.already_points),
            or_dash(row["avg_depth"], rounding.depth),
            or_dash(row["avg_retention"], rounding.retention),
        )
        rows.append(Row(tuple(Cell(text) for text in cells)))
    heads = tuple(Column(title, align="left" if title == "model" else "right") for title in titles)
    caption = f"Frontier metrics on {task} with the columns of the paper's tables, batch size 1."
    return Table(caption, f"paper:{task}", heads, (Group("", tuple(rows)),))


def published_table(published: dict[str, Any], summary: pd.DataFrame, tasks: Sequence[str]) -> Table:
    """The paper's figures, and those of its authors' later logs, above ours.

    published: report/published.yaml as read. Accuracies there are fractions, like ours.
    """
    columns = (
        Column("Task", align="left"),
        Column("System", align="left"),
        Column("Threshold"),
        Column("Latency", "ms"),
        Column("Accuracy", "%"),
        Column("Speed-up"),
        Column("Depth", "layers"),
        Column("Retention"),
    )
    groups = [
        Group(
            f"As published: {source['title']} ({source['machine']})",
            tuple(
                _published_row(task, model, row)
                for task, models in source["tasks"].items()
                for model, rows in models.items()
                for row in rows
            ),
        )
        for source in published["sources"]
    ]
    ours = []
    for task in tasks:
        rows = _chosen(_of_batch(rows_of(summary, task), task, 1))
        for row in rows[rows["accuracy"].notna()].to_dict("records"):
            ours.append(
                _published_row(
                    task,
                    row["system"],
                    {
                        "tau": row["tau"],
                        "latency_ms": row["latency_ms_p50"],
                        "accuracy": row["accuracy"],
                        "speedup": row["speedup_vs_dense"],
                        "depth": row["avg_depth"],
                        "retention": row["avg_retention"],
                    },
                )
            )
    groups.append(Group("This run: chosen operating points, batch size 1, median latency", tuple(ours)))
    caption = (
        "Published figures beside ours. They were measured by other people on another machine, with another model and "
        "on other data, so compare ratios within a group, not rows across groups."
    )
    return Table(caption, "published", columns, tuple(groups))


def _published_row(task: str, model: str, row: dict[str, Any]) -> Row:
    shown = (
        (row.get("tau"), rounding.threshold),
        (row.get("latency_ms"), rounding.milliseconds),
        (row.get("accuracy"), rounding.percent),
        (row.get("speedup"), rounding.x_times),
        (row.get("depth"), rounding.depth),
        (row.get("retention"), rounding.retention),
    )
    return Row((Cell(task), Cell(model), *(Cell(or_dash(value, rounder)) for value, rounder in shown)))


# --- building -----------------------------------------------------------------------------------------------------


def _of_batch(rows: pd.DataFrame, task: str, batch: int) -> pd.DataFrame:
    found = rows[rows["batch_size"] == batch]
    if found.empty:
        sizes = sorted(int(size) for size in rows["batch_size"].unique())
        raise EatError(f"task {task!r}: no row of batch size {batch}; the summary holds {listed(sizes)}")
    return found[found["system"] != STOCK_AGAIN]


def _chosen(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[is_true(rows["chosen"]) | rows["tau"].isna()]


def _summary_table(
    rows: pd.DataFrame, quantities: Sequence[_Quantity], caption: str, label: str, mark: bool = True
) -> Table:
    best = {
        # rows that are there for their latency alone, whose answers nobody knows, do not compete
        quantity.source: best_row(rows[rows["accuracy"].notna()], quantity.source, quantity.bounds) if mark else None
        for quantity in quantities
    }
    with_tau = rows["tau"].notna().any()
    lines = []
    for index, row in zip(rows.index, rows.to_dict("records"), strict=True):
        cells = [quantity.cell(row, best=index == best[quantity.source]) for quantity in quantities]
        tau = [Cell(or_dash(row["tau"], rounding.threshold))] if with_tau else []
        is_choice = not mark and pd.notna(row["tau"]) and str(row["chosen"]).lower() == "true"
        lines.append(Row((Cell(str(row["system"])), *tau, *cells), chosen=is_choice))
    heads = [Column("System", align="left"), *([Column("Threshold")] if with_tau else [])]
    return Table(caption, label, (*heads, *(quantity.column() for quantity in quantities)), (Group("", tuple(lines)),))


def best_row(rows: pd.DataFrame, source: str, bounds: tuple[str, str] | None) -> Hashable | None:
    """The index of the row whose interval lies wholly above those of all others; `None` if there is no such row.

    Rows without an interval of their own (the reference against itself) count with their value.
    """
    if bounds is None:
        return None
    known = rows[rows[source].notna()]
    if len(known) < 2:
        return None
    ranked = known.assign(
        low=known[bounds[0]].fillna(known[source]), high=known[bounds[1]].fillna(known[source])
    ).sort_values(source, ascending=False, kind="stable")
    leads = ranked["low"].iloc[0] > ranked["high"].iloc[1:].max()
    return ranked.index.tolist()[0] if leads else None


# --- Markdown -----------------------------------------------------------------------------------------------------


def to_markdown(table: Table) -> str:
    """The table for a Markdown page: intervals in brackets behind their values, the best of a column in bold."""

    def text(cell: Cell) -> str:
        value = f"**{cell.text}**" if cell.best else cell.text
        return f"{value} {cell.interval}".strip().replace("|", r"\|")

    heads = [f"{column.title} {f'({column.unit})' if column.unit else ''}".strip() for column in table.columns]
    rules = ["---" if column.align == "left" else "---:" for column in table.columns]
    lines = [heads, rules, *([text(cell) for cell in row.cells] for group in table.groups for row in group.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


# --- LaTeX --------------------------------------------------------------------------------------------------------


class Latex(str):
    """Text that is LaTeX already and is not escaped again."""

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
}


_LIGATURES = re.compile(r"(?<=[-,'!?])(?=[-,'`])")
"""Places where TeX would make one sign of two: `--` a dash, `''` a quotation mark."""


def escape_latex(text: str) -> Latex:
    """`text` as LaTeX that prints it: no character of it is a command, and every line break is a space.

    Letters that pdfLaTeX knows with an accent are set so; any other character beyond ASCII is printed as `[U+4E2D]`.
    """
    if isinstance(text, Latex):
        return text
    one_line = re.sub(r"[^\S\N{NO-BREAK SPACE}]+", " ", text)
    one_line = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", one_line)  # no line ends between a number and its sign
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
    """The table as one float, or as several where it is longer than a page. Needs booktabs, and nothing else.

    An interval is a column of its own, so that values stand right-aligned above each other.
    """
    parts = _pages(table)
    return Latex("\n".join(_float(part, first=number == 0) for number, part in enumerate(parts)))


def _pages(table: Table) -> list[Table]:
    """Tables of at most `ROWS_A_PAGE` rows each, groups kept in order."""
    pages: list[list[Group]] = [[]]
    room = ROWS_A_PAGE
    for group in table.groups:
        rest = group.rows
        while rest:
            if room <= 0:
                pages.append([])
                room = ROWS_A_PAGE
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
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption}}}" + (rf"\label{{tab:{_label(table.label)}}}" if first else ""),
        r"\vspace{4pt}",
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
        lines += [_line(row, table.columns) for row in group.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _spec(column: Column, number: int) -> str:
    if number == 0:  # names may be long: they wrap
        return r"p{0.18\linewidth}"
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
    """A name as a LaTeX label: letters, digits and a few signs; what else there is becomes its number."""
    return "".join(letter if re.fullmatch(r"[A-Za-z0-9:.-]", letter) else f"-{ord(letter):x}-" for letter in name)


def write_tables(summary: pd.DataFrame, paper_columns: pd.DataFrame, task: str, out_folder: Path | str) -> list[Path]:
    """Write every table of a task as `{kind}_{task}.tex`; returns the files.

    summary: summary.csv. paper_columns: summary_{task}.csv. The throughput table of a study that timed batch 1 only
    is a file that says so in a comment, so that the same files always appear.
    """
    tables: dict[str, Callable[[], Table | None]] = {
        "results": lambda: main_table(summary, task),
        "throughput": lambda: throughput_table(summary, task),
        "frontier": lambda: frontier_table(summary, task),
        "calibration": lambda: calibration_table(summary, task),
        "paper": lambda: paper_table(paper_columns, task),
    }
    written = []
    for kind in TABLES:
        table = tables[kind]()
        path = Path(out_folder) / f"{kind}_{task}.tex"
        write_text(path, "% only batch size 1 was timed\n" if table is None else to_latex(table))
        written.append(path)
    return written
