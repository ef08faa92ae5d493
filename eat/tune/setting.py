"""What a search is about: what is refused before any work, and how its folder is known again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eat.errors import EatError, listed
from eat.files import digest, read_json, require_place
from eat.prepare.backbones import known_depths
from eat.prepare.sources.registry import reader_of
from eat.prepare.suitability import check_folders, check_lengths
from eat.study.depths import check_depths
from eat.study.loading import load_study, read_mapping
from eat.study.tasks import FileTexts
from eat.tune.options import Budget, TuneOptions
from eat.tune.paths import FILES, SETTING
from eat.tune.rows import TUNED, Base, base_of

STATE = ("-journal", "-wal", "-shm")
"""Endings of files that SQLite keeps beside its own."""


def read_base(
    config: Path, task: str | None, name: str | None, beside: Iterable[str] | None, glue_dir: str | None
) -> Base:
    """The base of a search from a configuration file; paths in it are relative to the current folder.

    glue_dir: overrides the study's. Raises `EatError` if the study cannot be searched, or a file is missing.
    """
    given = read_mapping(config)
    if glue_dir is not None:
        given = given | {"glue_dir": glue_dir}
    study = load_study(given)
    check_depths(study, known_depths(study.backbones))
    check_lengths(study)
    check_folders(study)
    base = base_of(given, task, name, beside)
    options = study.tasks[base.task]
    labelled = reader_of(options.source, study.glue_dir).files()  # raises if files of GLUE are missing
    paths = [*labelled, *(Path(texts.path) for texts in options.unlabelled if isinstance(texts, FileTexts))]
    if missing := [path for path in paths if not path.is_file()]:
        raise EatError(f"tasks.{base.task}: {listed(missing)}: no such file; correct the path in {config}")
    return base


def check_folder(to: Path) -> None:
    """Refuse a folder with other content than that of a search."""
    if not to.exists():
        require_place(to)
        return
    if not to.is_dir():
        raise EatError(f"{to}: is a file; give a folder with --to")
    inside = {path.name for path in to.iterdir() if not path.name.startswith(".")}
    inside = {name for name in inside if not name.endswith(STATE)}
    if inside and (inside - FILES or not (to / SETTING).is_file()):
        raise EatError(f"{to}: contains other files than a search of eat tune; give another folder with --to")


def setting_of(base: Base, options: TuneOptions) -> dict[str, Any]:
    """What a search is about, as JSON values. How many trials, in which batches, is not a part of it."""
    kept = {key: base.given.get(key) for key in ("backbones", "training", "timing", "calibration", "glue_dir")}
    if "trace" in base.given:
        kept["trace"] = base.given["trace"]
    kept |= {
        "task": base.given["tasks"][base.task],
        "systems": {name: base.given["systems"][name] for name in base.kept()},
    }
    return {
        "name": base.name,
        "study": base.study.study,
        "task": base.task,
        "budget": {"kind": options.budget.kind, "limit": options.budget.limit},
        "beside": list(base.beside),
        "configuration": digest(kept),
    }


def check_same(to: Path, setting: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another search."""
    if not (to / SETTING).is_file():
        return
    found = read_json(to / SETTING)
    if other := [key for key in setting if found.get(key) != setting[key]]:
        was = listed(f"{key} {_shown(key, found.get(key))}" for key in other)
        raise EatError(f"{to}: holds another search ({was}); give another folder with --to")


def _shown(key: str, value: Any) -> str:
    if key == "budget" and value is not None:
        return str(Budget(**value))
    return "changed" if key == "configuration" else str(value)


def command_of(config: Path) -> str:
    """The command that runs a configuration."""
    return f"snakemake --cores all --configfile {config}"


def readme(sentence: str, config: Path, budget: Budget, trials: int) -> str:
    """The text of the folder's README."""
    return (
        f"# A search of {trials} trials under {budget}\n\n{sentence}\n\n"
        f"* `best.yaml`: the study with the best row, `{TUNED}`; run it with `{command_of(config)}`\n"
        "* `front.csv`, `front.svg`, `front.pdf`: the points that no other dominates, on calibration texts, with "
        "predicted times\n"
        "* `trials.csv`: every trial at its best threshold\n"
        "* `result.json`: what the clock and dev say of the best row beside others\n"
        "* `trials.yaml`: the study with all trials as rows\n"
        "* `trials.db`: Optuna's storage; `clock.json`: the cost of a text; `search.json`: what is searched\n"
    )
