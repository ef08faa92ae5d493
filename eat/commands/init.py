"""`eat init`: write the configuration of a study on a file of labelled texts."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.commands.in_checkout import checkout
from eat.commands.labelled_file import add_file, configure_options, configured_from
from eat.errors import EatError, listed

HELP = "write the configuration of a study on a file"
DESCRIPTION = (
    "Look at a file of labelled texts, say what looks wrong and which option mends it, and write a commented "
    "configuration of a study: a dense model and its adaptive versions. Without --text and --label, show the columns."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_file(parser)
    parser.add_argument("--name", help="of the study; default: the file's name")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help="the configuration to write; default: NAME.yaml in config/ or here"
    )


def run(options: argparse.Namespace) -> None:
    """Write the configuration, and print what the file holds and what to do next."""
    from eat.configure.configure import named
    from eat.configure.options import name_from
    from eat.files import write_text

    chosen = configure_options(options, options.name or name_from(options.file) or "study")
    folder = Path("config") if Path("config").is_dir() else Path()
    target = options.to or folder / f"{chosen.name}.yaml"
    if target.exists():
        raise EatError(f"{target}: exists already; give another --name or --to, or delete it")
    if target.suffix not in (".yaml", ".yml"):
        raise EatError(f"{target}: a configuration ends in .yaml; give another --to")
    above = next(parent for parent in target.absolute().parents if parent.exists())
    if not above.is_dir():
        raise EatError(f"{target}: {above} is a file; give another --to")
    if taken := [*named(target.parent, chosen.name)]:
        raise EatError(f"{listed(taken)}: the study {chosen.name!r} is there already; give another --name")
    found = configured_from(chosen, checkout())
    try:
        write_text(target, found.text)
    except OSError as error:
        raise EatError(f"{target}: cannot be written ({error.strerror}); give another --to") from None
    print(
        f"Written to {target}. Check it, then run it:\n"
        f"  python -m workflow_scripts.check_study {target}\n"
        f"  snakemake --cores all --configfile {target}"
    )
