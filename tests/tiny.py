"""Tiny things for tests: models and checkpoints with random weights, a tokenizer, texts, splits.

Hidden size 32, 4 layers, 4 heads. The weights are drawn 15 times as wide as those a model starts training with, so
that texts are answered differently, exits disagree and the norms of tokens differ.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)

from eat.files import digest, write_json, write_table
from eat.model.batch import PackedBatch
from eat.model.configuration import EatConfig
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.tokenizer import Encoded
from eat.study.loading import load_study
from eat.study.specs.finetune import TrainingSpec
from eat.study.study import Study

PAD, UNK, CLS, SEP, MASK = range(5)
GOOD = [f"good{letter}" for letter in "abcdefghij"]
BAD = [f"bad{letter}" for letter in "abcdefghij"]
NEUTRAL = [f"word{number}" for number in range(175)]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *NEUTRAL]
VOCABULARY = len(WORDS)  # 200

UNNAMED = ["LABEL_0", "LABEL_1"]
"""The labels of a random model."""

SHAPE: dict[str, Any] = {
    "vocabulary": VOCABULARY,
    "hidden": 32,
    "layers": 4,
    "heads": 4,
    "intermediate": 64,
    "positions": 64,
    "separator": SEP,
}


def model(
    exits: Sequence[int] = (),
    reducer: dict[str, Any] | None = None,
    attention: dict[str, Any] | None = None,
    read: str = "cls",
    last_head: str = "linear",
    seed: int = 0,
    head: str = "linear",
    **shape: Any,
) -> EatForSequenceClassification:
    """A random model in evaluation mode; `shape` overrides `SHAPE`."""
    torch.manual_seed(seed)
    config = EatConfig({**SHAPE, **shape}, reducer, attention, exits, read, last_head, head=head)
    built = EatForSequenceClassification(config)
    randomise(built, seed)
    built.eval()
    return built


def randomise(module: nn.Module, seed: int) -> None:
    """Draw all weights: matrices from N(0, 0.3^2), biases from N(0, 0.1^2), scales of norms from 1 + N(0, 0.1^2)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(0.0, 0.1 if parameter.dim() == 1 else 0.3, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(1.0)


def texts(lengths: Sequence[int], seed: int = 0, pairs: bool = False) -> list[Encoded]:
    """Random texts of these many tokens, [CLS] first and [SEP] last; of pairs the second half is segment 1."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length in lengths:
        ids = torch.randint(MASK + 1, VOCABULARY, (length,), generator=generator)
        ids[0], ids[-1] = CLS, (SEP if length > 1 else CLS)
        types = (torch.arange(length) >= length // 2).long() if pairs else torch.zeros(length, dtype=torch.int64)
        found.append(Encoded(ids, types))
    return found


def batch(lengths: Sequence[int], seed: int = 0, pairs: bool = False) -> PackedBatch:
    """Random texts, packed."""
    return PackedBatch.of(texts(lengths, seed, pairs))


def padded(encoded: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """Texts as a stock model takes them: `input_ids`, `token_type_ids` and `attention_mask`, int64 (B, T)."""
    pad = nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad([text.ids for text in encoded], batch_first=True, padding_value=PAD),
        "token_type_ids": pad([text.types for text in encoded], batch_first=True),
        "attention_mask": pad([torch.ones_like(text.ids) for text in encoded], batch_first=True),
    }


def tokenizer() -> Tokenizer:
    """A WordPiece tokenizer of whole words, with [CLS] and [SEP] around a text or a pair."""
    built = Tokenizer(WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    built.normalizer = BertNormalizer()
    built.pre_tokenizer = BertPreTokenizer()
    built.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return built


def save_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"model_max_length": SHAPE["positions"]})


@contextmanager
def any_precision() -> Iterator[None]:
    """Let this machine refuse no precision, whatever it has: of tiny models each takes little time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eat.engines.precision._fault", lambda *_: None)
        patch.setattr("eat.engines.setting.training_fault", lambda *_: None)
        yield


def stock(kind: str = "bert", labels: int = 2, seed: int = 0) -> PreTrainedModel:
    """A stock classifier with random weights, in evaluation mode; kind: `bert` or `distilbert`."""
    if kind == "bert":
        config = BertConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=64, num_labels=labels,
        )  # fmt: skip
        built: PreTrainedModel = BertForSequenceClassification(config)
    else:
        config = DistilBertConfig(
            vocab_size=VOCABULARY, dim=32, n_layers=4, n_heads=4, hidden_dim=64, max_position_embeddings=64,
            num_labels=labels,
        )  # fmt: skip
        built = DistilBertForSequenceClassification(config)
    randomise(built, seed)
    return built.eval()


def backbone(folder: Path, kind: str = "bert", labels: int = 2, seed: int = 0) -> PreTrainedModel:
    """Write a stock checkpoint and its tokenizer into `folder`; returns the model."""
    built = stock(kind, labels, seed)
    built.save_pretrained(folder)
    save_tokenizer(folder)
    return built


def table(rows: int, seed: int = 0, pairs: bool = False) -> pd.DataFrame:
    """A split with columns id, text, [text_b], label: of label 1 texts hold a good word, of label 0 a bad one."""
    draw = random.Random(seed)
    found = []
    for number in range(rows):
        label = number % 2
        words = [*draw.choices(NEUTRAL, k=draw.randint(2, 20)), draw.choice(GOOD if label else BAD)]
        draw.shuffle(words)
        text = " ".join(words)
        row = {"id": digest(f"{seed} {number}")[:16], "text": text, "label": label}
        found.append({**row, "text_b": " ".join(draw.choices(NEUTRAL, k=4))} if pairs else row)
    return pd.DataFrame(found)


def split(path: Path, rows: int, seed: int = 0, pairs: bool = False) -> pd.DataFrame:
    """Write a split as Parquet, and `card.json` beside it; returns the table."""
    written = table(rows, seed, pairs)
    write_table(path, written)
    write_json(path.with_name("card.json"), {"task": "tiny", "labels": ["negative", "positive"], "pair": pairs})
    return written


def study(**changes: Any) -> Study:
    """A study of one task and two systems, `dense` (the reference) and `eat`; changes replace its top-level keys."""
    return load_study(
        {
            "study": "tiny",
            "reference": "dense",
            "backbones": {"tiny": {"kind": "folder", "path": "backbone"}},
            "tasks": {
                "tiny": {
                    "source": {"kind": "file", "path": "tiny.csv", "text": ["text"], "label": "label"},
                    "max_length": 32,
                }
            },
            "systems": {
                "dense": {"backbone": "tiny", "last_head": "bert", "recipe": [{"epochs": 2}]},
                "eat": {
                    "backbone": "tiny",
                    "reducer": {"kind": "norm", "after": [1, 3], "ratio": 0.3},
                    "attention": {"kind": "window", "left": 3, "right": 2},
                    "exits": {"after": [2], "rule": ["confidence"], "tau": [0.6, 0.9]},
                    "recipe": [{"epochs": 2, "anneal": {"start_epoch": 0.5, "end_epoch": 1.5}}],
                },
            },
            "training": {"batch_size": 4, "learning_rate": 1e-3},
            **changes,
        }
    )


def changed(spec: TrainingSpec, part: str = "", **changes: Any) -> TrainingSpec:
    """The same specification with some keys of a part, or of itself, replaced and validated again."""
    value = spec.plain()
    (value[part] if part else value).update(changes)
    return TrainingSpec.model_validate(value)
