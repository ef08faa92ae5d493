"""`eat adapt`: make a classifier exit early, without labels."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from eat.commands.arguments import options_from, quiet_libraries
from eat.commands.text_file import add_form, form_of

HELP = "make a classifier exit early, without labels"
DESCRIPTION = (
    "Make one ONNX file that exits early from a fine-tuned classifier (BERT, DistilBERT, MiniLM, RoBERTa, XLM-R, "
    "ELECTRA) and a file of texts without labels. Heads on the frozen model learn its own answers; the threshold is "
    "chosen so that the file disagrees with the model on few texts, with a stated confidence. Prints a table and "
    "writes the folder of `eat export`. A run that was interrupted goes on."
)
INTERRUPTED = "the same command goes on"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", metavar="MODEL", help="a folder of a fine-tuned classifier, or its name on the hub")
    parser.add_argument(
        "--texts", type=Path, required=True, metavar="FILE",
        help="2,000 or more texts: .txt (one per line), .csv, .tsv, .jsonl or .parquet",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument(
        "--text", action="append", default=[], metavar="COLUMN", dest="columns",
        help="the column of the texts: a name, a number from 1, or a dotted path; twice for pairs",
    )  # fmt: skip
    parser.add_argument(
        "--disagreement", type=float, default=0.02,
        help="the largest share of texts answered differently than by the model (default: 0.02)",
    )  # fmt: skip
    parser.add_argument("--confidence", type=float, default=0.95, help="that this holds (default: 0.95)")
    parser.add_argument("--engine", default="onnx", help="onnx")
    parser.add_argument("--precision", default="int8", help="int8 (the default) or float32")
    parser.add_argument("--max-length", type=int, help="the tokens of the longest text; default: the model's positions")
    parser.add_argument("--revision", help="of a model on the hub: a commit, branch or tag")
    parser.add_argument("--seed", type=int, default=0, help="of the heads (default: 0)")
    add_form(parser)


def run(options: argparse.Namespace) -> None:
    """Write the folder and print what it holds."""
    from eat.export.given import require_folder_or_name

    require_folder_or_name(options.model)  # at once: the libraries below take seconds
    from eat.adapt.adapt import adapt
    from eat.adapt.options import AdaptOptions

    quiet_libraries()
    print(adapt(dataclasses.replace(options_from(AdaptOptions, options), form=form_of(options))))
