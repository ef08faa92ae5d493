"""The options of a command that say what a file of texts looks like."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eat.text_files.form import TextForm


def add_form(parser: argparse.ArgumentParser) -> None:
    """What a file of texts looks like."""
    parser.add_argument("--encoding", help="of the file (default: utf-8)")
    parser.add_argument("--delimiter", help="between cells (default: a comma; in .tsv files a tab)")
    parser.add_argument("--quote", help="the quotation mark around cells, or none")
    parser.add_argument("--header", help="first_line (the default), or none: columns are then numbered from 1")


def form_of(options: argparse.Namespace) -> TextForm:
    """What a file looks like, from the options of `add_form`."""
    from eat.text_files.form import TextForm

    given = {name: getattr(options, name) for name in ("encoding", "delimiter", "quote", "header")}
    if given["delimiter"] == "\\t":  # a shell passes it as two characters
        given["delimiter"] = "\t"
    return TextForm(**{name: value for name, value in given.items() if value is not None})
