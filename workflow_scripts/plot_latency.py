"""Draw how the times of single calls are spread, for one task."""

from __future__ import annotations

from pathlib import Path

from workflow_scripts._command import run
from workflow_scripts._figures import figure_parser


def main() -> None:
    parser = figure_parser(__doc__)
    parser.add_argument("--calls", required=True, type=Path, help="the timed calls of the task")
    arguments = parser.parse_args()

    from eat.figures.latency import plot_latency
    from eat.files import read_table
    from eat.results.rows import read_rows

    plot_latency(
        read_rows(arguments.summary),
        read_table(arguments.calls),
        arguments.task,
        arguments.reference,
        out_pdf=arguments.pdf,
        out_svg=arguments.svg,
    )


if __name__ == "__main__":
    run(main)
