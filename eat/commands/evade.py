"""`eat evade`: attack exported models by small edits of texts."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.commands.arguments import options_from
from eat.commands.text_file import add_form, form_of

HELP = "attack exported models by small edits of texts"
DESCRIPTION = (
    "Edit words of labelled texts until an exported model answers wrongly, exits early with a wrong answer, or runs "
    "through all layers. The attack sees only answers (black box). Several folders are attacked with the same texts, "
    "so that defences can be compared; the speed of each is measured against the first."
)
EXTRA = "serve"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="exported models of one task")
    parser.add_argument(
        "--texts", type=Path, required=True, metavar="FILE",
        help="labelled texts that the models have not learned from: .csv, .tsv, .jsonl or .parquet",
    )  # fmt: skip
    parser.add_argument("--text", metavar="COLUMN", dest="column", help="the column of the texts (default: text)")
    parser.add_argument("--label", required=True, metavar="COLUMN", help="the column of the labels")
    parser.add_argument(
        "--words", type=Path, metavar="FILE",
        help="labelled texts with the same columns, such as those of training, whose words are inserted and "
        "substituted (default: the texts that are not attacked)",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the new folder of the results")
    parser.add_argument("--goal", action="append", default=[], dest="goals", help="wrong, early or slow (default: all)")
    parser.add_argument(
        "--kind", action="append", default=[], dest="kinds",
        help="lookalike, misspell, substitute, insert, or all in one attack (default: the four, one after another)",
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=500, metavar="N", help="texts of an attack (default: 500)")
    parser.add_argument("--only", metavar="LABEL", help="attack only texts of this label")
    parser.add_argument("--queries", type=int, default=200, metavar="N", help="answers per text (default: 200)")
    parser.add_argument(
        "--edits", type=float, default=0.2, metavar="SHARE",
        help="the share of the words of a text that may be edited, at least one (default: 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--checked", type=int, default=50, metavar="N", help="edited texts to check by hand (default: 50)"
    )
    parser.add_argument("--workers", type=int, help="texts that are attacked at the same time (default: the cores)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of texts (default: 1)")
    add_form(parser)


def run(options: argparse.Namespace) -> None:
    """Attack, write the results and print the tables."""
    import scipy.stats  # noqa: F401  # so that a missing extra is reported before any work

    from eat.evasion.evade import evade
    from eat.evasion.options import EvadeOptions

    options.form = form_of(options)
    print(evade(options_from(EvadeOptions, options)))
