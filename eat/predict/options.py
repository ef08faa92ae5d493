"""The options of `eat predict`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eat.errors import EatError, listed
from eat.text_files.columns import require_columns
from eat.text_files.form import KINDS, ORDINARY, TextForm, is_packed, kind_of

STDIN = "-"

NAMES = ("label", "probability", "depth", "exit_reason")
"""The columns that are added."""

WRITTEN_AS = {"txt": "csv"}
"""Kind of the input -> kind of the output, if it is another: plain text has no columns."""


@dataclass(frozen=True)
class PredictOptions:
    """What is classified, by which model, and where the answers go.

    folder: of an export. source: the file, or `-` for standard input. columns: one text column, or the two of a pair;
    default: `text`, or the only column. to: the file to write; default: standard output. form, format: what the input
    looks like; format is its kind if the ending does not say it. prefix: before the names of the added columns.
    workers: texts that run at the same time; default: one for each core. truncate: whether longer texts are cut; if
    not, they get no answer. strict: whether a text without an answer is refused. tau, max_length: as in
    `AdaptiveClassifier.load`. batch: the rows that are read, answered and written together. resume: whether to go on
    with an interrupted run. overwrite: whether `to` may be there.
    """

    folder: Path
    source: str
    columns: Sequence[str] = ()
    to: Path | None = None
    format: str | None = None
    form: TextForm = ORDINARY
    prefix: str = ""
    workers: int | None = None
    truncate: bool = True
    strict: bool = False
    tau: float | None = None
    max_length: int | None = None
    batch: int = 1000
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_columns(self.columns)
        for name in ("workers", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EatError(f"--{name}: found {value}; give a whole number from 1 on")
        if self.format is not None and self.format not in KINDS:
            raise EatError(f"--format: found {self.format!r}; allowed: {listed(KINDS)}")
        if self.resume and (self.to is None or self.path is None):
            raise EatError("--resume needs a FILE to read, which is not standard input, and --to FILE")
        if self.path is None and self.kind == "parquet":
            raise EatError("--format parquet: standard input is read in one pass; give the name of a file")
        if self.kind == "parquet" and self.to is None:
            raise EatError("Parquet is not printed: give the file to write with --to")
        if self.to is not None:
            self._check_target(self.to)

    @property
    def path(self) -> Path | None:
        """The file to read; `None` for standard input."""
        return None if self.source == STDIN else Path(self.source)

    @property
    def kind(self) -> str:
        """The kind of the input. Raises `EatError` for a file of another kind."""
        if self.format is not None:
            return self.format
        return "csv" if self.path is None else kind_of(self.path)

    @property
    def threads(self) -> int:
        """The texts that run at the same time."""
        from eat.runtime.classifier import usable_cores

        return usable_cores() if self.workers is None else self.workers

    @property
    def added(self) -> tuple[str, ...]:
        """The names of the added columns."""
        return tuple(self.prefix + name for name in NAMES)

    def _check_target(self, to: Path) -> None:
        """Refuse a file that cannot or must not be written."""
        if to.exists() and not to.is_file():
            advice = "give a file" if to.is_dir() else "leave --to out and redirect the output"
            raise EatError(f"--to: {to} is not an ordinary file; {advice}")
        if to.exists() and self.path is not None and self.path.exists() and to.samefile(self.path):
            raise EatError(f"--to: {to} is the file that is read; give another one")
        expected = WRITTEN_AS.get(self.kind, self.kind)
        if (found := _kind_or_none(to)) != expected and not (found is None and self.format is not None):
            packed = "" if expected == "parquet" else f" or .{expected}.gz"
            raise EatError(f"--to: {to} does not end in .{expected}{packed}, in which {self.kind} input is written")
        if to.exists() and not self.overwrite:
            raise EatError(f"--to: {to} exists; give another name, or --overwrite")
        above = next(parent for parent in to.absolute().parents if parent.exists())
        if not above.is_dir():
            raise EatError(f"--to: {above} is a file, not a folder; give another name")
        if not os.access(above, os.W_OK):
            raise EatError(f"--to: {above} is not writable; give another folder")

    @property
    def packs(self) -> bool:
        """Whether the output is compressed by gzip."""
        return self.to is not None and is_packed(self.to)


def _kind_or_none(path: Path) -> str | None:
    try:
        return kind_of(path)
    except EatError:
        return None
