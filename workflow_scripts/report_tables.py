"""Write the LaTeX tables of a task."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--title", required=True, help="the task's name in the tables")
    parser.add_argument("--summary", required=True, type=Path)
    parser.add_argument("--reference", required=True, help="the dense system in the role of BERT")
    parser.add_argument("--card", required=True, type=Path, help="the task's card")
    parser.add_argument("--published", required=True, type=Path, help="the published figures")
    parser.add_argument("--paper", required=True, type=Path, help="the task's table with the paper's columns")
    parser.add_argument("--out", required=True, type=Path, help="the folder of the tables")
    arguments = parser.parse_args()

    from eat.files import read_json
    from eat.report.latex import write_tables
    from eat.report.published import read_published
    from eat.report.summary_tables import judged_by_f1
    from eat.results.rows import read_rows

    write_tables(
        read_rows(arguments.summary),
        read_rows(arguments.paper),
        arguments.task,
        arguments.title,
        arguments.reference,
        read_published(arguments.published).also_called({arguments.task: arguments.title}),
        arguments.out,
        f1=judged_by_f1(read_json(arguments.card)),
    )


if __name__ == "__main__":
    run(main)
