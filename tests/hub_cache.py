"""A cache of the Hugging Face hub, filled here in the layout in which the hub's client keeps it."""

from __future__ import annotations

import shutil
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Value

from eat.prepare.sources.glue import GLUE
from eat.prepare.sources.texts import Texts
from eat.study.backbones import HubBackbone
from eat.study.tasks import HubSource


def snapshot(home: Path, kind: str, repository: str, revision: str) -> Path:
    """The folder of a commit's files."""
    return home / "hub" / f"{kind}s--{repository.replace('/', '--')}" / "snapshots" / revision


def put_task(home: Path, source: HubSource, texts: Texts) -> None:
    """Put a task into the cache, as Parquet files with the names and features of nyu-mll/glue."""
    task = GLUE[source.task]
    folder = snapshot(home, "dataset", source.dataset, source.revision) / source.task.removesuffix("-mm")
    folder.mkdir(parents=True, exist_ok=True)
    features = Features(
        {column: Value("string") for column in task.hub_text}
        | {"label": ClassLabel(names=list(task.labels)), "idx": Value("int32")}
    )
    for split, table in (("train", texts.table), (f"validation{task.dev}", texts.dev)):
        assert table is not None
        columns = {column: table[name] for name, column in zip(("text", "text_b"), task.hub_text, strict=False)}
        rows = {**{name: list(values) for name, values in columns.items()}, "label": table["label"].tolist()}
        rows["idx"] = list(range(len(table)))
        Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def put_model(home: Path, backbone: HubBackbone, folder: Path) -> None:
    """Put the files of a model's folder into the cache."""
    shutil.copytree(folder, snapshot(home, "model", backbone.name, backbone.revision))
