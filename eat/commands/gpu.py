"""`eat gpu`: what to measure first on a GPU."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from eat.commands.arguments import options_from, quiet_libraries
from eat.errors import EatError

HELP = "what to measure first on a GPU"
DESCRIPTION = (
    "On a GPU. check, in three minutes: whether the packed forward pass equals stock transformers in each precision, "
    "and CUDA graphs the packed pass, then the engine's times at the shapes of MiniLM and BERT-base. train, in five "
    "minutes: the systems of config/gpu.yaml on SST-2, trained, then timed. Both write each part when it ends, and "
    "need nothing besides PyTorch, transformers and the bundle."
)
INTERRUPTED = "finished parts are kept"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("part", metavar="PART", choices=["check", "train"], help="check or train")
    parser.add_argument(
        "--device", default="cuda", help="of check: cuda, mps, cpu, or auto for the first of these that is available"
    )
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="the folder of the results")
    parser.add_argument(
        "--bundle", type=Path, default=Path(".gpu-bundle"), help="the folder that `make gpu-bundle` made"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=argparse.SUPPRESS,
        help="the time after which it stops and keeps what is done; default: 165 for check, 270 for train",
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
            from eat.bench.gpu_train import TrainOptions, run_train
        except ModuleNotFoundError as error:
            raise EatError(f"{error}; {options.bundle} brings the packages that an image lacks: {PACK}") from None
        quiet_libraries()
        if options.part == "train":
            run_train(options_from(TrainOptions, options), options.began)
        elif options.dry_run:
            run_check(dry_run(options.out, options.bundle), options.began)
        else:
            run_check(options_from(CheckOptions, options), options.began)
