"""The classification tasks of GLUE from the Hugging Face hub, at a pinned commit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd

from eat.errors import EatError, listed
from eat.prepare.hub_files import hub_file
from eat.prepare.sources.glue import GLUE, GlueTask, unquoted
from eat.prepare.sources.texts import SourceReader, Texts
from eat.study.tasks import HubSource

if TYPE_CHECKING:
    from datasets import Dataset


class HubReader(SourceReader):
    """Reads a task's training and dev text from the hub, or from its cache."""

    source: HubSource

    @property
    def has_pairs(self) -> bool:
        """As `SourceReader`."""
        return GLUE[self.source.task].has_pairs

    def read(self) -> Texts:
        """As `SourceReader`."""
        from datasets import Dataset
        from datasets.utils.logging import disable_progress_bar

        source, task = self.source, GLUE[self.source.task]
        folder = source.task.removesuffix("-mm")
        names = [f"{folder}/{split}-00000-of-00001.parquet" for split in ("train", f"validation{task.dev}")]
        files = {name: hub_file(source.dataset, name, source.revision, "dataset") for name in names}
        disable_progress_bar()
        with TemporaryDirectory() as cache:  # the files are kept in the hub's cache
            read = [Dataset.from_parquet(str(file), cache_dir=cache) for file in files.values()]
            train, dev = (_as_texts(file, task, data) for file, data in zip(files.values(), read, strict=True))
        unlabelled = sum(len(data) for data in read) - len(train) - len(dev)
        origin = {"kind": "hub", "dataset": source.dataset, "task": source.task, "revision": source.revision}
        return task.texts(train, dev, origin, files, +Counter(unlabelled=unlabelled))


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
