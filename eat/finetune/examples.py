"""The training examples of a stage: texts with labels, teacher logits and saliency, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eat.errors import EatError
from eat.model.hugging_face import load_model
from eat.model.options import Parts
from eat.model.saliency import saliency_of_texts
from eat.model.tokenizer import Encoded
from eat.results.trace import Trace


def add_saliency(examples: list[dict[str, Any]], parent: Path, name: str, device: str) -> None:
    """Add to every training text the saliency of its tokens in the model that the stage starts from."""
    model = load_model(parent, Parts()).to(device)
    texts, labels = [example["text"] for example in examples], [example["label"] for example in examples]
    for example, saliency in zip(examples, saliency_of_texts(model, texts, labels, name), strict=True):
        example["saliency"] = saliency


def teacher_logits(paths: Sequence[Path], ids: list[str]) -> np.ndarray:
    """The teacher's last-exit logits (N, C) in the order of `ids`, from its traces."""
    if not paths:
        raise EatError("this stage distils, but no trace of its teacher was given; pass --teacher")
    traces = [Trace.read(path) for path in paths]
    rows = {text: row for row, text in enumerate(text for trace in traces for text in trace.ids)}
    absent = [text for text in ids if text not in rows]
    if absent:
        given = ", ".join(map(str, paths))
        raise EatError(f"{given}: lacks {len(absent)} of {len(ids)} training texts; trace the teacher again")
    logits = np.concatenate([trace.logits[max(trace.logits)] for trace in traces])
    return logits[[rows[text] for text in ids]]


def training_examples(encoded: list[Encoded], labels: np.ndarray, teacher: np.ndarray | None) -> list[dict[str, Any]]:
    """One dictionary per training text, for the collator."""
    return [
        {
            "text": text,
            "label": int(label),
            "row": row,
            "teacher": None if teacher is None else teacher[row],
            "saliency": None,
        }
        for row, (text, label) in enumerate(zip(encoded, labels, strict=True))
    ]


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """Texts to one packed batch, the shortest first.

    Gives ids, types and saliency (n,), lengths, labels and rows (B,), and teacher (B, C).
    """
    examples = sorted(examples, key=lambda example: len(example["text"].ids))
    texts = [example["text"] for example in examples]
    teacher = [example["teacher"] for example in examples]
    saliency = [example["saliency"] for example in examples]
    return {
        "ids": torch.cat([text.ids for text in texts]),
        "types": torch.cat([text.types for text in texts]),
        "lengths": [len(text.ids) for text in texts],
        "labels": torch.tensor([example["label"] for example in examples]),
        "rows": [example["row"] for example in examples],
        "teacher": None if teacher[0] is None else torch.tensor(np.stack(teacher)),
        "saliency": None if saliency[0] is None else torch.cat(saliency),
    }
