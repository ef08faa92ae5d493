"""Reading text from any kind of source; each kind has its own module."""

from __future__ import annotations

from pathlib import Path

from eat.prepare.sources.file import read_file
from eat.prepare.sources.glue import GLUE, glue_files, read_glue_dir
from eat.prepare.sources.hub import read_hub
from eat.prepare.sources.packaged import read_packaged
from eat.prepare.sources.texts import Texts
from eat.study.tasks import FileSource, GlueDirSource, HubSource, Source


def read_source(source: Source, glue_dir: str | None = None) -> Texts:
    """Read the labelled text of a task.

    glue_dir: the folder of GLUE files, for a task that is read from there. Raises `EatError` if a package, a folder
    or a file is missing or has other columns and labels than configured, and `DamagedFile` if content cannot be
    parsed or differs from the pinned content.
    """
    if isinstance(source, FileSource):
        return read_file(source)
    if isinstance(source, GlueDirSource):
        return read_glue_dir(source, glue_dir)
    if isinstance(source, HubSource):
        return read_hub(source)
    return read_packaged(source)


def has_pairs(source: Source) -> bool:
    """Whether a source contains pairs of texts."""
    if isinstance(source, FileSource):
        return len(source.text) == 2
    return isinstance(source, GlueDirSource | HubSource) and len(GLUE[source.task].text) == 2


def source_files(source: Source, glue_dir: str | None = None) -> list[Path]:
    """The user's files that a source reads, which can change; files pinned by a digest are not included.

    Raises `EatError` if files of GLUE are missing.
    """
    if isinstance(source, FileSource):
        return [Path(source.path)]
    return glue_files(source, glue_dir) if isinstance(source, GlueDirSource) else []
