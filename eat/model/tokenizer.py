"""Text to token ids: [CLS] text [SEP], or [CLS] text [SEP] text_b [SEP], with WordPiece.

A `tokenizer.json` may contain truncation and padding, and the tokenizers library applies them silently: that of
all-MiniLM-L6-v2 truncates and pads every text to 128 tokens. Both are cleared on reading, and `max_length` alone
determines the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from tokenizers import Tokenizer
from torch import Tensor

from eat.errors import DamagedFile, EatError, listed
from eat.files import read_json, read_table, write_json, write_text
from eat.progress import Progress

VOCABULARIES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spm.model")
"""Files from which a tokenizer can be made; byte-level ones also need merges.txt."""

TOGETHER = 2000
"""The number of texts per call of the tokenizer, between which progress is reported."""

if TYPE_CHECKING:
    from eat.model.checkpoints import Sizes
    from eat.model.shape import Shape


class Encoded(NamedTuple):
    """A text, or a pair, as t tokens including [CLS] and [SEP]."""

    ids: Tensor
    """int64 (t,): numbers in the vocabulary; the first is [CLS], the last [SEP]."""
    types: Tensor
    """int64 (t,): the segment, 0 for the first text and 1 for the second."""


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Read `tokenizer.json` of a folder, or convert its vocabulary, without truncation and padding.

    Raises `EatError` if there is neither or it does not put [CLS] and [SEP] around a text, `DamagedFile` if it
    cannot be parsed.
    """
    path = Path(folder) / "tokenizer.json"
    if path.is_file():
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            reason = " ".join(str(error).split())
            raise DamagedFile(f"{path}: not a complete tokenizer ({reason}); copy it again") from None
    else:
        tokenizer = _converted(Path(folder))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if (added := tokenizer.num_special_tokens_to_add(False)) != 2:
        raise EatError(
            f"{path}: puts {added} special tokens around a text, not [CLS] and [SEP]; take one of BERT's kind"
        )
    return tokenizer


def _converted(folder: Path) -> Tokenizer:
    """The tokenizer of a folder that has its vocabulary, and merges or a model of pieces, in other files."""
    path = folder / "tokenizer.json"
    remedy = "make one with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise EatError(f"{path}: no such file; {remedy}")
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = Tokenizer.from_str(found.backend_tokenizer.to_str())
    except Exception as error:  # each class of tokenizers raises its own
        reason = " ".join(str(error).split())[:200]
        raise EatError(f"{path}: no such file, and {listed(VOCABULARIES)} cannot be converted ({reason})") from None
    return tokenizer


def require_embeddings(
    tokenizer: Tokenizer, folder: Path | str, model: Sizes | Shape, max_length: int, pairs: bool
) -> None:
    """Refuse a tokenizer and texts for which a model lacks embeddings.

    folder: of the model, for the message. max_length: the tokens of the longest text. pairs: whether there are pairs
    of texts. Raises `EatError` if a token's number, a segment or a position is beyond the model's table, or
    the tokenizer does not put [CLS], [SEP] and [SEP] around a pair.
    """
    known = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    if known > model.vocabulary:
        raise EatError(
            f"{folder}: the tokenizer has {known} tokens, but the model embeds {model.vocabulary}; take the tokenizer "
            f"it was trained with, or resize the model with transformers: model.resize_token_embeddings({known})"
        )
    if pairs and (added := tokenizer.num_special_tokens_to_add(True)) < 3:
        raise EatError(
            f"{folder}: the tokenizer puts {added} special tokens around a pair of texts, not [CLS], [SEP] and [SEP]; "
            "take one of BERT's kind, or a task of single texts"
        )
    segments = 1 + max(tokenizer.encode("a", "a" if pairs else None).type_ids)
    if 0 < model.token_types < segments:  # a DistilBERT has no segments and gets none
        raise EatError(
            f"{folder}: the tokenizer gives {'a pair of texts' if pairs else 'a text'} {segments} segments, but the "
            f"model embeds {model.token_types} (type_vocab_size); take another backbone"
        )
    if max_length > model.positions:
        raise EatError(f"max_length is {max_length}, but {folder} has {model.positions} positions; lower it")


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], text_pairs: Sequence[str] | None, max_length: int
) -> list[Encoded]:
    """Tokenize texts, or pairs, into at most `max_length` tokens each, including special tokens, without padding.

    Texts that are too long are truncated at the end; of a pair, the longer text first. Special tokens are never
    removed. An empty text gives [CLS] [SEP].
    """
    inputs = list(texts) if text_pairs is None else list(zip(texts, text_pairs, strict=True))
    found: list[Encoded] = []
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    try:
        with Progress("tokenized", len(inputs), "texts") as progress:
            for start in range(0, len(inputs), TOGETHER):
                encodings = tokenizer.encode_batch(inputs[start : start + TOGETHER])
                numbers = [(encoding.ids, encoding.type_ids) for encoding in encodings]
                found += [Encoded(*(torch.tensor(each, dtype=torch.int64) for each in pair)) for pair in numbers]
                progress.advance(len(encodings))
    finally:
        tokenizer.no_truncation()
    return found


