"""Draw saved time against saved FLOPs, for one task."""

from __future__ import annotations

from workflow_scripts._command import run
from workflow_scripts._figures import figure_parser


def main() -> None:
    arguments = figure_parser(__doc__).parse_args()

    from eat.figures.flops import plot_flops
    from eat.results.rows import read_rows

    summary = read_rows(arguments.summary)
    plot_flops(summary, arguments.task, arguments.reference, out_pdf=arguments.pdf, out_svg=arguments.svg)


if __name__ == "__main__":
    run(main)
