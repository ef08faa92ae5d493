"""The command `eat`. A mistake in the input is one line on stderr and exit status 1; an interrupt is one line too."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from eat.errors import EatError
from eat.interrupts import Ended, ended_by_signals, output_of
from eat.progress import reporting

if TYPE_CHECKING:
    from eat.bench.results import Findings
    from eat.model.shape import Shape
    from eat.study.tasks import FileFormat

INTERRUPTED = 130

Options = TypeVar("Options")


class Parser(argparse.ArgumentParser):
    """A parser that raises `EatError`."""

    def error(self, message: str) -> NoReturn:
        """Raise the message that argparse would print with its usage."""
        raise EatError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments; `None`: those of the shell."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    began = time.monotonic()
    try:
        options = _parser().parse_args(given)
        with ended_by_signals(), reporting(" ".join(["eat", *given[:2]]) if options.command != "diff" else "eat diff"):
            if options.command == "export":
                _export(options)
            elif options.command == "adapt":
                _adapt(options)
            elif options.command == "diff":
                _diff(options)
            elif options.command == "gpu":
                _gpu(options, began)
            else:
                _bench(options, f"eat {shlex.join(given)}")
    except ModuleNotFoundError as error:
        if (error.name or "eat").split(".")[0] == "eat":
            raise
        print(f'error: eat {given[0]} needs the extra study: pip install "eat-study[study]"', file=sys.stderr)
        sys.exit(1)
    except EatError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except Ended:
        kept = "finished parts are kept" if given[:1] == ["gpu"] else "nothing was written"
        print(f"interrupted; {kept}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _bench(options: argparse.Namespace, command: str) -> None:
    from eat.bench.results import check_folder, write_findings

    check_folder(options.out, options.bench)
    _quiet_libraries()
    found = _measured(options)
    write_findings(found, options.out, command)
    print(found.markdown)
    print(f"Written to {options.out}.")


def _measured(given: argparse.Namespace) -> Findings:
    """Run the requested measurement; each kind imports only what it needs."""
    if given.bench == "engine":
        from eat.bench.engine import bench_engine
        from eat.bench.engine_options import EngineOptions

        return bench_engine(_options_from(EngineOptions, given))
    if given.bench == "growth":
        from eat.bench.growth import GrowthOptions, bench_growth

        return bench_growth(_options_from(GrowthOptions, given))
    from eat.bench.training import TrainingOptions, bench_training

    return bench_training(_options_from(TrainingOptions, given))


def _options_from(options: type[Options], given: argparse.Namespace) -> Options:
    """The options of a measurement from the arguments of the same names; the others keep their defaults."""
    names = {field.name for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    return options(**{name: value for name, value in vars(given).items() if name in names})


def _export(options: argparse.Namespace) -> None:
    from eat.export.folder import export
    from eat.export.source import ExportOptions

    _quiet_libraries()
    print(export(_options_from(ExportOptions, options)))


def _adapt(options: argparse.Namespace) -> None:
    from eat.adapt.adapt import adapt
    from eat.adapt.options import AdaptOptions

    _quiet_libraries()
    print(adapt(dataclasses.replace(_options_from(AdaptOptions, options), form=_form(options))))


def _form(options: argparse.Namespace) -> FileFormat:
    """What a file looks like, from the options of `_add_form`."""
    from pydantic import TypeAdapter

    from eat.study.specs.spec import parsed
    from eat.study.tasks import FileFormat
    from eat.validation import canonical_json

    given = {name: getattr(options, name) for name in FileFormat.model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    return parsed(TypeAdapter(FileFormat), canonical_json(given), f"eat {options.command}")


def _quiet_libraries() -> None:
    """Switch off the progress bars and advice of `transformers`."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _gpu(options: argparse.Namespace, began: float) -> None:
    from eat.bench.bundle import MANIFEST, PACK, opened

    with ExitStack() as stack:
        # an image may lack packages without which the library cannot be imported; the bundle brings them
        if (options.bundle / MANIFEST).is_file():
            stack.enter_context(opened(options.bundle))
        try:
            from eat.bench.gpu import CheckOptions, dry_run, run_check
        except ModuleNotFoundError as error:
            raise EatError(f"{error}; {options.bundle} brings the packages that an image lacks: {PACK}") from None
        _quiet_libraries()
        if options.dry_run:
            run_check(dry_run(options.out, options.bundle), began)
        else:
            run_check(_options_from(CheckOptions, options), began)


# --- diff ---------------------------------------------------------------------------------------------------------


def _diff(options: argparse.Namespace) -> None:
    """Compare two states; each comes from the workflow's command, or is the current state of the results."""
    from eat.compare.render import compare
    from eat.compare.states import State, read_state
    from eat.study.loading import load_study
    from eat.study.paths import StudyPaths

    study = load_study(options.config)
    results = StudyPaths(study.study).results

    def state_of(revision: str | None, folder: Path) -> State:
        if revision is None:
            return read_state("the current results", results)
        _get_results(revision, results, folder)
        return read_state(revision, folder)

    with tempfile.TemporaryDirectory(prefix="eat-diff-") as folder:
        before = state_of(options.before, Path(folder) / "before")
        after = state_of(options.after, Path(folder) / "after")
    print(compare(before, after, study.reference, options.templates, options.out))
    print(f"Written to {options.out}.")


