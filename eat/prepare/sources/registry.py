"""The sources of text by kind: the class that reads each. The options of a kind are a class of `eat.study.tasks`."""

from __future__ import annotations

from collections.abc import Mapping

from eat.errors import EatError, listed
from eat.prepare.sources.file import FileReader
from eat.prepare.sources.glue import GlueDirReader
from eat.prepare.sources.hub import HubReader
from eat.prepare.sources.packaged import PackagedReader
from eat.prepare.sources.texts import SourceReader
from eat.study.tasks import Source

READERS: Mapping[str, type[SourceReader]] = {
    "packaged": PackagedReader,
    "file": FileReader,
    "glue_dir": GlueDirReader,
    "hub": HubReader,
}
"""Kind -> its reader."""


def reader_of(source: Source, glue_dir: str | None = None) -> SourceReader:
    """The reader of a task's source; see `SourceReader`. Raises `EatError` if its kind has none."""
    if source.kind not in READERS:
        raise EatError(f"source: found the kind {source.kind!r}; allowed: {listed(READERS)}")
    return READERS[source.kind](source, glue_dir)
