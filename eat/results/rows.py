"""Selection of rows of the results for figures, tables and the report: those of one task, measured in one setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eat.errors import DamagedFile, EatError, listed
from eat.files import read_table
from eat.study.stock import STOCK_PREFIX, is_repeat

if TYPE_CHECKING:
    import pandas as pd

Record = Mapping[Any, Any]
"""A row of a table: column -> value."""

NAMES = ("task", "system", "model")
"""The columns of tables of results with names from a study; `model` is a system's, or a cost model's."""


def read_rows(
    path: Path | str, required: Sequence[str] = (), complete: Sequence[str] = (), may_be_empty: bool = False
) -> pd.DataFrame:
    """Read a table of results with its names as text: a task may be called `NA`, `007`, `1e3` or `true`.

    Raises `DamagedFile` as `read_table` does, and if a row has no name.
    """
    table = read_table(path, required, [column for column in complete if column not in NAMES], may_be_empty)
    if Path(path).suffix != ".parquet":
        import pandas as pd

        # in a CSV file a name may look like a gap, a number or a truth value, so these columns are read again as text
        names = pd.read_csv(
            path, usecols=lambda column: column in NAMES, dtype=str, keep_default_na=False, na_values=[""]
        )
        table[names.columns] = names
    gaps = [column for column in NAMES if column in table and table[column].isna().any()]
    if gaps:
        raise DamagedFile(f"{path}: misses values in the column {listed(gaps)}; delete it and run again")
    return table


def rows_of(summary: pd.DataFrame, task: str) -> pd.DataFrame:
    """The rows of one task, each system with its own calibration.

    Raises `EatError` if they were measured in different settings, or the rows of a system have different calibrations.
    """
    rows = of_task(summary, task)
    for column in ("device", "card", "threads"):
        if column not in rows:  # a table that was read for other columns
            continue
        found = sorted(str(value) for value in rows[column].dropna().unique())
        if len(found) > 1:
            raise EatError(f"task {task!r}: rows of {column} {listed(found)} in one summary; report each separately")
    for system, own in rows.groupby("system", sort=False):
        # systems may differ in this, but not the rows of one system
        calibrations = sorted(str(mode) for mode in own["calibration"].dropna().unique())
        if len(calibrations) > 1:
            raise EatError(
                f"task {task!r}: rows of {system} with calibration {listed(calibrations)} in one summary; "
                "run the workflow again, or report each separately"
            )
    return rows


def of_task(table: pd.DataFrame, task: str, may_be_empty: bool = False) -> pd.DataFrame:
    """The rows of one task of any table with columns `task` and `system`.

    Raises `EatError` if there are none, unless `may_be_empty`.
    """
    rows = table[table["task"].astype(str) == task]
    if rows.empty and not may_be_empty:
        tasks = sorted(set(table["task"].astype(str)))
        raise EatError(f"no row of task {task!r}; the table holds {listed(tasks)}")
    return rows.assign(task=task, system=rows["system"].astype(str))


def without_repeats(rows: pd.DataFrame, column: str = "system") -> pd.DataFrame:
    """The rows except those that were only timed a second time, for the noise floor."""
    return rows[~rows[column].map(is_repeat).astype(bool)]


def is_true(column: pd.Series) -> pd.Series:
    """A column of flags as bool; the CSV reader may have read them as bool, text or empty."""
    return column.astype(str).str.lower() == "true"


def in_setting_of(rows: pd.DataFrame, reference: str) -> set[str]:
    """The systems that run in the reference's engine and precision, and the stock models in that precision.

    rows: rows of summary.csv of one task. Figures that compare times are restricted to these.
    """
    own = rows[rows["system"] == reference]
    alike = rows["dtype"].isin(set(own["dtype"])) & rows["engine"].isin({*own["engine"], "stock"})
    return set(rows.loc[alike, "system"])


def in_precision_of(rows: pd.DataFrame, reference: str) -> set[str]:
    """The systems in the reference's precision, in any engine; stock models in the reference's engine alone.

    rows: rows of summary.csv of one task. Figures of what no engine changes, such as exits, are restricted to these.
    """
    alike = rows.loc[rows["dtype"].isin(set(rows.loc[rows["system"] == reference, "dtype"])), "system"]
    own_models = {name for name in alike if not str(name).startswith(STOCK_PREFIX)}
    return own_models | in_setting_of(rows, reference)


def chosen_thresholds(rows: pd.DataFrame) -> dict[str, float]:
    """system -> the threshold chosen on the calibration split, for systems with thresholds."""
    picked = rows[is_true(rows["chosen"]) & rows["tau"].notna()]
    return {str(name): float(tau) for name, tau in zip(picked["system"], picked["tau"], strict=True)}
