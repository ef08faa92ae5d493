"""The tables of a study, each built once and written as LaTeX (`eat.report.latex`), Markdown, and HTML by the report.

A `Table` holds text that is already rounded. A value is marked as the best of its column only where its interval lies
wholly on the good side of every other system's; columns without intervals are never marked.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from eat import rounding
from eat.errors import EatError, listed
from eat.results.rows import is_true, rows_of
from eat.rounding import Rounder, or_dash
from eat.study.stock import STOCK, STOCK_AGAIN, STOCK_PREFIX

if TYPE_CHECKING:
    from eat.report.published import Published, PublishedRow


@dataclass(frozen=True)
class Column:
    """A column's title, the unit below it, and whether each cell also holds an interval.

    width: of a column of sentences, as a part of the page; 0 for one as wide as its longest cell.
    """

    title: str
    unit: str = ""
    align: Literal["left", "right"] = "right"
    interval: bool = False
    width: float = 0.0


@dataclass(frozen=True)
class Cell:
    """Rounded text, with its interval if it has one; `best` marks the best of a column.

    tone: a word by which a page may colour the cell.
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


def aligned(table: Table) -> Table:
    """The table with the numbers of each right-hand column padded, so that their decimal points stand in one line."""
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


# --- columns of the results' files -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantity:
    """A column of a table made from a column of a file of the results, with the columns of its interval."""

    title: str
    unit: str
    source: str
    rounder: Rounder
    bounds: tuple[str, str] | None = None

    def column(self) -> Column:
        """The head."""
        return Column(self.title, self.unit, interval=self.bounds is not None)

    def cell(self, row: Mapping[Hashable, Any], best: bool = False) -> Cell:
        """The value of a row of the file, rounded, with its interval; a dash where it is empty."""
        text = or_dash(row[self.source], self.rounder)
        if self.bounds is None or text == rounding.DASH:
            return Cell(text)
        low, high = (row[name] for name in self.bounds)
        # the reference against itself has no interval worth printing
        no_interval = pd.isna(low) or pd.isna(high) or low == high
        return Cell(text, "" if no_interval else rounding.interval(low, high, self.rounder), best)


ACCURACY = Quantity("Accuracy", "%", "accuracy", rounding.percent, ("accuracy_low", "accuracy_high"))
DELTA = Quantity("Difference", "pp", "delta_accuracy", rounding.points, ("delta_low", "delta_high"))
_F1 = Quantity("F1", "%", "f1", rounding.percent)
_MCNEMAR = Quantity("McNemar", "p", "mcnemar_p", rounding.p_value)
_P50 = Quantity("Latency", "p50, ms", "latency_ms_p50", rounding.milliseconds)
_P90 = Quantity("", "p90, ms", "latency_ms_p90", rounding.milliseconds)
_P99 = Quantity("", "p99, ms", "latency_ms_p99", rounding.milliseconds)
SPEEDUP = Quantity("Speed-up", "median", "speedup_vs_dense", rounding.speedup, ("speedup_low", "speedup_high"))
_SPEEDUP_MEAN = Quantity("", "mean", "speedup_mean", rounding.speedup)
_PACKED = Quantity("vs. packed", "median", "speedup_vs_packed_dense", rounding.speedup)
_RATE = Quantity("Rate", "texts/s", "examples_per_s", rounding.throughput)
_DEPTH = Quantity("Depth", "layers", "avg_depth", rounding.depth)
_RETENTION = Quantity("Retention", "", "avg_retention", rounding.retention)
_COMPUTE = Quantity("FLOPs", "own / dense", "compute", rounding.retention)
WORK = Quantity("FLOPs", "dense / own", "flops_ratio", rounding.ratio)


def judged_by_f1(card: Mapping[str, Any]) -> bool:
    """Whether F1 of the positive class stands beside the accuracy: for pairs of texts in two classes, as in GLUE."""
    return bool(card["pair"]) and len(card["labels"]) == 2


