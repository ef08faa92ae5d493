"""A head that is not loaded: what made the first rows of the paper's MNLI log, and where each of its ways is caught.

A classifier whose trained head is left out of the file, or not read from it, runs with a random one. It still answers
every text, about as often right as a guess: 38 % of three classes. So no weight may be filled in at random, and what
answers under the clock must be what was traced.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from eat.errors import DamagedFile, EatError
from eat.files import digest, write_json, write_table
from eat.finetune.stage import StageInputs, train_stage
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.timing.clock import time_task
from eat.timing.entries import TimedSystem
from eat.trace.recording import record_trace

LABELS = ["entailment", "neutral", "contradiction"]
WORDS = (tiny.GOOD[:4], tiny.NEUTRAL[:4], tiny.BAD[:4])
STUDY = tiny.study(
    timing={
        "texts": 24, "batch_sizes": [1], "block_texts": 12, "repeats": 1, "warmup": 2, "threads": 1, "deep_layers": None
    }
)  # fmt: skip


def pairs(rows: int) -> pd.DataFrame:
    """Pairs of texts whose label is told by the words of the second."""
    draw = random.Random(3)
    found = []
    for number in range(rows):
        text, label = " ".join(draw.choices(tiny.NEUTRAL[20:], k=2)), number % 3
        hypothesis = " ".join(draw.choices(WORDS[label], k=3))
        found.append({"id": digest(str(number))[:16], "text": text, "text_b": hypothesis, "label": label})
    return pd.DataFrame(found)


@pytest.fixture(scope="module")
def mnli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text of three classes, a dense model that has learnt it, and its trace."""
    folder = tmp_path_factory.mktemp("mnli")
    tiny.backbone(folder / "backbone")
    write_table(folder / "train.parquet", pairs(48))
    write_json(folder / "card.json", {"labels": LABELS})
    spec = STUDY.training_spec("tiny", "dense", "finetune")
    spec = tiny.changed(tiny.changed(spec, "stage", epochs=20), "training", learning_rate=3e-3)
    inputs = StageInputs(spec, folder / "backbone", [folder / "train.parquet"], folder / "card.json", seed=1)
    train_stage(inputs, folder / "model", folder / "checkpoints", "mnli")
    parts = STUDY.parts("dense")
    trace = record_trace([folder / "model"], parts, folder / "train.parquet", LABELS, 32, "mnli")
    trace.write(folder / "trace.parquet")
    assert np.mean(trace.logits[4].argmax(axis=1) == trace.labels) >= 0.95
    return folder


def with_head(mnli: Path, folder: Path, seed: int | None) -> Path:
    """The trained model with another head: none, or one at random."""
    shutil.copytree(mnli / "model", folder)
    tensors = load_file(mnli / "model" / "model.safetensors")
    head = [name for name in tensors if "exit_heads.4." in name]
    assert head
    for name in head:
        if seed is None:
            del tensors[name]
        else:
            tensors[name] = torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(seed))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_file_without_the_head_is_refused_where_transformers_fills_it_in(mnli: Path, tmp_path: Path) -> None:
    folder = with_head(mnli, tmp_path / "model", seed=None)
    EatForSequenceClassification.from_pretrained(folder)  # no error: this is the fault
    with pytest.raises(DamagedFile, match=r"model\.safetensors: lacks exit_heads\.4\.\S+, .*; train again"):
        load_model(folder)
    with pytest.raises(DamagedFile, match="lacks exit_heads"):
        record_trace([folder], STUDY.parts("dense"), mnli / "train.parquet", LABELS, 32, "mnli")


def test_a_random_head_under_the_clock_is_not_what_was_traced(mnli: Path, tmp_path: Path) -> None:
    study = STUDY.model_copy(update={"systems": {"dense": STUDY.systems["dense"]}})
    timed = TimedSystem("dense", 1, [mnli / "model"], mnli / "trace.parquet", {})
    time_task(study, "tiny", [timed], mnli / "train.parquet")
    faulty = replace(timed, models=[with_head(mnli, tmp_path / "model", seed=0)])
    with pytest.raises(
        EatError, match=r"dense, batch 1: \d+ of 24 texts were answered differently in timing and in the"
    ):
        time_task(study, "tiny", [faulty], mnli / "train.parquet")
