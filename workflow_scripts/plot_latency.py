"""Draw how the times of single calls are spread, for one task."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--reference", required=True, help="the dense system that is drawn black")
    parser.add_argument("--summary", required=True, type=Path)
    parser.add_argument("--calls", required=True, type=Path, help="the timed calls of the task")
    parser.add_argument("--pdf", required=True, type=Path)
    parser.add_argument("--svg", required=True, type=Path)
    arguments = parser.parse_args()

    from eat.figures.latency import plot_latency
    from eat.files import read_table

    plot_latency(
        read_table(arguments.summary),
        read_table(arguments.calls),
        arguments.task,
        arguments.reference,
        out_pdf=arguments.pdf,
        out_svg=arguments.svg,
    )


if __name__ == "__main__":
    run(main)
