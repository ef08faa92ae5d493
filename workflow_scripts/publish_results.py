"""Put a study's results table into a Markdown page, between its two marker lines, with command, date and versions.

The page must hold `<!-- results:STUDY -->` and, further down, `<!-- /results:STUDY -->`; what stands between them is
replaced. So the tables of the README and of `docs/` are copied by a program, not by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", required=True, type=Path, help="the folder of the study's results")
    parser.add_argument("--command", required=True, help="the command that made them")
    parser.add_argument("--into", required=True, type=Path, help="the Markdown page")
    arguments = parser.parse_args()

    from eat.errors import EatError
    from eat.files import write_text

    study = arguments.results.name
    page = arguments.into.read_text(encoding="utf-8")
    start, end = f"<!-- results:{study} -->", f"<!-- /results:{study} -->"
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise EatError(f"{arguments.into}: must hold the lines {start} and {end} once each, in this order")
    before, after = page.split(start)[0], page.split(end)[1]
    write_text(
        arguments.into, before + start + "\n" + results_block(arguments.results, arguments.command) + end + after
    )


def results_block(results: Path, command: str) -> str:
    """The tables of all tasks of a study, and how they were made."""
    from eat.errors import listed
    from eat.files import read_json, read_table
    from eat.rounding import with_percent
    from eat.tables import main_table, throughput_table, to_markdown

    summary = read_table(results / "summary.csv")
    parts = [f"Made by `{command}`.\n"]
    for task in dict.fromkeys(summary["task"]):
        state = read_json(results / "timing" / f"{task}.json")
        precisions = listed(dict.fromkeys(state["precisions"].values()))
        versions = ", ".join(f"{name} {number}" for name, number in state["versions"].items())
        dev = int(summary.loc[summary["task"] == task, "n"].max())
        parts.append(
            f"**{task}**, {dev} dev texts, {state['n_timed']} of them timed on {state['date']} "
            f"({state['machine']['cpu']}, {state['threads']} threads, {precisions}; {versions}; other processes "
            f"took {with_percent(state['foreign_load'])} of the machine's time). Batch 1, one text at a time:\n"
        )
        parts.append(to_markdown(main_table(summary, task)))
        throughput = throughput_table(summary, task)
        if throughput is not None:
            parts += [f"Batch {int(summary['batch_size'].max())}:\n", to_markdown(throughput)]
    return "\n".join(parts)


if __name__ == "__main__":
    run(main)
