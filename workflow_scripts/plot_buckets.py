"""Draw the speed-up by the length of the text, for one task."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--reference", required=True, help="the dense system that all are compared with")
    parser.add_argument("--summary", required=True, type=Path)
    parser.add_argument("--buckets", required=True, type=Path, help="buckets.csv")
    parser.add_argument("--pdf", required=True, type=Path)
    parser.add_argument("--svg", required=True, type=Path)
    arguments = parser.parse_args()

    from eat.figures.buckets import plot_buckets
    from eat.files import read_table

    summary, buckets = read_table(arguments.summary), read_table(arguments.buckets)
    plot_buckets(summary, buckets, arguments.task, arguments.reference, out_pdf=arguments.pdf, out_svg=arguments.svg)


if __name__ == "__main__":
    run(main)
