"""The options of a study that is configured from one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eat.errors import EatError
from eat.text_files.form import ORDINARY, Form

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}"
"""The pattern of a study's name."""


@dataclass(frozen=True)
class ConfigureOptions:
    """A file of labelled texts, and what the study on it is called.

    file: CSV, TSV, Parquet or JSONL. text: one text column, or the two of a pair. label: the label column. form: what
    the file looks like. name: of the study. cores: of the machine that runs it. seeds: how many.
    """

    file: Path
    text: Sequence[str]
    label: str
    name: str
    form: Form = field(default=ORDINARY)
    cores: int = 1
    seeds: int = 1

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME, self.name):
            raise EatError(
                f"--name: found {self.name!r}; give up to 60 letters of ASCII, digits, dots, dashes and underscores, "
                "beginning with a letter or digit"
            )
        if len(self.text) > 2:
            raise EatError(f"--text: found {len(self.text)} columns; give one, or the two of a pair")
        if len(set(self.text)) < len(self.text):
            raise EatError(f"--text: found {self.text[0]!r} twice; give the two columns of a pair")
        if self.label in self.text:
            raise EatError(f"--label: found {self.label!r}, which is a text column, too; give the column of the labels")
        for name in ("cores", "seeds"):
            if getattr(self, name) < 1:
                raise EatError(f"--{name}: found {getattr(self, name)}; give a whole number from 1 on")


def name_from(path: Path) -> str:
    """A study's name from that of a file or folder; empty if no character is left."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem if path.suffix else path.name).strip("-_.")[:60]
