"""Put the results of a study's finished tasks into a Markdown page, and all their rows into a CSV file.

The page must contain `<!-- results:STUDY -->` and, further down, `<!-- /results:STUDY -->`; the text between them is
replaced by the tables, with command, date and versions. So the tables of the README and of `docs/` are never copied by
hand. For a study that still runs, only the tasks that are traced and timed are included.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts._command import run

if TYPE_CHECKING:
    import pandas as pd

    from eat.study.study import Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", required=True, nargs="+", help="the study's configuration; several files are merged"
    )
    parser.add_argument("--command", required=True, help="the command that made the results")
    parser.add_argument("--into", required=True, type=Path, help="the Markdown page")
    parser.add_argument("--csv", required=True, type=Path, help="the file of all rows")
    arguments = parser.parse_args()

    from eat.errors import EatError
    from eat.files import write_table, write_text
    from eat.study.tagging import TaggingStudy
    from eat.summarize.ablation import ablation_table, without_variants
    from workflow_scripts.versioning import configured_study

    study = configured_study(arguments.config, [])
    if isinstance(study, TaggingStudy):
        raise EatError(f"{study.study}: a study of sequence labelling; its results are in results/{study.study}/report")
    start, end = f"<!-- results:{study.study} -->", f"<!-- /results:{study.study} -->"
    try:
        page = arguments.into.read_text(encoding="utf-8")
    except OSError as error:
        raise EatError(f"{arguments.into}: {error.strerror}; make a page that contains {start} and {end}") from None
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise EatError(f"{arguments.into}: must contain the lines {start} and {end} once each, in this order")
    every = finished_rows(study)
    summary = without_variants(study, every)
    before, after = page.split(start)[0], page.split(end)[1]
    block = results_block(study, summary, arguments.command, ablation_table(study, every) if study.ablation else None)
    write_table(arguments.csv, every)
    write_text(arguments.into, before + start + "\n" + block + end + after)


def finished_rows(study: Study) -> pd.DataFrame:
    """The rows of all systems on the tasks that are traced and timed."""
    import pandas as pd

    from eat.errors import EatError
    from eat.study.paths import StudyPaths
    from eat.summarize.summary import task_summary
    from eat.summarize.task_results import TaskInputs, read_results

    paths = StudyPaths(study.study)
    finished = [
        task for task in study.tasks if paths.timing_state(task).is_file() and paths.operating_points(task).is_file()
    ]
    if not finished:
        raise EatError(f"{paths.results}: no task is traced and timed yet; run the study first")
    return pd.concat(
        [task_summary(read_results(study, task, TaskInputs.of(study, task))) for task in finished], ignore_index=True
    )


def results_block(study: Study, summary: pd.DataFrame, command: str, ablation: pd.DataFrame | None) -> str:
    """The tables of all tasks of a summary, followed by that of an ablation, and their provenance."""
    from eat.errors import listed
    from eat.files import read_json
    from eat.report.first_screen import answer
    from eat.report.results import noise_floor
    from eat.report.sentences_on_tasks import left_out_sentences, noise_of_batch
    from eat.report.summary_tables import ABLATIONS, ablation_table, judged_by_f1, main_table, throughput_table
    from eat.report.table import to_markdown
    from eat.results.picks import picks_of
    from eat.rounding import with_percent
    from eat.study.paths import StudyPaths

    paths = StudyPaths(study.study)
    parts = [f"Made by `{command}`.\n"]
    for task in dict.fromkeys(summary["task"]):
        state, card = read_json(paths.timing_state(task)), read_json(paths.card(task))
        precisions = listed(dict.fromkeys(state["precisions"].values()))
        versions = ", ".join(f"{name} {number}" for name, number in state["versions"].items())
        batches = sorted(summary.loc[summary["task"] == task, "batch_size"].unique())
        dev = int(summary.loc[summary["task"] == task, "n"].max())
        given = f" ({card['source']['dev']})" if "dev" in card["source"] else ""
        parts.append(
            f"**{task}**, {dev} dev texts{given}, {state['n_timed']} of them timed on {state['date']} "
            f"({state['machine']['cpu']}, {state['threads']} threads, {precisions}; {versions}; other processes "
            f"used {with_percent(state['foreign_load'])} of the machine's time). Batch 1, one text at a time:\n"
        )
        parts.append(to_markdown(main_table(summary, task)))
        throughput = throughput_table(summary, task)
        if throughput is not None:
            parts += [f"Batch {int(max(batches))}:\n", to_markdown(throughput)]
        parts += [noise_of_batch(batch, noise_floor(summary, task, batch)) + "\n" for batch in batches]
        parts += [f"{sentence}\n" for sentence in left_out_sentences(state)]
        own = summary[(summary["task"] == task) & summary["system"].isin(list(study.systems))]
        chosen = own[own["chosen"] & (own["batch_size"] == 1)]
        parts.append(answer(picks_of(summary[summary["task"] == task], study.reference), study.reference) + "\n")
        if ablation is not None:
            rows = ablation[ablation["task"] == task]
            parts.append(f"Ablation, batch 1: {ABLATIONS[rows['ablation'].iloc[0]]}.\n")
            parts.append(to_markdown(ablation_table(rows, task)))
        if judged_by_f1(card):
            parts.append(f1_line(chosen, card["labels"][1]))
    unfinished = [task for task in study.tasks if task not in set(summary["task"])]
    if unfinished:
        parts.append(f"Not finished yet: {listed(unfinished)}.\n")
    return "\n".join(parts)


def f1_line(chosen: pd.DataFrame, label: str) -> str:
    """F1 of one class for each system at its chosen threshold, as GLUE gives it for pairs of texts."""
    from eat.rounding import percent

    each = ", ".join(f"{system} {percent(value)}" for system, value in zip(chosen["system"], chosen["f1"], strict=True))
    return f"F1 of `{label}` (%): {each}.\n"


if __name__ == "__main__":
    run(main)
