"""What a study says of a row beyond its operating point, for the model card: its text, and its frontier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eat.export.facts import measured_row
from eat.export.source import Source
from eat.export.study_row import StudyRow
from eat.files import read_json
from eat.results.columns import SUMMARY_COLUMNS
from eat.results.rows import is_true, of_task, read_rows
from eat.study.paths import StudyPaths
from eat.study.stock import STOCK_PREFIX


@dataclass(frozen=True)
class Evidence:
    """title: of the task. texts: the card of its text, or `None`. frontier: a table as Markdown, or `None`."""

    title: str
    texts: Mapping[str, Any] | None
    frontier: str | None


def evidence_of(source: Source, precision: str) -> Evidence | None:
    """What the study says of the row that is exported; `None` if no study trained it.

    The frontier holds every operating point of the row, and the dense models beside it. It is left out if the study
    measured the row in another form, or did not get so far. Raises `DamagedFile` if a file is broken.
    """
    row = source.row
    if row is None:
        return None
    paths, place = StudyPaths(row.study.study), row.place
    # data/ stands beside results/
    card = place.results.parent.parent / paths.card(place.task)
    texts = read_json(card) if card.is_file() else None
    measured = measured_row(source, precision) is not None and place.at(paths.summary).is_file()
    return Evidence(row.study.titles()[place.task], texts, _frontier(row, texts) if measured else None)


def _frontier(row: StudyRow, texts: Mapping[str, Any] | None) -> str | None:
    """The table of a row's operating points and of the dense models; `None` if nothing was timed."""
    from eat.report.summary_tables import frontier_table, judged_by_f1
    from eat.report.table import to_markdown

    place = row.place
    # summaries of older versions lack them, and the table does not need them
    required = [column for column in SUMMARY_COLUMNS if column not in ("thresholds", "card")]
    summary = read_rows(place.at(StudyPaths(row.study.study).summary), required)
    rows = of_task(summary, place.task, may_be_empty=True)
    dense = (rows["system"] == row.study.reference) | rows["system"].str.startswith(STOCK_PREFIX)
    # dense models without an accuracy were only timed
    shown = rows[(rows["system"] == row.system) | (dense & rows["accuracy"].notna() & is_true(rows["chosen"]))]
    if not (shown["batch_size"] == 1).any() or not (shown["system"] == row.system).any():
        return None
    table = frontier_table(shown, place.task, texts is not None and judged_by_f1(texts))
    return f"{table.caption}\n\n{to_markdown(table)}"
