"""Where text comes from: a module for each kind of source, and one function that reads them all."""

from __future__ import annotations

from eat.config import FileSource, Source
from eat.sources.file import read_file
from eat.sources.packaged import read_packaged
from eat.sources.texts import Texts

__all__ = ["Texts", "read_source"]


def read_source(source: Source) -> Texts:
    """Read the labelled text of a task.

    Raises `EatError` where the package or the file is missing or its columns and labels are not those asked for, and
    `DamagedFile` where content cannot be parsed or is not the content that was pinned.
    """
    return read_file(source) if isinstance(source, FileSource) else read_packaged(source)
