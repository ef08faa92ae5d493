"""The arguments of the commands that configure a study from a file of labelled texts, and what they share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from eat.commands.text_file import add_form, form_of
from eat.errors import EatError

if TYPE_CHECKING:
    from eat.configure.configure import Configured
    from eat.configure.options import ConfigureOptions


def add_file(parser: argparse.ArgumentParser) -> None:
    """The file, its columns and what it looks like."""
    parser.add_argument("file", metavar="FILE", type=Path, help="labelled texts: .csv, .tsv, .jsonl or .parquet")
    parser.add_argument(
        "--text", action="append", default=[], metavar="COLUMN",
        help="the column of the texts: a name, a number from 1, or a dotted path; twice for pairs",
    )  # fmt: skip
    parser.add_argument("--label", metavar="COLUMN", help="the column of the labels")
    parser.add_argument("--seeds", type=int, default=1, help="how often each model is trained (default: 1)")
    parser.add_argument("--cores", type=int, help="of the machine that runs the study (default: those of this one)")
    add_form(parser)


def configure_options(options: argparse.Namespace, name: str) -> ConfigureOptions:
    """The options of a configuration. Without columns, shows those of the file and raises `EatError`."""
    from eat.configure.configure import columns_of
    from eat.configure.options import ConfigureOptions
    from eat.runtime.classifier import usable_cores

    form = form_of(options)
    missing = [option for option, given in (("--text", options.text), ("--label", options.label)) if not given]
    if missing:
        lines = columns_of(options.file, form)
        print("\n".join([f"{options.file}: columns", *lines]), flush=True)
        raise EatError(f"{options.file}: give {' and '.join(f'{option} COLUMN' for option in missing)}, a column above")
    cores = usable_cores() if options.cores is None else options.cores
    return ConfigureOptions(options.file, options.text, options.label, name, form, cores, options.seeds)


def configured_from(chosen: ConfigureOptions, root: Path | None) -> Configured:
    """The configuration, after what the file holds was printed."""
    from eat.configure.configure import configured, looked_at

    found = looked_at(chosen)
    print("\n".join(found.lines()), flush=True)
    return configured(chosen, found, root)
