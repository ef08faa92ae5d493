"""`eat gpu`: what to measure first on a GPU."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from eat.commands.arguments import options_from, quiet_libraries
from eat.errors import EatError

HELP = "what to measure first on a GPU"
DESCRIPTION = (
    "On a GPU, in three minutes: whether the packed forward pass equals stock transformers in each precision, then the "
    "engine's times at the shapes of MiniLM and BERT-base. Writes each part when it ends. Needs nothing besides "
    "PyTorch and transformers."
)
INTERRUPTED = "finished parts are kept"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("part", metavar="PART", choices=["check"], help="check")
    parser.add_argument(
        "--device", default="cuda", help="cuda, mps, cpu, or auto for the first of these that is available"
    )
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="the folder of the results")
    parser.add_argument(
        "--bundle", type=Path, default=Path(".gpu-bundle"), help="the folder that `make gpu-bundle` made"
    )
    parser.add_argument(
        "--seconds", type=float, default=165.0, help="the time after which the check stops and keeps what is done"
    )
    parser.add_argument("--dry-run", action="store_true", help="the same on the CPU with tiny models, in seconds")


def run(options: argparse.Namespace) -> None:
    """Run the part, or its dry run; the seconds count from the start of the command."""
    from eat.bench.bundle import MANIFEST, PACK, opened

    with ExitStack() as stack:
        # an image may lack packages without which the library cannot be imported; the bundle brings them
        if (options.bundle / MANIFEST).is_file():
            stack.enter_context(opened(options.bundle))
        try:
            from eat.bench.gpu import CheckOptions, dry_run, run_check
        except ModuleNotFoundError as error:
            raise EatError(f"{error}; {options.bundle} brings the packages that an image lacks: {PACK}") from None
        quiet_libraries()
        if options.dry_run:
            run_check(dry_run(options.out, options.bundle), options.began)
        else:
            run_check(options_from(CheckOptions, options), options.began)
