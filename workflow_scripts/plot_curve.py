"""Draw one of the figures that have a table of their own under `curves/`, for one task."""

from __future__ import annotations

from pathlib import Path

from workflow_scripts._command import run
from workflow_scripts._figures import figure_parser


def main() -> None:
    parser = figure_parser(__doc__)
    parser.add_argument("figure", help="retention, lengths, exits, reliability or cost")
    parser.add_argument("--curve", required=True, type=Path)
    arguments = parser.parse_args()

    from eat.errors import EatError, listed
    from eat.figures.cost import plot_cost
    from eat.figures.exits import plot_exits
    from eat.figures.reliability import plot_reliability
    from eat.figures.tokens import plot_lengths, plot_retention
    from eat.results.rows import read_rows

    figures = {
        "retention": plot_retention,
        "lengths": plot_lengths,
        "exits": plot_exits,
        "reliability": plot_reliability,
        "cost": plot_cost,
    }
    if arguments.figure not in figures:
        raise EatError(f"no figure {arguments.figure!r}; known: {listed(figures)}")
    figures[arguments.figure](
        read_rows(arguments.summary),
        read_rows(arguments.curve, may_be_empty=arguments.figure == "cost"),
        arguments.task,
        arguments.reference,
        out_pdf=arguments.pdf,
        out_svg=arguments.svg,
    )


if __name__ == "__main__":
    run(main)