def main_table(summary: pd.DataFrame, task: str, f1: bool = False) -> Table:
    """The chosen row of each system at batch 1: accuracy, what it loses, its time, and what it executes.

    f1: whether the task is judged by F1 too (`judged_by_f1`).
    """
    rows = _chosen(_of_batch(rows_of(summary, task), task, 1))
    quality = (ACCURACY, DELTA, *((_F1,) if f1 else ()))
    quantities = (*quality, _P50, SPEEDUP, _SPEEDUP_MEAN, _PACKED, _DEPTH, _RETENTION, WORK)
    caption = (
        f"Results on {task}: each system at the threshold chosen on the calibration split, batch size 1, with 95 % "
        "intervals. Differences are against the dense reference, speed-ups against its stock export, and beside them "
        "against the reference in the same packed engine. Retention is the share of a text's tokens alive when it is "
        "answered. FLOPs are the reference's over the system's own, so that above 1 is less work."
    )
    return _summary_table(rows, quantities, caption, f"results:{task}")


def throughput_table(summary: pd.DataFrame, task: str) -> Table | None:
    """The same systems at the largest batch that was timed; `None` where only batch 1 was."""
    rows = rows_of(summary, task)
    batch = int(rows["batch_size"].max())
    if batch == 1:
        return None
    quantities = (ACCURACY, _RATE, SPEEDUP, _SPEEDUP_MEAN, _PACKED, WORK)
    caption = (
        f"Throughput on {task} at batch size {rounding.count(batch)}: each system at its chosen threshold. Speed-ups "
        "are against the stock model with padding, in the order of arrival."
    )
    return _summary_table(_chosen(_of_batch(rows, task, batch)), quantities, caption, f"throughput:{task}")


def frontier_table(summary: pd.DataFrame, task: str, f1: bool = False) -> Table:
    """Every operating point at batch 1. f1: see `main_table`."""
    rows = _of_batch(rows_of(summary, task), task, 1)
    quantities = (ACCURACY, DELTA, *((_F1,) if f1 else ()), _MCNEMAR, _P50, _P90, _P99, SPEEDUP, _DEPTH, _RETENTION)
    caption = f"All operating points on {task}, batch size 1. A triangle marks the threshold that was chosen."
    return _summary_table(rows, quantities, caption, f"frontier:{task}", mark=False)


ABLATIONS = {
    "switched_off": "the trained system with parts switched off, nothing retrained",
    "retrained": "each variant trained by itself",
}


def ablation_table(rows: pd.DataFrame, task: str) -> Table:
    """The reference, a system with all its parts, and its variants; rows: summary_ablation_{task}.csv."""
    quantities = (ACCURACY, DELTA, _MCNEMAR, _COMPUTE, _P50, SPEEDUP, _DEPTH, _RETENTION)
    titles = ("System", "Reducer", "Attention", "Exits")
    lines = []
    for row in rows.to_dict("records"):
        parts = (Cell(str(row[name.lower()])) for name in titles)
        cells = (quantity.cell(row) for quantity in quantities)
        lines.append(Row((*parts, Cell(or_dash(row["tau"], rounding.threshold)), *cells)))
    caption = (
        f"Ablation on {task}: {ABLATIONS[rows['ablation'].iloc[0]]}. Each row stands at its chosen threshold, batch "
        "size 1; differences and FLOPs are to the dense reference, speed-ups against its stock export."
    )
    heads = (*(Column(title, align="left") for title in titles), Column("Threshold"))
    columns = (*heads, *(quantity.column() for quantity in quantities))
    return Table(caption, f"ablation:{task}", columns, (Group("", tuple(lines)),))


def calibration_table(summary: pd.DataFrame, task: str) -> Table:
    """Calibration of each system at its chosen threshold: ECE before and after scaling, debiased, Brier score, NLL.

    Where the systems are calibrated in more than one way, the caption tells which is in which.
    """
    rows = _chosen(_of_batch(rows_of(summary, task), task, 1))
    rows = rows[rows["ece_raw"].notna() & ~rows["system"].isin([STOCK])]
    quantities = (
        Quantity("ECE raw", "%", "ece_raw", rounding.calibration_error),
        Quantity("calibrated", "%", "ece_calibrated", rounding.calibration_error),
        Quantity(
            "debiased",
            "%",
            "ece_debiased",
            rounding.calibration_error,
            ("ece_debiased_low", "ece_debiased_high"),
        ),
        Quantity("Brier", "", "brier", rounding.score),
        Quantity("NLL", "", "nll", rounding.score),
        Quantity("Temperature", "", "temperature", rounding.temperature),
    )
    caption = (
        f"Calibration on {task}: expected calibration error before and after temperature scaling, of the deepest exit "
        "from which texts may leave early (the last head where there is none)."
    )
    modes = {str(mode): own["system"] for mode, own in rows.groupby("calibration", sort=False)}
    if len(modes) > 1:
        caption += f" Calibration is {'; '.join(f'{mode} for {listed(systems)}' for mode, systems in modes.items())}."
    return _summary_table(rows, quantities, caption, f"calibration:{task}", mark=False)


