"""The summary tables: accuracy, time and work of every operating point.

`summarize` joins the results of the traces (accuracy, depth, retention, FLOPs, calibration) with those of timing, and
writes `summary.csv`, the paper's `summary_{task}.csv`, the data behind the curves, and `metrics.json`.

Aggregation over seeds: values are means over seeds. Intervals of accuracy (Wilson's) and of its difference from the
reference (Tango's) use the seed-mean correctness of a text, so they are for these trained models on other texts;
`accuracy_sd` is the standard deviation over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from eat.files import write_json, write_table
from eat.progress import counted
from eat.results.columns import SUMMARY_COLUMNS
from eat.summarize.ablation import ablation_table, without_variants
from eat.summarize.curves import CURVES
from eat.summarize.metrics import metrics
from eat.summarize.quality import accuracy_rows, calibration_rows, reference_rows, work_rows
from eat.summarize.speed import speed_rows
from eat.summarize.task_results import Results, TaskInputs, read_results, require_one_card
from eat.summarize.triage import triage_rows

if TYPE_CHECKING:
    from eat.study.study import Study


def summarize(
    study: Study,
    inputs: Mapping[str, TaskInputs],
    out_folder: Path | str,
    tables: Mapping[str, Callable[[Results], pd.DataFrame]] | None = None,
) -> pd.DataFrame:
    """Write all tables of a study into `out_folder` and return the summary.

    inputs: task -> its files. tables: further tables, name -> function of a task's results, with a column `system`. The
    variants of an ablation are only in its own table. Raises `EatError` if files are damaged, do not match
    each other, or mix devices or cards.
    """
    out = Path(out_folder)
    tasks = [read_results(study, task, files) for task, files in counted("read", list(inputs.items()), "tasks")]
    require_one_card(tasks)
    every = pd.concat([task_summary(task) for task in counted("summarized", tasks, "tasks")], ignore_index=True)
    for name, curve in CURVES.items():
        table = pd.concat([curve(task) for task in counted(f"curve {name} of", tasks, "tasks")], ignore_index=True)
        write_table(out / "curves" / f"{name}.csv", without_variants(study, table))
    for name, table_of in (tables or {}).items():
        table = pd.concat([table_of(task) for task in counted(f"{name} of", tasks, "tasks")], ignore_index=True)
        write_table(out / f"{name}.csv", without_variants(study, table))
    if study.ablation:
        for task, rows in ablation_table(study, every).groupby("task", sort=False):
            write_table(out / f"summary_ablation_{task}.csv", rows)
    if study.has_triage:
        table = pd.concat([triage_rows(one, every[every["task"] == one.task]) for one in tasks], ignore_index=True)
        write_table(out / "triage.csv", without_variants(study, table))
    summary = without_variants(study, every)
    for task, rows in summary.groupby("task", sort=False):
        write_table(out / f"summary_{task}.csv", paper_columns(rows))
    write_json(out / "metrics.json", metrics(study, summary))
    write_table(out / "summary.csv", summary)
    return summary


def task_summary(results: Results) -> pd.DataFrame:
    """The rows of summary.csv for one task: every operating point and every reference row, at every batch size."""
    quality = accuracy_rows(results).merge(work_rows(results)).merge(calibration_rows(results))
    quality = pd.concat([quality, reference_rows(results, quality)], ignore_index=True)
    speed = speed_rows(results)
    # a system without timed calls still has a row; a reference exists only if it was timed
    every = quality.merge(speed[["batch_size"]].drop_duplicates(), how="cross")
    table = every.merge(speed, on=["system", "tau", "batch_size"], how="left")
    table = table[table["n_timed"].notna() | table["system"].isin(list(results.study.systems))]
    rows = results.study.systems.items()
    precisions = {name: row.precision for name, row in rows} | results.precisions
    engines = {name: row.engine for name, row in rows} | results.engines
    table = table.assign(
        task=results.task,
        seeds=len(results.study.seeds),
        engine=table["system"].map(engines),
        dtype=table["system"].map(precisions),
        **results.setting,
    )
    order = {system: rank for rank, system in enumerate(quality["system"].drop_duplicates())}
    table = table.sort_values(["system", "tau", "batch_size"], key=lambda c: c.map(order) if c.name == "system" else c)
    return table.astype({"n": int, "n_timed": "Int64"}).fillna({"n_timed": 0})[list(SUMMARY_COLUMNS)]


def paper_columns(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows at batch 1 with the columns of the paper's CSV.

    As in the paper, latency is a mean and the speed-up a ratio of means; the median of paired ratios is in summary.csv.
    """
    rows = summary[summary["batch_size"] == 1]
    return pd.DataFrame(
        {
            "model": rows["system"],
            "tau": rows["tau"],
            "latency_ms": rows["latency_ms_mean"],
            "accuracy": rows["accuracy"],
            "speedup_vs_bert": rows["speedup_mean"],
            "delta_acc_pp": 100.0 * rows["delta_accuracy"],
            "avg_depth": rows["avg_depth"],
            "avg_retention": rows["avg_retention"],
        }
    )
