"""Splitting text into train, calibration and dev by a hash of the text.

The split of a text depends only on its words: not on its row, its label, or other texts. So adding texts moves no other
text to another split, a text in two tasks is in the same split of both (if the shares are equal), and no seed is
needed. Texts that differ only in case, width or white space count as one. If a source has its own dev text, it is used
unchanged, and calibration is held out of the rest.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from eat.errors import EatError, listed
from eat.files import digest, write_json, write_table
from eat.prepare.sources.registry import reader_of
from eat.prepare.sources.texts import Texts
from eat.progress import Progress, counted, warn
from eat.study.tasks import Splits, Task
from eat.text_files.columns import is_empty

SPLITS = ("train", "calibration", "dev")

FEWEST = 10
"""The fewest texts of a class in a split without a warning; with fewer, measurements of the class are unreliable."""


def normalise(text: str) -> str:
    """Normalise a text to find duplicates: NFKC, case folded, every run of white space a single space."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def text_digest(text: str, text_b: str | None = None) -> str:
    """The sha256 of a normalised text, or of a pair in its order, as 64 hexadecimal digits."""
    parts = [normalise(text)] if text_b is None else [normalise(text), normalise(text_b)]
    # a normalised text has no line break, so ("a", "b c") and ("a b", "c") have different digests
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()


def split_of(digest: str, parts: Splits) -> str:
    """The split of a text, from its digest as a number u in [0, 1).

    dev is [0, dev), calibration [dev, dev + calibration), train the rest.
    """
    u = number_of(digest)
    if u < parts.dev:
        return "dev"
    return "calibration" if u < parts.dev + parts.calibration else "train"


def number_of(digest: str) -> float:
    """The first digits of a digest as a number in [0, 1)."""
    return int(digest[:13], 16) / 16**13  # 52 bits: exact in a float, and never 1


Caps = Mapping[str, int | None]
"""The most rows of each split; `None` takes all."""


def divide(texts: pd.DataFrame, parts: Splits, most: Caps) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Divide labelled texts into the three splits.

    `texts` has the columns text, [text_b], label.

    Empty texts (of a pair: either one) and duplicates of a text are dropped, and *all* copies of a text if their labels
    differ: it is unknown which is correct, and with the first one the training would depend on the order of the file.

    Returns the splits by name, with the columns id, text, [text_b], label, and the counts of rows: read, empty,
    contradicting, duplicates. The rows of a split are in the order of a second, independent hash, and a cap keeps
    the first ones: a sample that is the same in every run and independent of the classes.
    """
    kept, rows = distinct(texts)
    split = kept["digest"].map(lambda digest: split_of(digest, parts))
    return {name: ordered(kept[split == name], most[name]) for name in SPLITS}, rows


def hold_out(texts: Texts, parts: Splits, most: Caps) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """The three splits of a source with dev text: calibration is held out of the training text.

    The dev text is used completely, including duplicates, whose ids get a number. The training text is treated as in
    `divide`; texts that are also in dev are dropped.

    With `texts.phrases`, calibration texts are drawn from those that are not part of another, and a training text that
    is part of a calibration text is dropped. Otherwise thresholds would be chosen on fragments of the training text,
    half as long as the sentences of dev.

    Returns what `divide` does; the counts are of training rows, with in_dev and in_calibration among them.
    """
    assert texts.dev is not None
    kept, rows = distinct(texts.table)
    dev = _with_digests(texts.dev)
    in_dev = kept["digest"].isin(dev["digest"])
    kept = kept[~in_dev]
    rows["in_dev"] = int(in_dev.sum())

    held_out = kept["digest"].map(number_of) < parts.calibration
    left = ~held_out
    if texts.phrases:
        words = kept["text"].map(normalise).tolist()
        held_out &= ~pd.Series(parts_of(words, words), index=kept.index)
        within = parts_of(words, [text for text, held in zip(words, held_out, strict=True) if held])
        left = ~held_out & ~pd.Series(within, index=kept.index)
        rows["in_calibration"] = int((~held_out & ~left).sum())
    copy = dev.groupby("digest").cumcount()
    dev["id"] = dev["digest"].str[:16] + copy.map(lambda number: f"-{number + 1}" if number else "")
    return {
        "train": ordered(kept[left], most["train"]),
        "calibration": ordered(kept[held_out], most["calibration"]),
        "dev": ordered(dev, most["dev"]),
    }, rows


def split_texts(texts: Texts, parts: Splits, most: Caps) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """The splits of a source, with or without dev text of its own; see `divide` and `hold_out`."""
    return divide(texts.table, parts, most) if texts.dev is None else hold_out(texts, parts, most)


def parts_of(texts: Sequence[str], wholes: Sequence[str]) -> list[bool]:
    """Whether each text is a part of one of `wholes`: its words occur there consecutively, with other words around.

    Words are separated by spaces.
    """
    holders: dict[str, list[str]] = defaultdict(list)
    for whole in wholes:
        for word in set(whole.split(" ")):
            holders[word].append(f" {whole} ")

    def is_part(text: str) -> bool:
        rarest = min((holders.get(word, []) for word in text.split(" ")), key=len)
        padded = f" {text} "
        return any(padded in whole and len(padded) < len(whole) for whole in rarest)

    return [is_part(text) for text in counted("looked for parts of others in", texts, "texts")]


def distinct(texts: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The usable rows, with a digest, an id and a position in the order, and the counts of the others."""
    blank = texts[text_columns(texts)].map(is_empty).any(axis=1)
    rows = {"read": len(texts), "empty": int(blank.sum())}
    kept = _with_digests(texts[~blank])
    contradicting = kept.groupby("digest")["label"].transform("nunique") > 1
    rows["contradicting"] = int(contradicting.sum())
    kept = kept[~contradicting]
    repeated = kept.duplicated("digest")
    rows["duplicates"] = int(repeated.sum())
    return kept[~repeated].copy(), rows


