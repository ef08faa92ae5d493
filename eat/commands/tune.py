"""`eat tune`: search for the best row of a study under a budget of time or accuracy."""

from __future__ import annotations

import argparse
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from eat.commands.in_checkout import require_checkout, run_script
from eat.errors import EatError, listed

if TYPE_CHECKING:
    from eat.tune.options import TuneOptions
    from eat.tune.rows import Base

HELP = "search for the best exits under a budget"
DESCRIPTION = (
    "Search with Optuna for the row of a study that is fastest under a loss of accuracy, or most accurate under a "
    "limit of time: where texts exit, what heads read, which tokens are removed, and what runs it. Trials share what "
    "is trained, see calibration texts only, and are rows of one study that Snakemake runs in this project's checkout. "
    "An interrupted search goes on; more --trials continue it."
)
EXTRA = "tune"
INTERRUPTED = "the same command goes on"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("config", metavar="CONFIG", type=Path, help="the study to start from, such as config/tune.yaml")
    parser.add_argument(
        "--p90-ms", type=float, metavar="MS", help="budget: the 90th percentile of a text's time, in ms"
    )
    parser.add_argument(
        "--accuracy-loss", type=float, metavar="POINTS", help="budget: accuracy lost against the reference, in points"
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--task", help="of the study; needed if it has several")
    parser.add_argument("--trials", type=int, default=40, help="how many (default: 40)")
    parser.add_argument("--batch", type=int, default=8, help="trials in one run of Snakemake (default: 8)")
    parser.add_argument("--beside", action="append", metavar="ROW", help="hand-made rows to compare the best row with")
    parser.add_argument("--name", help="of the study with the trials; default: the study's name with -tune")
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: 0)")
    parser.add_argument("--cores", type=int, help="of the machine (default: those of this one)")
    parser.add_argument("--glue-dir", metavar="FOLDER", help="where GLUE's files are; overrides the study's glue_dir")
    parser.add_argument("--dry-run", action="store_true", help="show the first configuration and the planned jobs")


def run(options: argparse.Namespace) -> None:
    """Check what is asked for, and run the search in the checkout."""
    # without the extra, before anything else; not imported here, so that this process ends quickly after a signal
    if find_spec("optuna") is None:
        raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
    root = require_checkout("tune", "study,embedded,tune")
    config, glue_dir = options.config.absolute(), options.glue_dir
    if glue_dir is not None:
        glue_dir = str(Path(glue_dir).absolute())
    chosen, base = checked(options, root, config, glue_dir)
    command = [
        *("--config", str(config), "--task", base.task, "--name", base.name, "--to", str(chosen.to)),
        *(f"--{chosen.budget.kind.replace('_', '-')}", str(_given(options))),
        *("--trials", str(chosen.trials), "--batch", str(chosen.batch), "--seed", str(chosen.seed)),
        *("--cores", str(chosen.cores)),
        *(word for row in base.beside for word in ("--beside", row)),
        *(("--glue-dir", glue_dir) if glue_dir is not None else ()),
        *(("--dry-run",) if options.dry_run else ()),
    ]
    _workflow(root, command)


def checked(options: argparse.Namespace, root: Path, config: Path, glue_dir: str | None) -> tuple[TuneOptions, Base]:
    """The options and the base of a search. Raises `EatError` for whatever would not work."""
    from eat.runtime.classifier import usable_cores
    from eat.tune.options import TuneOptions, budget_of
    from eat.tune.setting import check_folder, check_same, read_base, setting_of

    budget = budget_of(options.p90_ms, options.accuracy_loss)
    check_folder(options.to)
    to = options.to.absolute()
    with chdir(root):  # in which the study runs, and to which its paths are relative
        base = read_base(config, options.task, options.name, options.beside, glue_dir)
        check_name(root, base.name)
    cores = usable_cores() if options.cores is None else options.cores
    chosen = TuneOptions(config, base.task, base.name, budget, to, options.trials, options.batch, cores, options.seed)
    check_same(to, setting_of(base, chosen))
    return chosen, base


def check_name(root: Path, name: str) -> None:
    """Refuse the name of another study of the project."""
    from eat.configure.configure import named

    if others := [*named(root / "config", name)]:
        shown = listed(file.relative_to(root) for file in others)
        raise EatError(f"--name: {name!r} is that of the study {shown}; give another --name")


def _given(options: argparse.Namespace) -> float:
    return float(options.accuracy_loss if options.p90_ms is None else options.p90_ms)


def _workflow(root: Path, arguments: list[str]) -> None:
    """Run the search in the checkout. Raises `EatError` if it fails."""
    run_script(root, "tune_study", arguments, "tune", "searching")