def paper_table(columns: pd.DataFrame, task: str, reference: str, published: Published) -> Table:
    """The columns of the paper's own tables, from summary_{task}.csv (accuracy as a fraction, as there).

    Where the paper has a table of this task, its values stand beside those of the systems that stand for its own.
    """
    rows = columns[columns["model"] != STOCK_AGAIN].to_dict("records")
    theirs = published.beside(task)
    models = published.models([str(row["model"]) for row in rows], reference)
    heads = [Column("model", align="left")]
    for column in _PAPER:
        heads.append(Column(column.title))
        if theirs is not None and column.published:
            heads.append(Column("", "paper"))
    lines = []
    for row in rows:
        found = [] if theirs is None else _same_point(theirs.get(models.get(str(row["model"]), ""), ()), row["tau"])
        cells = [Cell(str(row["model"]))]
        for column in _PAPER:
            cells.append(Cell(or_dash(row[column.title], column.rounder)))
            if theirs is not None and column.published:
                values = [value for one in found if (value := getattr(one, column.published)) is not None]
                cells.append(Cell(rounding.span(values, column.rounder)))
        lines.append(Row(tuple(cells)))
    caption = f"Frontier metrics on {task} with the columns of the paper's tables, batch size 1."
    if theirs is not None:
        caption += f" Beside them its own values: {published.sources[0].title}, {published.sources[0].machine}."
    return Table(caption, f"paper:{task}", tuple(heads), (Group("", tuple(lines)),))


@dataclass(frozen=True)
class _PaperColumn:
    """A column of the paper's CSV, its rounding there, and the field of the published rows that belongs beside it."""

    title: str
    rounder: Rounder
    published: str = ""


_PAPER = (
    _PaperColumn("tau", rounding.threshold),
    _PaperColumn("latency_ms", rounding.milliseconds, "latency_ms"),
    _PaperColumn("accuracy", rounding.fraction, "accuracy"),
    _PaperColumn("speedup_vs_bert", rounding.x_times, "speedup"),
    _PaperColumn("delta_acc_pp", rounding.already_points),
    _PaperColumn("avg_depth", rounding.depth, "depth"),
    _PaperColumn("avg_retention", rounding.retention, "retention"),
)


def _same_point(rows: Sequence[PublishedRow], tau: float) -> list[PublishedRow]:
    return [row for row in rows if row.tau == tau or (row.tau is None and pd.isna(tau))]


def published_table(published: Published, summary: pd.DataFrame, tasks: Sequence[str]) -> Table:
    """The paper's figures, and those of its authors' later logs, above ours."""
    from eat.report.published import PublishedRow

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
            f"As published: {source.title} ({source.machine})",
            tuple(
                _published_row(task, model, row)
                for task, models in source.tasks.items()
                for model, rows in models.items()
                for row in rows
            ),
        )
        for source in published.sources
    ]
    ours = []
    for task in tasks:
        rows = _chosen(_of_batch(rows_of(summary, task), task, 1))
        for row in rows[rows["accuracy"].notna()].to_dict("records"):
            values = {
                "tau": row["tau"],
                "latency_ms": row["latency_ms_p50"],
                "accuracy": row["accuracy"],
                "speedup": row["speedup_vs_dense"],
                "depth": row["avg_depth"],
                "retention": row["avg_retention"],
            }
            known = {name: value for name, value in values.items() if pd.notna(value)}
            ours.append(_published_row(task, row["system"], PublishedRow(**known)))
    groups.append(Group("This run: chosen operating points, batch size 1, median latency", tuple(ours)))
    caption = (
        "Published figures beside ours. They were measured by other people on another machine, with another model and "
        "on other data, so compare ratios within a group, not rows across groups."
    )
    return Table(caption, "published", columns, tuple(groups))


