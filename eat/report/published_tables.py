"""Tables of published figures next to those of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from eat import rounding
from eat.report.quantities import ACCURACY, DELTA, SPEEDUP, WORK
from eat.report.summary_tables import chosen_rows, rows_of_batch
from eat.report.table import Cell, Column, Group, Row, Table
from eat.results.rows import rows_of, without_repeats
from eat.rounding import Rounder, or_dash

if TYPE_CHECKING:
    from eat.report.published import Published, PublishedRow


def paper_table(columns: pd.DataFrame, task: str, reference: str, published: Published) -> Table:
    """The columns of the paper's tables, from summary_{task}.csv (accuracy as a fraction).

    If the paper has a table for this task, its values are next to those of the systems that represent its models.
    """
    rows = without_repeats(columns, "model").to_dict("records")
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
        caption += f" Next to them, the paper's values: {published.sources[0].title}, {published.sources[0].machine}."
    return Table(caption, f"paper:{task}", tuple(heads), (Group("", tuple(lines)),))


@dataclass(frozen=True)
class _PaperColumn:
    """A column of the paper's CSV, its rounding, and the matching field of the published rows."""

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
    """The paper's figures and those of its authors' later logs, followed by ours."""
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
        rows = chosen_rows(rows_of_batch(rows_of(summary, task), task, 1))
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
        "Published figures and ours. The published ones were measured by other people on another machine, with another "
        "model and other data: compare ratios within a group, not rows across groups."
    )
    return Table(caption, "published", columns, tuple(groups))


def other_papers_table(published: Published, summary: pd.DataFrame, task: str, reference: str) -> Table | None:
    """Figures of other papers for a task, next to the systems that represent their models; `None` if there are none.

    A published row with a threshold is next to ours at that threshold, any other next to the chosen one.
    """
    rows = rows_of_batch(rows_of(summary, task), task, 1)
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
                for ours in (chosen_rows(own) if row.tau is None else own[own["tau"] == row.tau]).to_dict("records"):
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
        f"Figures of other papers on {task} and those of the systems that represent their models, batch size 1. "
        "Differences are from BERT in the papers, and from the dense reference here. The models differ: compare "
        "differences and ratios, not accuracies."
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
