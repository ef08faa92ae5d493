"""Tables of published figures next to those of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from eat import rounding
from eat.report.quantities import ACCURACY, DELTA, SPEEDUP, SYSTEM, THRESHOLD, WORK, Quantity, table_of
from eat.report.summary_tables import chosen_rows, rows_of_batch
from eat.report.table import Cell, Column, Group, Row, Table
from eat.results.rows import Record, rows_of, without_repeats
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
    quantities = (
        Quantity("Task", "task"),
        SYSTEM,
        THRESHOLD,
        Quantity("Latency", "latency_ms", rounding.milliseconds, unit="ms"),
        Quantity("Accuracy", "accuracy", rounding.percent, unit="%"),
        Quantity("Speed-up", "speedup", rounding.x_times),
        Quantity("Depth", "depth", rounding.depth, unit="layers"),
        Quantity("Retention", "retention", rounding.retention),
    )
    groups: list[tuple[str, list[Record]]] = [
        (
            f"As published: {source.title} ({source.machine})",
            [
                {**row.model_dump(), "task": task, "system": model}
                for task, models in source.tasks.items()
                for model, rows in models.items()
                for row in rows
            ],
        )
        for source in published.sources
    ]
    theirs = {
        "latency_ms_p50": "latency_ms",
        "speedup_vs_dense": "speedup",
        "avg_depth": "depth",
        "avg_retention": "retention",
    }
    ours: list[Record] = []
    for task in tasks:
        rows = chosen_rows(rows_of_batch(rows_of(summary, task), task, 1)).rename(columns=theirs)
        ours += rows[rows["accuracy"].notna()].to_dict("records")
    groups.append(("This run: chosen operating points, batch size 1, median latency", ours))
    caption = (
        "Published figures and ours. The published ones were measured by other people on another machine, with another "
        "model and other data: compare ratios within a group, not rows across groups."
    )
    return table_of(caption, "published", quantities, groups)


def other_papers_table(published: Published, summary: pd.DataFrame, task: str, reference: str) -> Table | None:
    """Figures of other papers for a task, next to the systems that represent their models; `None` if there are none.

    A published row with a threshold is next to ours at that threshold, any other next to the chosen one.
    """
    rows = rows_of_batch(rows_of(summary, task), task, 1)
    systems = [str(name) for name in dict.fromkeys(rows["system"])]
    found, name = published.others_on(task, systems, reference), published.task_of(task)
    if not found or name is None:
        return None
    quantities = (
        SYSTEM,
        THRESHOLD,
        Quantity("Accuracy", "theirs", rounding.percent, unit="paper, %"),
        replace(ACCURACY, unit="ours, %"),
        Quantity("Difference", "lost", rounding.points, unit="paper, pp"),
        replace(DELTA, unit="ours, pp"),
        Quantity("FLOPs, dense / own", "their_work", rounding.ratio, unit="paper"),
        replace(WORK, title="FLOPs, dense / own", unit="ours"),
        replace(SPEEDUP, unit="ours, median"),
    )
    groups = []
    for source in found:
        theirs, lines = source.tasks[name], []
        dense = next((row.accuracy for row in theirs.get("bert", ())), None)
        for system, model in published.models(systems, reference).items():
            own = rows[rows["system"] == system]
            for row in theirs.get(model, ()):
                lost = None if row.accuracy is None or dense is None else row.accuracy - dense
                paper = {"theirs": row.accuracy, "lost": lost, "their_work": row.flops_ratio}
                same = chosen_rows(own) if row.tau is None else own[own["tau"] == row.tau]
                lines += [{**ours, **paper} for ours in same.to_dict("records")]
        if lines:
            groups.append((f"{source.title} ({source.machine})", lines))
    caption = (
        f"Figures of other papers on {task} and those of the systems that represent their models, batch size 1. "
        "Differences are from BERT in the papers, and from the dense reference here. The models differ: compare "
        "differences and ratios, not accuracies."
    )
    return table_of(caption, f"other-papers:{task}", quantities, groups) if groups else None
