"""A folder that `from_pretrained` reads and the Hugging Face hub takes, written whole or not at all.

It holds the configuration with the operating point, the weights, the tokenizer and the model card. What is written is
read back, and must answer a text as before, before the folder gets its name.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError

from eat.errors import EatError
from eat.export.card import CARD, model_card
from eat.export.evidence import evidence_of
from eat.export.facts import facts_of, takes_pairs
from eat.export.source import Source
from eat.files import read_json, replacing_folder, require_place, write_json, write_text
from eat.model.batch import PackedBatch
from eat.model.checkpoints import weight_files
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.tokenizer import copy_tokenizer, encode, load_tokenizer

TRIED = "A text that the saved model must answer as the model in memory."


def check_new_folder(to: Path) -> None:
    """Refuse a folder that is there already, unless it is empty: nothing tells an export from a model of the user."""
    if not to.exists():
        require_place(to)
    elif not to.is_dir():
        raise EatError(f"{to}: is a file; give a folder with --to")
    elif any(to.iterdir()):
        raise EatError(f"{to}: is not empty; give a new folder with --to, or delete it")


def write_hub_folder(source: Source, tokenizer_folder: Path, to: Path) -> int:
    """Write the folder, and return the size of its weights in bytes.

    tokenizer_folder: with the tokenizer. The operating point of the source is saved with the model, and the length of
    its texts with the tokenizer, so that `truncation=True` cuts as in training. Raises `EatError` if the model is a
    cascade, or what is read back answers otherwise.
    """
    model = source.model
    if not isinstance(model, EatForSequenceClassification):
        raise EatError(f"{source.name}: a cascade is several models, and transformers loads one; leave --format out")
    model.config.operating_point = source.policy.as_point()
    with replacing_folder(to) as folder:
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:
            raise EatError(f"{to}: the weights cannot be written ({error}); free some space") from None
        copy_tokenizer(tokenizer_folder, folder)
        settings = folder / "tokenizer_config.json"
        write_json(settings, read_json(settings) | {"model_max_length": source.max_length})
        size = sum(file.stat().st_size for file in weight_files(folder))
        pairs = takes_pairs(load_tokenizer(folder), tokenizer_folder, source)
        facts = facts_of(source, "transformers", "float32", pairs)
        write_text(folder / CARD, model_card(facts, size, evidence_of(source, "float32")))
        if not _answers_alike(model, folder, source.max_length):
            raise EatError(f"{to}: the saved model answers otherwise than the given one; nothing was written")
    return size


def _answers_alike(model: EatForSequenceClassification, folder: Path, max_length: int) -> bool:
    """Whether the saved model answers a text as the one in memory does."""
    batch = PackedBatch.of(encode(load_tokenizer(folder), [TRIED], None, max_length))
    saved = load_model(folder)
    with torch.inference_mode():
        expected, found = (each.run(batch, each.policy) for each in (model, saved))
    return found.depth == expected.depth and torch.equal(found.logits, expected.logits)