def read_split(path: Path | str) -> pd.DataFrame:
    """Read a split that `eat.prepare.splits` wrote: columns id, text, [text_b], label.

    Raises `DamagedFile` if it is missing or incomplete, lacks a column or a value, or contains an id twice.
    """
    table = read_table(path, required=("id", "text", "label"))
    for column in table.columns:
        if table[column].isna().any():
            raise DamagedFile(f"{path}: column {column!r} misses values; delete it and run again")
    if table["id"].duplicated().any():
        raise DamagedFile(f"{path}: an id appears twice; delete it and run again")
    return table.astype({"label": "int64"})


def encode_split(tokenizer: Tokenizer, table: pd.DataFrame, max_length: int) -> list[Encoded]:
    """The rows of a split as tokens, in their order; pairs if there is a column `text_b`. See `encode`."""
    pairs = table["text_b"].tolist() if "text_b" in table.columns else None
    return encode(tokenizer, table["text"].tolist(), pairs, max_length)


# --- the tokenizer beside a model ---------------------------------------------------------------------------------

LENGTH_KEYS = (
    "max_length",
    "pad_to_multiple_of",
    "padding",
    "stride",
    "truncation",
    "truncation_strategy",
)
"""Keys of `tokenizer_config.json` that would truncate or pad text, which `max_length` alone decides here."""

BERT_TOKENS = {
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
}


def copy_tokenizer(from_folder: Path | str, to_folder: Path | str) -> None:
    """Copy `tokenizer.json` and `tokenizer_config.json` of one folder into another, without their length limits.

    Of `to_folder`, `transformers.AutoTokenizer.from_pretrained` makes a tokenizer that gives the ids of `encode`.
    Truncation and padding are cleared in both files. The class is one that reads `tokenizer.json` unchanged: the
    `BertTokenizer` of transformers 5 builds a tokenizer from the vocabulary and loses, for example, the casing.
    `model_max_length` is at most the model's positions, if `config.json` in `from_folder` contains them. Segment ids
    are among the inputs unless the model is a DistilBERT, which has none. Raises as `load_tokenizer` does.
    """
    source, target = Path(from_folder), Path(to_folder)
    tokenizer = load_tokenizer(source)
    write_text(target / "tokenizer.json", tokenizer.to_str(pretty=True))
    write_json(target / "tokenizer_config.json", _tokenizer_config(source, tokenizer))


def _tokenizer_config(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    model = _settings(folder / "config.json")
    # a special token that the vocabulary lacks would be added, with an id that has no embedding
    usual = {key: token for key, token in BERT_TOKENS.items() if tokenizer.token_to_id(token) is not None}
    # older folders have the special tokens in a separate file
    given = usual | _settings(folder / "special_tokens_map.json") | _settings(folder / "tokenizer_config.json")
    dropped = (*LENGTH_KEYS, "auto_map", "name_or_path", "tokenizer_file")
    config = {key: value for key, value in given.items() if key not in dropped}
    segments = [] if model.get("model_type") == "distilbert" else ["token_type_ids"]
    config.setdefault("model_input_names", ["input_ids", *segments, "attention_mask"])
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    lengths = [given.get("model_max_length"), model.get("max_position_embeddings")]
    known = [length for length in lengths if length is not None]
    if known:
        config["model_max_length"] = int(min(known))
    return config


def _settings(path: Path) -> dict[str, Any]:
    settings = read_json(path) if path.is_file() else {}
    if not isinstance(settings, dict):
        raise DamagedFile(f"{path}: holds {type(settings).__name__}, not a mapping of keys; copy it again")
    return settings
