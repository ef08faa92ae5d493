"""Draw the frontier of a tagging task from the summary."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", required=True, type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--reference", required=True, help="the system with the last head alone")
    parser.add_argument("--pdf", required=True, type=Path)
    parser.add_argument("--svg", required=True, type=Path)
    arguments = parser.parse_args()

    from functools import partial

    from eat.figures import style
    from eat.files import read_table
    from eat.tagging.figure import plot_tagging

    summary = read_table(arguments.summary)
    style.write(partial(plot_tagging, summary, arguments.task, arguments.reference), arguments.pdf, arguments.svg)


if __name__ == "__main__":
    run(main)
