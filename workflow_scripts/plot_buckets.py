"""Draw the speed-up by the length of the text, for one task."""

from __future__ import annotations

from pathlib import Path

from workflow_scripts._command import run
from workflow_scripts._figures import figure_parser


def main() -> None:
    parser = figure_parser(__doc__)
    parser.add_argument("--buckets", required=True, type=Path, help="buckets.csv")
    arguments = parser.parse_args()

    from eat.figures.buckets import plot_buckets
    from eat.results.rows import read_rows

    summary, buckets = read_rows(arguments.summary), read_rows(arguments.buckets)
    plot_buckets(summary, buckets, arguments.task, arguments.reference, out_pdf=arguments.pdf, out_svg=arguments.svg)


if __name__ == "__main__":
    run(main)