def _get_results(revision: str, results: Path, folder: Path) -> None:
    """Get the results of a revision into `folder` with the project's workflow, which can find them."""
    from eat.compare.states import FILES

    command = [sys.executable, "-m", "workflow_scripts.get_results", "--results", str(results), "--out", str(folder)]
    done = output_of([*command, "--files", *FILES, "--", revision], f"getting the results of {revision}")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise EatError(f"the results of {revision} were not found: {lines[-1].removeprefix('error: ')}")


# --- arguments ----------------------------------------------------------------------------------------------------


def _parser() -> Parser:
    parser = Parser(prog="eat", description="Adaptive Transformer classifiers, measured by the clock.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    bench = commands.add_parser("bench", help="measure the engine", description=_BENCH)
    kinds = bench.add_subparsers(dest="bench", required=True, metavar="WHAT")
    _add_engine(kinds.add_parser("engine", help="systems x lengths x batch sizes", description=_ENGINE))
    _add_growth(kinds.add_parser("growth", help="time and memory against length and batch", description=_GROWTH))
    _add_training(kinds.add_parser("training", help="packed against padded training", description=_TRAINING))
    _add_diff(commands.add_parser("diff", help="compare the results of two revisions", description=_DIFF))
    export = commands.add_parser("export", help="write a model for the runner without PyTorch", description=_EXPORT)
    _add_export(export)
    adapt = commands.add_parser("adapt", help="make a classifier exit early, without labels", description=_ADAPT)
    _add_adapt(adapt)
    gpu = commands.add_parser("gpu", help="what to measure first on a GPU", description=_GPU)
    _add_gpu(gpu)
    for kind in (*kinds.choices.values(), gpu):
        kind.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    return parser


_DIFF = (
    "Compare the results of two revisions, run in the project's folder: which numbers changed and whether noise "
    "explains it, which rules were rerun and why. Prints Markdown, and writes it together with a page of frontiers."
)
_BENCH = "Measure the engine, independently of a study. Every ratio is of times measured moments apart."
_ENGINE = (
    "Time our packed encoder against stock transformers, ONNX Runtime and OpenVINO (the extra bench), in turn, on the "
    "same random texts. Prints a table and writes it with all timed passes, a figure, and the facts of the machine."
)
_GROWTH = (
    "Time and memory of dense and window attention against length at batch 1, and against the batch; exponents, and "
    "the lengths at which one implementation overtakes another."
)
_GPU = (
    "On a GPU, in three minutes: whether the packed forward pass equals stock transformers in each precision, then the "
    "engine's times at the shapes of MiniLM and BERT-base. Writes each part when it ends. Needs nothing besides "
    "PyTorch and transformers."
)
_EXPORT = (
    "Write a trained model as one ONNX file with its early exits inside, beside its tokenizer, a manifest and a model "
    "card. eat.runtime runs it without PyTorch."
)
_ADAPT = (
    "Make one ONNX file that exits early from a fine-tuned classifier (BERT, DistilBERT, MiniLM, RoBERTa, XLM-R, "
    "ELECTRA) and a file of texts without labels. Heads on the frozen model learn its own answers; the threshold is "
    "chosen so that the file disagrees with the model on few texts, with a stated confidence. Prints a table and "
    "writes the folder of `eat export`. A run that was interrupted goes on."
)
_TRAINING = (
    "Tokens per second of a training step: our encoder on packed rows against stock transformers on padded rows."
)


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="REV_A", help="a commit, branch, tag or experiment whose results DVC keeps")
    parser.add_argument("after", metavar="REV_B", nargs="?", help="another; left out: the current results")
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"), help="the study")
    parser.add_argument("--templates", type=Path, default=Path("report"), help="the folder of the page's template")
    parser.add_argument("--out", type=Path, default=Path("results/diff"), help="the folder of the comparison")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help="a study's model folder, or one that `save_pretrained` wrote"
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--precision", default="int8", help="int8 (the default) or float32")
    parser.add_argument(
        "--tau", type=float, help="the threshold; default: the saved operating point, or the study's chosen one"
    )
    parser.add_argument("--system", help="the study's row whose parts and rule are used; default: that of the folder")
    parser.add_argument(
        "--config", type=Path, help="the study's configuration; default: the file in config/ with the study's name"
    )
    parser.add_argument(
        "--max-length", type=int, help="the tokens of the longest text; default: the study's, or the model's positions"
    )


def _add_adapt(parser: argparse.ArgumentParser) -> None:
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
    _add_form(parser)


def _add_form(parser: argparse.ArgumentParser) -> None:
    """What a file of texts looks like."""
    parser.add_argument("--encoding", help="of the file (default: utf-8)")
    parser.add_argument("--delimiter", help="between cells (default: a comma; in .tsv files a tab)")
    parser.add_argument("--quote", help="the quotation mark around cells, or none")
    parser.add_argument("--header", help="first_line (the default), or none: columns are then numbered from 1")


def _add_gpu(parser: argparse.ArgumentParser) -> None:
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


if __name__ == "__main__":
    main()