def other_papers_table(published: Published, summary: pd.DataFrame, task: str, reference: str) -> Table | None:
    """What papers of other systems print of a task, beside the systems that stand for theirs; `None` without any.

    A row that they print at a threshold stands beside ours at that threshold, any other beside the chosen one.
    """
    rows = _of_batch(rows_of(summary, task), task, 1)
    systems = [str(name) for name in dict.fromkeys(rows["system"])]
    found, name = published.others_on(task, systems, reference), published.task_of(task)
    if not found or name is None:
        return None
    columns = (
        Column("System", align="left"),
        Column("Threshold"),
        Column("Accuracy", "paper, %"),
        Column("Accuracy", "ours, %", interval=True),
        Column("Difference", "paper, pp"),
        Column("Difference", "ours, pp", interval=True),
        Column("FLOPs, dense / own", "paper"),
        Column("FLOPs, dense / own", "ours"),
        Column("Speed-up", "ours, median", interval=True),
    )
    groups = []
    for source in found:
        theirs, lines = source.tasks[name], []
        dense = next((row.accuracy for row in theirs.get("bert", ())), None)
        for system, model in published.models(systems, reference).items():
            own = rows[rows["system"] == system]
            for row in theirs.get(model, ()):
                for ours in (_chosen(own) if row.tau is None else own[own["tau"] == row.tau]).to_dict("records"):
                    lost = None if row.accuracy is None or dense is None else row.accuracy - dense
                    cells = (
                        Cell(system),
                        Cell(or_dash(ours["tau"], rounding.threshold)),
                        Cell(or_dash(row.accuracy, rounding.percent)),
                        ACCURACY.cell(ours),
                        Cell(or_dash(lost, rounding.points)),
                        DELTA.cell(ours),
                        Cell(or_dash(row.flops_ratio, rounding.ratio)),
                        WORK.cell(ours),
                        SPEEDUP.cell(ours),
                    )
                    lines.append(Row(cells))
        if lines:
            groups.append(Group(f"{source.title} ({source.machine})", tuple(lines)))
    caption = (
        f"Other papers' figures on {task} beside those of the systems that stand for theirs, batch size 1. Differences "
        "are to BERT there, and to the dense reference here. Theirs is another model: compare differences and ratios, "
        "not accuracies."
    )
    return Table(caption, f"other-papers:{task}", columns, tuple(groups)) if groups else None


def _published_row(task: str, model: str, row: PublishedRow) -> Row:
    shown = (
        (row.tau, rounding.threshold),
        (row.latency_ms, rounding.milliseconds),
        (row.accuracy, rounding.percent),
        (row.speedup, rounding.x_times),
        (row.depth, rounding.depth),
        (row.retention, rounding.retention),
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
    rows: pd.DataFrame, quantities: Sequence[Quantity], caption: str, label: str, mark: bool = True
) -> Table:
    """The study's systems, and below them the stock models, those without an accuracy last."""
    best = {
        # rows that are there for their latency alone, whose answers nobody knows, do not compete
        quantity.source: best_row(rows[rows["accuracy"].notna()], quantity.source, quantity.bounds) if mark else None
        for quantity in quantities
    }
    with_tau = rows["tau"].notna().any()
    is_stock = rows["system"].str.startswith(STOCK_PREFIX)
    stock = rows[is_stock].sort_values(
        ["accuracy", "system"],
        key=lambda column: column.isna() if column.name == "accuracy" else column.str.len(),
        kind="stable",
    )
    groups = []
    for heading, part in (("", rows[~is_stock]), ("Stock transformers", stock)):
        lines = []
        for index, row in zip(part.index, part.to_dict("records"), strict=True):
            cells = [quantity.cell(row, best=index == best[quantity.source]) for quantity in quantities]
            tau = [Cell(or_dash(row["tau"], rounding.threshold))] if with_tau else []
            is_choice = not mark and pd.notna(row["tau"]) and str(row["chosen"]).lower() == "true"
            lines.append(Row((Cell(str(row["system"])), *tau, *cells), chosen=is_choice))
        if lines:
            groups.append(Group(heading, tuple(lines)))
    heads = [Column("System", align="left"), *([Column("Threshold")] if with_tau else [])]
    return Table(caption, label, (*heads, *(quantity.column() for quantity in quantities)), tuple(groups))


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
