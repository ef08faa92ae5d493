"""`eat bench`: measure the engine."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from eat.commands.arguments import options_from, quiet_libraries

if TYPE_CHECKING:
    from eat.bench.results import Findings
    from eat.model.shape import Shape

HELP = "measure the engine"
DESCRIPTION = "Measure the engine, independently of a study. Every ratio is of times measured moments apart."
_ENGINE = (
    "Time our packed encoder against stock transformers, ONNX Runtime and OpenVINO (the extra bench), in turn, on the "
    "same random texts. Prints a table and writes it with all timed passes, a figure, and the facts of the machine."
)
_GROWTH = (
    "Time and memory of dense and window attention against length at batch 1, and against the batch; exponents, and "
    "the lengths at which one implementation overtakes another."
)
_TRAINING = (
    "Tokens per second of a training step: our encoder on packed rows against stock transformers on padded rows."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add a parser for each measurement."""
    kinds = parser.add_subparsers(dest="bench", required=True, metavar="WHAT")
    _add_engine(kinds.add_parser("engine", help="systems x lengths x batch sizes", description=_ENGINE))
    _add_growth(kinds.add_parser("growth", help="time and memory against length and batch", description=_GROWTH))
    _add_training(kinds.add_parser("training", help="packed against padded training", description=_TRAINING))
    for kind in kinds.choices.values():
        kind.formatter_class = argparse.ArgumentDefaultsHelpFormatter


def run(options: argparse.Namespace) -> None:
    """Measure, write what was found and print its table."""
    from eat.bench.results import check_folder, write_findings

    check_folder(options.out, options.bench)
    quiet_libraries()
    found = _measured(options)
    write_findings(found, options.out, f"eat {shlex.join(options.given)}")
    print(found.markdown)
    print(f"Written to {options.out}.")


def _measured(given: argparse.Namespace) -> Findings:
    """Run the requested measurement; each kind imports only what it needs."""
    if given.bench == "engine":
        from eat.bench.engine import bench_engine
        from eat.bench.engine_options import EngineOptions

        return bench_engine(options_from(EngineOptions, given))
    if given.bench == "growth":
        from eat.bench.growth import GrowthOptions, bench_growth

        return bench_growth(options_from(GrowthOptions, given))
    from eat.bench.training import TrainingOptions, bench_training

    return bench_training(options_from(TrainingOptions, given))


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--systems", type=_names, help="names, separated by commas; default: all that can run here")
    parser.add_argument(
        "--lengths", type=_numbers, default=(8, 16, 32, 64, 128, 256, 512), help="tokens, separated by commas"
    )
    parser.add_argument("--batch-sizes", type=_numbers, default=(1, 32), help="separated by commas")
    parser.add_argument(
        "--mixed-lengths",
        action="store_true",
        help="also batches of mixed lengths, mean 27, in the order of arrival and sorted",
    )
    parser.add_argument(
        "--texts",
        type=Path,
        help="a text file, one text per line, that gives the mixed lengths; implies --mixed-lengths",
    )
    parser.add_argument(
        "--model", type=Path, action="append", default=[], metavar="FOLDER", dest="models",
        help="also a trained model, at its saved operating point; can be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--shape", type=_shape, default="minilm-6", help="the shape of the random weights: minilm-6 or bert-base"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps, or auto for the first available GPU")
    parser.add_argument("--threads", type=int, default=2, help="threads of every runtime")
    parser.add_argument("--no-memory", action="store_false", dest="memory", help="do not measure the memory of calls")
    _add_common(parser, "engine", rounds=20, seconds=40.0)


def _add_growth(parser: argparse.ArgumentParser) -> None:
    lengths = (16, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512, 768, 1024, 2048, 4096)
    parser.add_argument("--systems", type=_names, help="names, separated by commas; default: all")
    parser.add_argument("--lengths", type=_numbers, default=lengths, help="tokens, separated by commas")
    parser.add_argument(
        "--batch-sizes", type=_numbers, default=(1, 2, 4, 8, 16, 32, 64, 128, 256), help="separated by commas"
    )
    parser.add_argument("--batch-length", type=int, default=32, help="tokens per text while the batch grows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-repeats", type=int, default=3, help="fresh processes per measurement; 0: no memory")
    _add_common(parser, "growth", rounds=20, seconds=240.0)


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--threads", type=_numbers, default=(1, 2), help="numbers of threads, separated by commas")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--attention-dropout", type=float, default=0.0, help="0 as in the studies of this project")
    _add_common(parser, "training", rounds=10, seconds=120.0)


def _add_common(parser: argparse.ArgumentParser, name: str, rounds: int, seconds: float) -> None:
    parser.add_argument("--rounds", type=int, default=rounds, help="the most rounds; at least 5 of them are always run")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help="the time after which a case starts no further round"
    )
    parser.add_argument("--out", type=Path, default=Path("results/bench") / name, help="the folder of the result")


def _shape(name: str) -> Shape:
    from eat.bench.systems import SHAPES

    try:
        return SHAPES[name]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{name!r} is not a shape; known: {', '.join(SHAPES)}") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas, without duplicates."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 8,16,32") from None
