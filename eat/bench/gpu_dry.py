"""Tiny weights and a few texts in the place of a bundle, for the dry run of `eat gpu train`."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import torch

from eat.bench.bundle import TEXT, WEIGHTS
from eat.files import digest, write_json, write_table

SIZES = {"train": 64, "calibration": 200, "dev": 40}
"""The texts of each split; a promise of 2 % at 95 % needs 149 calibration texts."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = tuple(f"word{number}" for number in range(96))
GOOD, BAD = "good", "bad"


def write_dry_inputs(folder: Path) -> None:
    """Write a backbone of six layers of width 32, and splits of texts whose label is that of one of their words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS, GOOD, BAD))}
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    weights = folder / WEIGHTS
    BertModel(config).save_pretrained(weights)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    )
    tokenizer.save(str(weights / "tokenizer.json"))
    write_json(weights / "tokenizer_config.json", {"model_max_length": config.max_position_embeddings})
    draw = random.Random(0)
    for split, count in SIZES.items():
        rows = []
        for number in range(count):
            label = number % 2
            words = [*draw.choices(WORDS, k=draw.randint(2, 24)), GOOD if label else BAD]
            draw.shuffle(words)
            rows.append({"id": digest(f"{split} {number}")[:16], "text": " ".join(words), "label": label})
        write_table(folder / TEXT / f"{split}.parquet", pd.DataFrame(rows))
    write_json(folder / TEXT / "card.json", {"task": "sst2", "labels": ["negative", "positive"], "pair": False})
