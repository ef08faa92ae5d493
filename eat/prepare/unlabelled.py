"""Texts of a task without labels, from which a student can learn what its teacher answers.

They never contain a text of the task's own splits. Where they come from is the key `unlabelled` of the task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from eat.errors import EatError
from eat.files import digest, sha256_of, write_json, write_table
from eat.prepare.sources.packaged import PackagedReader
from eat.prepare.sources.registry import reader_of
from eat.prepare.sources.tables import column_of, read_rows, strings
from eat.prepare.splits import SPLITS, distinct, ordered, split_texts, text_columns
from eat.progress import Progress
from eat.study.tasks import FileTexts, PackagedSource, PackagedTexts, RestTexts, Task, Unlabelled

NO_LABEL = -1
"""The label of a text without one."""

FEWEST_WORDS = 3
"""Sentences of a longer text with fewer words are dropped: most are exclamations and headings."""

# a small letter after a mark continues the sentence, as after a question within quotation marks
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')]))\s+(?![a-z])|\s*<br\s*/?>\s*|\n+")


def prepare_unlabelled(task_name: str, task: Task, folder: Path, glue_dir: str | None = None) -> dict[str, Any]:
    """Read a task's texts without labels, and write `unlabelled.parquet` and `unlabelled.json` into `folder`.

    The table has the columns id, text, [text_b], label (-1), in the order of the texts' hashes. Texts of the splits are
    left out, also those beyond `calibration_examples` and `dev_examples`. Returns the card: rows read, empty,
    duplicates, in_splits; texts; sources; a sha256 of the content. Raises `EatError` as the readers of labelled text
    do, and if no text is left; nothing is written then.
    """
    with Progress("reading the text", name=task_name):
        texts = reader_of(task.source, glue_dir).read()
    splits, _ = split_texts(texts, task.splits, dict.fromkeys(SPLITS))
    train = splits["train"]
    taken = task.train_examples or len(train)
    columns = text_columns(train)
    tables, sources = [], []
    for source in task.unlabelled:
        with Progress(f"reading the unlabelled texts {source.kind}", name=task_name):
            table, description = _READERS[source.kind](source, train.iloc[taken:][columns])
        _require_pairs(source, table, texts.pair)
        tables.append(table[columns])
        sources.append(description)
    kept, rows = distinct(pd.concat(tables, ignore_index=True).assign(label=NO_LABEL))
    labelled = pd.concat([train.head(taken), splits["calibration"], splits["dev"]])["id"].str[:16]
    inside = kept["id"].isin(labelled)
    found = ordered(kept[~inside], task.unlabelled_examples)
    counts = {name: rows[name] for name in ("read", "empty", "duplicates")} | {"in_splits": int(inside.sum())}
    if found.empty:
        counted = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise EatError(f"task {task_name!r}: no unlabelled text is left ({counted}); name other texts in `unlabelled`")
    card = {"task": task_name, "rows": counts, "texts": len(found), "sources": sources}
    card["sha256"] = digest({str(name): list(values) for name, values in found.items()})
    write_table(Path(folder) / "unlabelled.parquet", found)
    write_json(Path(folder) / "unlabelled.json", card)
    return card


def unlabelled_files(source: Unlabelled) -> list[Path]:
    """The user's files that a source reads."""
    return [Path(source.path)] if isinstance(source, FileTexts) else []


def _rest(_: RestTexts, rest: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    return rest, {"kind": "rest"}


def _packaged(source: PackagedTexts, _: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    texts = PackagedReader(PackagedSource(kind="packaged", name=source.name)).read()
    table = texts.table[["text"]]
    if source.unit == "sentence":
        table = pd.DataFrame({"text": [one for text in table["text"] for one in sentences(text)]}, dtype="str")
    return table, {**texts.description, "unit": source.unit}


def _file(source: FileTexts, _: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    path = Path(source.path)
    rows = read_rows(path, source)
    table = pd.DataFrame()
    for name, column in zip(("text", "text_b"), source.text, strict=False):
        table[name] = strings(path, column, column_of(path, rows, column))
    return table, {"kind": "file", "path": source.path, "sha256": sha256_of(path)}


_READERS: Mapping[str, Callable[[Any, pd.DataFrame], tuple[pd.DataFrame, dict[str, str]]]] = {
    "rest": _rest,
    "packaged": _packaged,
    "file": _file,
}


def sentences(text: str) -> list[str]:
    """The sentences of a text with at least `FEWEST_WORDS` words."""
    parts = (part.strip() for part in _SENTENCE_END.split(text))
    return [part for part in parts if len(part.split()) >= FEWEST_WORDS]


def _require_pairs(source: Unlabelled, table: pd.DataFrame, pair: bool) -> None:
    """Raise `EatError` if a source has single texts and the task pairs, or the other way round."""
    if ("text_b" in table.columns) != pair:
        raise EatError(
            f"unlabelled: the source {source.kind} has {'pairs' if not pair else 'single texts'}, and the task "
            f"{'pairs' if pair else 'single texts'}; give texts like those of the task"
        )
