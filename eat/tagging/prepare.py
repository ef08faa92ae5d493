"""The splits of a task's sentences: train and calibration by a stable hash, dev from its own file."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from eat.errors import EatError
from eat.files import digest, sha256_of, write_json, write_table
from eat.model.tokenizer import load_tokenizer
from eat.study.tagging import TaggingTask
from eat.tagging.conll import Sentence, read_sentences, tags_of
from eat.tagging.sentences import Pieces

SPLITS = ("train", "calibration", "dev")


def sentence_digest(words: Sequence[str]) -> str:
    """The sha256 of a sentence's words, NFKC-normalised and case folded, as 64 hexadecimal digits."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", "\n".join(words)).casefold())
    return hashlib.sha256(folded.encode("utf-8")).hexdigest()


def divided_sentences(name: str, task: TaggingTask) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The splits of a task and its card.

    A split has the columns id, line (of the file), words and tags (lists of equal length; tags are numbers). The
    calibration sentences are the training sentences whose digest, as a number in [0, 1), is below `task.calibration`.
    Duplicates within the training sentences, and those that are also in dev, are dropped; dev is used as it is.
    The card: tags, metric, sentences read and left out, sentences and words of each split, sha256 of files and splits.

    Raises `EatError` as `read_sentences` and `tags_of` do, and if a split is empty.
    """
    source, spans = task.source, task.metric == "span_f1"
    train, dev = (read_sentences(Path(path), source.kind, spans) for path in (source.path, source.dev_path))
    tags = tags_of(train, dev, Path(source.dev_path))
    table, own = _table(train, tags), _table(dev, tags)
    rows = {"read": len(table), "in_dev": int(table["digest"].isin(own["digest"]).sum())}
    table = table[~table["digest"].isin(own["digest"])]
    rows["duplicates"] = int(table.duplicated("digest").sum())
    table = table.drop_duplicates("digest")
    held_out = table["digest"].map(lambda found: int(found[:13], 16) / 16**13) < task.calibration
    most = {"train": task.train_examples, "calibration": task.calibration_examples, "dev": task.dev_examples}
    parts = {"train": table[~held_out], "calibration": table[held_out], "dev": own}
    splits = {split: _ordered(part, most[split]) for split, part in parts.items()}
    for split in SPLITS:
        if splits[split].empty:
            raise EatError(f"tasks.{name}: no sentence falls in {split} ({len(train)} were read); give more sentences")
    return splits, {
        "task": name,
        "tags": tags,
        "metric": task.metric,
        "sentences": rows | {split: len(part) for split, part in splits.items()},
        "words": {split: int(part["words"].map(len).sum()) for split, part in splits.items()},
        "files": {path: sha256_of(path) for path in (source.path, source.dev_path)},
        "sha256": digest({split: part.to_dict("list") for split, part in splits.items()}),
    }


def prepare_sentences(name: str, task: TaggingTask, folder: Path, backbones: Sequence[Path]) -> None:
    """Write `sentences_{train,calibration,dev}.parquet` and `sentences.json` of a task into `folder`.

    backbones: the folders of the backbones, whose tokenizers determine the word pieces of a sentence.
    Raises `EatError` as `divided_sentences` does, and for a sentence of more than `max_length` word pieces.
    """
    splits, card = divided_sentences(name, task)
    for backbone in backbones:
        pieces = Pieces(load_tokenizer(backbone))
        for split, part in splits.items():
            file = task.source.dev_path if split == "dev" else task.source.path
            for line, words in zip(part["line"], part["words"], strict=True):
                length = len(pieces.encode(words).ids)
                if length > task.max_length:
                    raise EatError(
                        f"{file}, line {line}: a sentence of {length} word pieces with [CLS] and [SEP]; max_length is "
                        f"{task.max_length}: divide the sentence, or raise tasks.{name}.max_length up to the model's "
                        "positions"
                    )
    for split, part in splits.items():
        write_table(folder / f"sentences_{split}.parquet", part)
    write_json(folder / "sentences.json", card)


def _table(sentences: Sequence[Sentence], tags: Sequence[str]) -> pd.DataFrame:
    number = {tag: index for index, tag in enumerate(tags)}
    return pd.DataFrame(
        {
            "digest": [sentence_digest(sentence.words) for sentence in sentences],
            "line": [sentence.line for sentence in sentences],
            "words": [list(sentence.words) for sentence in sentences],
            "tags": [[number[tag] for tag in sentence.tags] for sentence in sentences],
        }
    )


def _ordered(table: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """The first `most` sentences in the order of the second half of their digests, with an id each."""
    rows = table.iloc[table["digest"].str[16:].argsort(kind="stable")].head(most or len(table))
    copy = rows.groupby("digest").cumcount()
    ids = rows["digest"].str[:16] + copy.map(lambda number: f"-{number + 1}" if number else "")
    return rows.assign(id=ids)[["id", "line", "words", "tags"]].reset_index(drop=True)
