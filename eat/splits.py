"""Text to train, calibration and dev, by a hash of the text itself.

A text's place depends on nothing but its own words: not on its row, its label, or the other texts. So texts can be
added and none moves to another split, a text that stands in two tasks falls on the same side in both (where the parts
are equal), and no seed has to be kept. Texts that differ only in case, width or white space count as one.
"""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd

from eat.config import Splits, Task
from eat.errors import EatError, listed
from eat.files import digest, write_json, write_table
from eat.sources import Texts, read_source

SPLITS = ("train", "calibration", "dev")


def normalise(text: str) -> str:
    """What two texts must share to count as one: NFKC, case folded, every run of white space a single space."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def text_digest(text: str, text_b: str | None = None) -> str:
    """The sha256 of a normalised text, or of a pair in its order, as 64 hexadecimal digits."""
    parts = [normalise(text)] if text_b is None else [normalise(text), normalise(text_b)]
    # a normalised text holds no line break, so ("a", "b c") and ("a b", "c") cannot meet
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()


def split_of(digest: str, parts: Splits) -> str:
    """The split of a text: its digest, read as a number u in [0, 1), falls in dev, calibration or train.

    dev is [0, dev), calibration [dev, dev + calibration), train the rest.
    """
    u = int(digest[:13], 16) / 16**13  # 52 bits: exact in a float, and never 1
    if u < parts.dev:
        return "dev"
    return "calibration" if u < parts.dev + parts.calibration else "train"


def divide(
    texts: pd.DataFrame, parts: Splits, most: dict[str, int | None]
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Divide labelled texts into the three splits.

    `texts` has the columns text, [text_b], label. `most` caps the rows of a split by name; `None` takes all.

    Left out are texts that are empty (of a pair: either one), further copies of a text, and *every* copy of a text
    whose copies bear different labels: nothing tells which is right, and to keep the first would let the order of the
    file decide what is learnt.

    Returns the splits by name, with the columns id, text, [text_b], label, and the counts of rows: read, empty,
    contradicting, duplicates. The rows of a split stand in the order of a second hash, independent of the first, and a
    cap takes the first so many: a sample that is the same in every run and in no order of class.
    """
    columns = [column for column in ("text", "text_b") if column in texts.columns]
    blank = texts[columns].map(lambda text: not text.strip()).any(axis=1)
    rows = {"read": len(texts), "empty": int(blank.sum())}

    kept = texts[~blank]
    digests = [text_digest(*row) for row in kept[columns].itertuples(index=False, name=None)]
    kept = kept.assign(digest=pd.Series(digests, index=kept.index, dtype="str"))
    contradicting = kept.groupby("digest")["label"].transform("nunique") > 1
    rows["contradicting"] = int(contradicting.sum())
    kept = kept[~contradicting]
    repeated = kept.duplicated("digest")
    rows["duplicates"] = int(repeated.sum())
    kept = kept[~repeated]

    kept = kept.assign(
        id=kept["digest"].str[:16],
        order=kept["digest"].str[16:],
        split=[split_of(value, parts) for value in kept["digest"]],
        label=kept["label"].astype("int64"),
    ).sort_values("order")
    return {
        name: kept.loc[kept["split"] == name, ["id", *columns, "label"]]
        .head(most[name] or len(kept))
        .reset_index(drop=True)
        for name in SPLITS
    }, rows


def prepare_text(task_name: str, task: Task, folder: Path) -> dict[str, Any]:
    """Read a task's text, divide it, and write `{train,calibration,dev}.parquet` and `card.json` into `folder`.

    Returns the card: labels, rows read and left out, rows of each split, the source, and a sha256 of all that the
    splits hold, which does not depend on how Parquet was written. Raises `EatError` where the source cannot be read
    (see `read_source`), a split would be empty, or training would not see every label; nothing is written then.
    """
    texts = read_source(task.source)
    most = {
        "train": task.train_examples,
        "calibration": task.calibration_examples,
        "dev": task.dev_examples,
    }
    splits, rows = divide(texts.table, task.splits, most)
    _require_usable(task_name, texts, splits, rows)
    card = {
        "task": task_name,
        "labels": texts.labels,
        "pair": texts.pair,
        "rows": rows,
        "splits": {name: len(table) for name, table in splits.items()},
        "source": texts.description,
        "sha256": digest({name: table.to_dict("list") for name, table in splits.items()}),
    }
    for name, table in splits.items():
        write_table(Path(folder) / f"{name}.parquet", table)
    write_json(Path(folder) / "card.json", card)
    return card


def _require_usable(task_name: str, texts: Texts, splits: dict[str, pd.DataFrame], rows: dict[str, int]) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in rows.items())
    for name, table in splits.items():
        if table.empty:
            raise EatError(
                f"task {task_name!r}: no text falls in {name} (rows: {counts}); give more text or make this part larger"
            )
    seen = set(splits["train"]["label"])
    unseen = [repr(label) for number, label in enumerate(texts.labels) if number not in seen]
    if unseen:
        raise EatError(
            f"task {task_name!r}: no training text has the label {listed(unseen)} (rows: {counts}); "
            "give more text of it, raise train_examples, or take it off `labels`"
        )
