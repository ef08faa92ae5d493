"""`eat train`: a study of one task from one command, with a recommended model at its end."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from eat.commands.in_checkout import require_checkout, run_script
from eat.commands.labelled_file import add_file, configure_options, configured_from
from eat.errors import EatError, listed

if TYPE_CHECKING:
    from eat.configure.configure import Configured

HELP = "train on a file and recommend a model"
DESCRIPTION = (
    "Train a dense model and its adaptive versions on a file of labelled texts, measure them, and write a folder with "
    "the recommended model for the runner without PyTorch, the report and the summary. The study is a configuration "
    "that Snakemake runs in this project's checkout. A run that was interrupted goes on."
)
INTERRUPTED = "the same command goes on"

FILES = {"README.md", "model", "recommendation.json", "report.html", "study.yaml", "summary.csv"}
"""What the folder holds."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_file(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--name", help="of the study, in config/, data/ and results/; default: the folder's name")
    parser.add_argument("--dry-run", action="store_true", help="show the configuration and the planned jobs")


def run(options: argparse.Namespace) -> None:
    """Configure the study, run it, and write the folder."""
    from eat.configure.options import name_from

    root = require_checkout("train", "study,embedded")
    to = options.to.absolute()
    chosen = configure_options(options, options.name or name_from(to) or "study")
    check_folder(options.to, chosen.name)
    config = root / "config" / f"{chosen.name}.yaml"
    check_name(root, config, chosen.name)
    found = configured_from(chosen, root)
    check_same(config, root, found)
    if options.dry_run:
        print(f"\n{found.text}")
        with tempfile.TemporaryDirectory(prefix="eat-train-") as folder:
            planned = Path(folder) / config.name
            planned.write_text(found.text, encoding="utf-8")
            _workflow(root, planned, to, chosen.cores, "--dry-run")
        return
    if not config.exists():
        _write(config, found.text)
    print(f"study {chosen.name}: {config.relative_to(root)} in {root}", flush=True)
    _workflow(root, config.relative_to(root), to, chosen.cores)


def check_folder(to: Path, name: str) -> None:
    """Refuse a folder with other content than that of an earlier run of the same study."""
    from eat.files import read_json, require_place

    if not to.exists():
        require_place(to)
        return
    if not to.is_dir():
        raise EatError(f"{to}: is a file; give a folder with --to")
    inside = {path.name for path in to.iterdir()}
    if not inside:
        return
    record = to / "recommendation.json"
    if inside - FILES or not record.is_file():
        raise EatError(f"{to}: contains other files than a result of eat train; give another folder with --to")
    study = read_json(record).get("study")
    if study != name:
        raise EatError(f"{to}: holds the result of the study {study!r}, not of {name!r}; give another --to")


def check_name(root: Path, config: Path, name: str) -> None:
    """Refuse a name that another study in the project has."""
    from eat.configure.configure import named

    if others := [file for file in named(root / "config", name) if file.name != config.name]:
        shown = listed(file.relative_to(root) for file in others)
        raise EatError(f"the name {name!r} is that of the study {shown}; give another --name")
    made = [folder for folder in ("data", "results") if (root / folder / name).exists()]
    if made and not config.exists():
        raise EatError(
            f"the name {name!r} is taken: {listed(f'{folder}/{name}' for folder in made)} in {root}, without "
            f"config/{name}.yaml; give another --name, or delete them"
        )


def check_same(config: Path, root: Path, found: Configured) -> None:
    """Refuse a configuration of this name that is not that of this command; threads may differ."""
    from eat.configure.configure import same_but_threads
    from eat.study.loading import load_study

    if config.exists() and not same_but_threads(load_study(config), found.study):
        shown = config.relative_to(root)
        raise EatError(
            f"{shown} in {root} is another study than this command makes (other text, options or an edit); give "
            f"another --name, delete the file, or run: snakemake --cores all --configfile {shown}"
        )


def _write(config: Path, text: str) -> None:
    from eat.files import write_text

    try:
        write_text(config, text)
    except OSError as error:
        raise EatError(f"{config}: cannot be written ({error.strerror})") from None


def _workflow(root: Path, config: Path, to: Path, cores: int, *more: str) -> None:
    """Run the project's workflow. Raises `EatError` if it fails."""
    arguments = [str(config), "--to", str(to), "--cores", str(cores), *more]
    run_script(root, "train_file", arguments, "train", "running the study")
