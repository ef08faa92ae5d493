"""`eat predict`: classify a file of texts, of any size, with an exported model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from eat.commands.arguments import options_from
from eat.commands.text_file import add_form, form_of

HELP = "classify a file of texts with an exported model"
DESCRIPTION = (
    "Add the columns label, probability, depth and exit_reason to a file of texts of any size. FOLDER is one that "
    "`eat export` or `eat adapt` wrote; it runs without PyTorch. Rows keep their order and their other cells. Without "
    "--to the rows are printed. A run that was interrupted goes on with --resume."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an exported model")
    parser.add_argument(
        "source", metavar="FILE",
        help=".csv, .tsv, .jsonl, .parquet or .txt (one text per line), also with .gz; - for standard input",
    )  # fmt: skip
    parser.add_argument(
        "--text", action="append", default=[], metavar="COLUMN", dest="columns",
        help="the column of the texts: a name, a number from 1, or a dotted path; twice for pairs (default: text)",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, metavar="FILE", help="the file to write (default: standard output)")
    parser.add_argument(
        "--format", help="csv, tsv, jsonl, txt or parquet (default: the ending of FILE; of standard input csv)"
    )
    parser.add_argument("--prefix", default="", help="before the names of the new columns")
    parser.add_argument("--workers", type=int, help="texts that run at the same time (default: one for each core)")
    parser.add_argument("--batch", type=int, default=1000, help="rows that are written together (default: 1000)")
    parser.add_argument("--tau", type=float, help="one threshold for all exits; 1: no text exits early")
    parser.add_argument("--max-length", type=int, help="the tokens of the longest text; default: as in training")
    parser.add_argument(
        "--truncate", action=argparse.BooleanOptionalAction, default=True,
        help="cut longer texts (the default); if not, they get no answer",
    )  # fmt: skip
    parser.add_argument(
        "--strict", action="store_true", help="refuse a row without an answer; its cells would be empty"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run, if there is one")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --to")
    add_form(parser)


def run(options: argparse.Namespace) -> None:
    """Write or print the rows; the last line goes to stderr."""
    from eat.predict.options import PredictOptions
    from eat.predict.predict import predict

    options.form = form_of(options)
    print(predict(options_from(PredictOptions, options)), file=sys.stderr)
