"""Draw the ablation of one task."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--ablation", required=True, type=Path, help="the ablation's table")
    parser.add_argument("--pdf", required=True, type=Path)
    parser.add_argument("--svg", required=True, type=Path)
    arguments = parser.parse_args()

    from eat.figures.ablation import plot_ablation
    from eat.results.rows import read_rows

    plot_ablation(read_rows(arguments.ablation), arguments.task, out_pdf=arguments.pdf, out_svg=arguments.svg)


if __name__ == "__main__":
    run(main)
