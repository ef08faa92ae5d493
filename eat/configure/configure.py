"""A study of one task from a file of labelled texts: its configuration, after the file was looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from eat.configure.defaults import defaults_for
from eat.configure.options import ConfigureOptions
from eat.configure.template import configuration
from eat.errors import EatError
from eat.prepare.backbones import MINILM_SIZES
from eat.prepare.preview import Preview, column_lines, preview, require_classes
from eat.prepare.sources.looks import hinting
from eat.prepare.sources.tables import read_rows
from eat.prepare.splits import divided_text
from eat.progress import Progress
from eat.study.backbones import PackagedBackbone
from eat.study.loading import load_study, read_mapping
from eat.study.study import Study
from eat.study.tasks import FileFormat, FileSource
from eat.text_files.form import Form

BACKBONE = PackagedBackbone(kind="packaged", name="all-minilm-l6-v2")


@dataclass(frozen=True)
class Configured:
    """A configuration. text: of the file. preview: of the data."""

    text: str
    study: Study
    preview: Preview


def columns_of(path: Path, form: Form) -> list[str]:
    """The lines that show the columns of a file. Raises `EatError` if it cannot be read."""
    with hinting(path, form):
        return column_lines(read_rows(path, form))


def looked_at(options: ConfigureOptions) -> Preview:
    """The file as the study would use it. Raises `EatError` if it cannot be read, or holds no classes."""
    with Progress(f"reading {options.file}"):
        found = preview(_source(options, str(options.file)), BACKBONE)
    require_classes(found)
    return found


def configured(options: ConfigureOptions, found: Preview, root: Path | None) -> Configured:
    """The configuration of a study on a file, with defaults by its size.

    root: the folder in which the study runs; a file within it gets a relative path. Raises `EatError` if the file has
    too few texts, or a split would have no text of a label.
    """
    if len(found.counts) < 2:
        raise EatError(f"{options.file}: one label; a task needs at least two")
    try:
        chosen = defaults_for(
            found.different, found.lengths, len(found.counts), options.cores, options.seeds, MINILM_SIZES.positions
        )
    except EatError as error:
        raise EatError(f"{options.file}: {error}") from None
    size = f"{found.different:,} different texts, {len(found.counts)} labels"
    text = configuration(options, path_within(options.file, root), size, chosen)
    study = load_study(yaml.safe_load(text))
    (task,) = study.tasks.values()
    # the path may be relative to another folder than this one
    divided_text(options.name, task.model_copy(update={"source": _source(options, str(options.file))}))
    return Configured(text, study, found)


def path_within(file: Path, root: Path | None) -> str:
    """A file's path relative to the folder `root`, if it is in it; otherwise the absolute path."""
    whole = Path(os.path.abspath(file))
    if root is not None and whole.is_relative_to(os.path.abspath(root)):
        return whole.relative_to(os.path.abspath(root)).as_posix()
    return str(whole)


def named(folder: Path, name: str) -> Iterator[Path]:
    """The configurations of a folder whose study has this name."""
    for file in sorted(folder.glob("*.yaml")):
        try:
            if read_mapping(file).get("study") == name:
                yield file
        except EatError:
            continue


def same_but_threads(first: Study, second: Study) -> bool:
    """Whether two studies differ at most in threads, which change no model."""

    def without(study: Study) -> Study:
        return study.model_copy(
            update={
                "training": study.training.model_copy(update={"threads": 1}),
                "timing": study.timing.model_copy(update={"threads": 1}),
            }
        )

    return without(first) == without(second)


def _source(options: ConfigureOptions, path: str) -> FileSource:
    form = {name: getattr(options.form, name) for name in FileFormat.model_fields}
    # a brace in the path is refused when the study is loaded
    return FileSource.model_construct(
        kind="file", path=path, text=list(options.text), label=options.label, labels=None, **form
    )
