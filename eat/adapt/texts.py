"""The texts of `eat adapt`, divided by a hash of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eat.adapt.options import SHARES, AdaptOptions
from eat.errors import EatError
from eat.files import sha256_of
from eat.prepare.sources.tables import column_of, read_rows, strings
from eat.prepare.splits import number_of, text_digest
from eat.progress import Progress
from eat.text_files.columns import chosen_columns, is_empty


@dataclass(frozen=True)
class DividedTexts:
    """Different texts, and the part of each.

    first, second: the texts, and the second ones of pairs. rows: part -> row numbers, of `SHARES`. digest: of the file.
    dropped: the rows of the file that are empty or repeat a text.
    """

    first: list[str]
    second: list[str] | None
    rows: Mapping[str, npt.NDArray[np.int64]]
    digest: str
    dropped: int


def read_texts(options: AdaptOptions) -> DividedTexts:
    """Read the file, drop empty and repeated texts, and divide the rest.

    The part of a text depends on its words alone. Raises `EatError` if there are too few texts, or as `read_rows`.
    """
    path = options.texts
    with Progress(f"reading {path}"):
        table = read_rows(path, options.form)
        columns = chosen_columns(path, [str(name) for name in table.columns], options.columns)
        cells = [strings(path, column, column_of(path, table, column)) for column in columns]
        numbers: dict[str, float] = {}
        kept: list[tuple[str, ...]] = []
        for row in zip(*cells, strict=True):
            if any(is_empty(text) for text in row):
                continue
            digest = text_digest(*row)
            if digest not in numbers:
                numbers[digest] = number_of(digest)
                kept.append(row)
    if len(kept) < options.texts_needed:
        raise EatError(
            f"{path}: {len(kept)} different texts ({len(table)} rows read); at least {options.texts_needed} are needed "
            f"for a disagreement of {options.disagreement:g} with a confidence of {options.confidence:g}: give more "
            "texts, labels are not needed"
        )
    edges = np.cumsum(list(SHARES.values()))[:-1]
    part_of = np.digitize(list(numbers.values()), edges)
    rows = {part: np.flatnonzero(part_of == place) for place, part in enumerate(SHARES)}
    second = [row[1] for row in kept] if len(columns) == 2 else None
    return DividedTexts([row[0] for row in kept], second, rows, sha256_of(path), len(table) - len(kept))


def picked(values: Sequence[str] | None, rows: npt.NDArray[np.int64]) -> list[str] | None:
    """Some of the texts; `None` if there are none."""
    return None if values is None else [values[row] for row in rows]
