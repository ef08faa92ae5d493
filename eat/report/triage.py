"""The table of triage: what a team that reads the alarms would ask of each operating point."""

from __future__ import annotations

import pandas as pd

from eat import rounding
from eat.report.quantities import DEPTH, P50, SPEEDUP, SYSTEM, THRESHOLD, Quantity
from eat.report.results import TaskFiles
from eat.report.table import Group, Row, Table
from eat.results.picks import is_choice


def triage_table(task: TaskFiles) -> Table | None:
    """The operating points of a task whose mistakes have a cost; `None` for another task."""
    if task.triage is None or task.triage.empty:
        return None
    found = task.triage
    alarm, review = str(found["alarm"].iloc[0]), found["review"].iloc[0]
    quantities = (
        SYSTEM,
        THRESHOLD,
        Quantity("Recall", "recall", rounding.percent, ("recall_low", "recall_high"), unit="%"),
        Quantity(
            "False alarms", "false_alarms", rounding.risk, ("false_alarms_low", "false_alarms_high"), unit="% of others"
        ),
        Quantity("To a person", "escalated", rounding.risk, ("escalated_low", "escalated_high"), unit="% of all"),
        Quantity("below", "escalate_below", rounding.threshold, unit="confidence"),
        Quantity("Cost", "cost", rounding.score, ("cost_low", "cost_high"), unit="per 1,000"),
        DEPTH,
        P50,
        SPEEDUP,
    )
    person = "No text goes to a person."
    if not pd.isna(review):
        person = (
            "A text whose confidence at full depth is below a level goes to a person, counts as answered rightly and "
            f"costs {rounding.threshold(review)}."
        )
    caption = (
        f"Triage on {task.name}: the recall of {alarm}, the share of the other texts that raise an alarm, the share "
        f"that goes to a person, and what 1,000 texts cost. {person} Thresholds and levels were chosen on the "
        "calibration split; the values are of the dev split, with 95 % intervals. A triangle marks the chosen point."
    )
    rows = [
        Row(
            tuple(quantity.cell(row) for quantity in quantities),
            chosen=is_choice(row),
        )
        for row in found.to_dict("records")
    ]
    columns = tuple(quantity.column() for quantity in quantities)
    return Table(caption, f"triage:{task.name}", columns, (Group("", tuple(rows)),))
