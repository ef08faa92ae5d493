"""`eat shift`: what becomes of thresholds on texts of another domain."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.commands.arguments import options_from, quiet_libraries
from eat.commands.text_file import add_form, form_of
from eat.commands.trained_study import add_trained

HELP = "measure thresholds on labelled texts of another domain"
DESCRIPTION = (
    "Run the systems of a trained study on labelled texts of another domain, and compare accuracy, calibration, depth, "
    "FLOPs and the disagreement with full depth in domain and out of it: as chosen, with temperatures refitted on one "
    "half of the texts, with conservative thresholds, and at full depth. Run in the folder in which the study has run."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_trained(parser, "default: all with an exit rule")
    parser.add_argument("--packaged", metavar="NAME", help="the other domain: rotten_tomatoes, imdb or bbc_news")
    parser.add_argument(
        "--texts", type=Path, metavar="FILE", help="or a file of labelled texts: .csv, .tsv, .jsonl or .parquet"
    )
    parser.add_argument(
        "--text", action="append", default=[], metavar="COLUMN", dest="column",
        help="the column of the texts (default: text); twice for pairs",
    )  # fmt: skip
    parser.add_argument("--label", default="label", metavar="COLUMN", help="the column of the labels (default: label)")
    parser.add_argument(
        "--map", action="append", default=[], metavar="THEIRS=OURS",
        help="a label of the texts and the task's label for it; texts of labels that the task lacks are left out",
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="the most texts (default: 2000)")
    add_form(parser)


def run(options: argparse.Namespace) -> None:
    """Measure and print the table."""
    from eat.analysis.shift import ShiftOptions, measure_shift

    options.form = form_of(options)
    quiet_libraries()
    print(measure_shift(options_from(ShiftOptions, options)))