def text_columns(texts: pd.DataFrame) -> list[str]:
    """The columns of the text: one, or two for pairs."""
    return [column for column in ("text", "text_b") if column in texts.columns]


def _with_digests(texts: pd.DataFrame) -> pd.DataFrame:
    rows = list(texts[text_columns(texts)].itertuples(index=False, name=None))
    digests = [text_digest(*row) for row in counted("hashed", rows, "texts")]
    series = pd.Series(digests, index=texts.index, dtype="str")
    return texts.assign(digest=series, id=series.str[:16], label=texts["label"].astype("int64"))


def ordered(texts: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """The first `most` texts in the order of the second half of their digests."""
    order = texts["digest"].str[16:]
    rows = texts.iloc[order.argsort(kind="stable")].head(most or len(texts))
    return rows[["id", *text_columns(rows), "label"]].reset_index(drop=True)


def prepare_text(task_name: str, task: Task, folder: Path, glue_dir: str | None = None) -> dict[str, Any]:
    """Read a task's text, divide it, and write `{train,calibration,dev}.parquet` and `card.json` into `folder`.

    Returns the card. Raises as `divided_text` does; nothing is written then.
    """
    splits, card = divided_text(task_name, task, glue_dir)
    for name, table in splits.items():
        write_table(Path(folder) / f"{name}.parquet", table)
    write_json(Path(folder) / "card.json", card)
    return card


def divided_text(
    task_name: str, task: Task, glue_dir: str | None = None
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The splits of a task by name, and its card, with every warning printed as well.

    glue_dir: see `SourceReader`. The card: labels, rows read and left out, rows of each split and of each label in it,
    the source, warnings, and a sha256 of the content of the splits, independent of the Parquet encoding.
    Raises `EatError` if the source cannot be read (see `SourceReader`), or a split lacks texts of a label.
    """
    with Progress("reading the text"):
        texts = reader_of(task.source, glue_dir).read()
    for line in texts.warnings:
        warn(line)  # now, since an error with the same cause may follow
    most = {"train": task.train_examples, "calibration": task.calibration_examples, "dev": task.dev_examples}
    splits, rows = split_texts(texts, task.splits, most)
    rows |= texts.left_out
    counts = {
        name: [int((table["label"] == number).sum()) for number in range(len(texts.labels))]
        for name, table in splits.items()
    }
    few = _few_of_a_label(task_name, task, texts, rows, counts)
    for line in few:
        warn(line)
    return splits, {
        "task": task_name,
        "labels": texts.labels,
        "pair": texts.pair,
        "rows": rows,
        "splits": {name: len(table) for name, table in splits.items()},
        "classes": counts,
        "source": texts.description,
        "warnings": [*texts.warnings, *few],
        "sha256": digest({name: table.to_dict("list") for name, table in splits.items()}),
    }


def _few_of_a_label(
    task_name: str, task: Task, texts: Texts, rows: Mapping[str, int], counts: Mapping[str, Sequence[int]]
) -> list[str]:
    """A warning if a split has fewer than `FEWEST` texts of a label. Raises `EatError` if it has none.

    counts: split -> its texts of each label.
    """
    read = ", ".join(f"{count} {name}" for name, count in rows.items())
    for name in SPLITS:
        if not any(counts[name]):
            raise EatError(
                f"task {task_name!r}: no text falls in {name} (rows: {read}); give more text or make this part larger"
            )

    def labels_below(below: int) -> tuple[str, str]:
        """The labels with fewer texts than `below` in a split, with their counts, and the remedy."""
        splits = [name for name in SPLITS if min(counts[name]) < below]
        numbers = [
            number for number in range(len(texts.labels)) if any(counts[name][number] < below for name in splits)
        ]
        shown = [
            f"{texts.labels[number][:40]!r}: " + ", ".join(f"{counts[name][number]} {name}" for name in SPLITS)
            for number in numbers[:5]
        ]
        more = f"; and {len(numbers) - 5} more labels" if len(numbers) > 5 else ""
        keys = [key for name in splits if (key := _key_of_size(name, task, texts, sum(counts[name])))]
        return "; ".join(shown) + more, "give more text of it" + (f", or raise {listed(keys)}" if keys else "")

    found, remedy = labels_below(1)
    if found:
        raise EatError(
            f"task {task_name!r}: a split has no text of a label ({found}; rows: {read}); {remedy}, or leave the label "
            "out"
        )
    found, remedy = labels_below(FEWEST)
    if found:
        return [f"task {task_name!r}: fewer than {FEWEST} texts of a label in a split ({found}); {remedy}"]
    return []


def _key_of_size(split: str, task: Task, texts: Texts, size: int) -> str:
    """The key that makes a split larger; empty if only more text helps."""
    if getattr(task, f"{split}_examples") == size:
        return f"{split}_examples"
    given = split == "train" or (split == "dev" and texts.dev is not None)
    return "" if given else f"splits.{split}"
