"""The labelled text of a source, and the base class of what reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd


@dataclass(frozen=True)
class Texts:
    """The labelled text of a source, unfiltered and in its order.

    `table` has the columns `text` (str), `text_b` (str, only if `pair`) and `label` (int64, an index into `labels`).
    A missing text is the empty string. `description` is the origin of the text: kind, name or path, sha256.
    `dev` is the dev text, of the same columns, if the source has a separate one; `table` is then only for training.
    `phrases`: whether parts of a text in `table` are also texts in it. `left_out` counts rows without labelled text, by
    reason. `warnings` describe possible mistakes in the source.
    """

    table: pd.DataFrame
    labels: list[str]
    pair: bool
    description: dict[str, str]
    dev: pd.DataFrame | None = None
    phrases: bool = False
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class SourceReader(ABC):
    """Reads the text of a task; the base class of the readers of all kinds of sources.

    source: the entry of the configuration. glue_dir: the folder of GLUE files, for a task that is read from there.
    is_quick: whether it reads within seconds, so that the check of a study reads the text as well.
    """

    is_quick: ClassVar[bool] = False

    def __init__(self, source: Any, glue_dir: str | None = None) -> None:
        self.source = source
        self.glue_dir = glue_dir

    @property
    def has_pairs(self) -> bool:
        """Whether it contains pairs of texts."""
        return False

    def files(self) -> list[Path]:
        """The user's files that it reads, which can change; files pinned by a digest are not included.

        Raises `EatError` if files of GLUE are missing.
        """
        return []

    @abstractmethod
    def read(self) -> Texts:
        """The labelled text.

        Raises `EatError` if a package, a folder or a file is missing or has other columns and labels than configured,
        and `DamagedFile` if content cannot be parsed or differs from the pinned content.
        """
