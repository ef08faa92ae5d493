"""The classification tasks of GLUE from the Hugging Face hub, at a pinned commit."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd

from eat.errors import EatError, listed
from eat.files import digest, sha256_of
from eat.prepare.hub_files import hub_file
from eat.prepare.sources.glue import GLUE, GlueTask, unquoted
from eat.prepare.sources.texts import Texts
from eat.study.tasks import HubSource

if TYPE_CHECKING:
    from datasets import Dataset


def read_hub(source: HubSource) -> Texts:
    """A task's training and dev text from the hub, or from its cache. Raises as `read_source` does."""
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar

    task = GLUE[source.task]
    folder = source.task.removesuffix("-mm")
    names = [f"{folder}/{split}-00000-of-00001.parquet" for split in ("train", f"validation{task.dev}")]
    files = [hub_file(source.dataset, name, source.revision, "dataset") for name in names]
    disable_progress_bar()
    with TemporaryDirectory() as cache:  # the files are kept in the hub's cache
        read = [Dataset.from_parquet(str(file), cache_dir=cache) for file in files]
        tables = [_as_texts(file, task, data) for file, data in zip(files, read, strict=True)]
    unlabelled = sum(len(data) for data in read) - sum(len(table) for table in tables)
    return Texts(
        table=tables[0],
        labels=list(task.labels),
        pair=len(task.text) == 2,
        description={
            "kind": "hub",
            "dataset": source.dataset,
            "task": source.task,
            "revision": source.revision,
            "dev": task.dev_as_found(len(tables[1])),
            "sha256": digest({name: sha256_of(file) for name, file in zip(names, files, strict=True)}),
        },
        dev=tables[1],
        phrases=task.phrases,
        left_out={"unlabelled": unlabelled} if unlabelled else {},
    )


def _as_texts(path: Path, task: GlueTask, data: Dataset) -> pd.DataFrame:
    """The labelled rows of a file as `Texts.table` has them; -1 means that a row has no label."""
    absent = [column for column in (*task.hub_text, "label") if column not in data.column_names]
    if absent:
        raise EatError(f"{path}: no column {listed(absent)}; there are: {listed(data.column_names)}; pin GLUE's commit")
    labels = getattr(data.features["label"], "names", None)
    if labels != list(task.labels):
        raise EatError(f"{path}: its labels are {listed(labels or ['without names'])}, not {listed(task.labels)}")
    rows = data.to_pandas()
    rows = rows[rows["label"] >= 0].reset_index(drop=True)
    table = pd.DataFrame()
    for name, column in zip(("text", "text_b"), task.hub_text, strict=False):
        table[name] = unquoted(rows[column].tolist()) if task.csv_quoted else rows[column].astype("str")
    return table.assign(label=rows["label"].astype("int64"))
