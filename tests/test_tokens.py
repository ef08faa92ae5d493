"""Tokens: nothing cut but by `max_length`, nothing padded, and the same ids from transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from packages import needs
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from eat.errors import DamagedFile, EatError
from eat.files import read_json, write_json, write_table
from eat.model.tokenizer import copy_tokenizer, encode, encode_split, load_tokenizer, read_split
from eat.prepare.backbones import MINILM, MINILM_FOLDER
from eat.prepare.packages import package_files

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "Hello", "##s", "é"]
CLS, SEP = WORDS.index("[CLS]"), WORDS.index("[SEP]")
A, B = WORDS.index("a"), WORDS.index("b")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cased BERT tokenizer of eleven words whose file cuts at 6 tokens and fills up to 6."""
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    tokenizer.add_special_tokens(WORDS[:5])
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    path = tmp_path / "parent"
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    write_json(path / "config.json", {"model_type": "bert", "max_position_embeddings": 512})
    write_json(
        path / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "max_length": 6, "padding": "max_length", "model_max_length": 10**30},
    )
    return path


@pytest.fixture
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def ids(tokenizer: Tokenizer, text: str, max_length: int = 512) -> list[int]:
    return encode(tokenizer, [text], None, max_length)[0].ids.tolist()


def test_the_limits_in_the_file_are_cleared(tokenizer: Tokenizer) -> None:
    assert ids(tokenizer, "a b " * 10) == [CLS, *[A, B] * 10, SEP]
    assert ids(tokenizer, "a") == [CLS, A, SEP]


def test_an_empty_text_is_two_special_tokens(tokenizer: Tokenizer) -> None:
    first = encode(tokenizer, [""], None, 16)[0]
    assert first.ids.tolist() == [CLS, SEP]
    assert first.types.tolist() == [0, 0]
    assert first.ids.dtype == first.types.dtype == torch.int64


def test_max_length_counts_special_tokens_and_never_cuts_them(tokenizer: Tokenizer) -> None:
    assert ids(tokenizer, "a b " * 10, max_length=8) == [CLS, *[A, B] * 3, SEP]
    assert len(ids(tokenizer, "a b " * 10)) == 22  # the limit of one call is not that of the next


def test_of_a_pair_the_longer_text_is_cut(tokenizer: Tokenizer) -> None:
    pair = encode(tokenizer, ["a " * 20], ["b b"], 10)[0]
    assert pair.ids.tolist() == [CLS, *[A] * 5, SEP, B, B, SEP]
    assert pair.types.tolist() == [0] * 7 + [1] * 3


def test_texts_of_other_lengths_do_not_lengthen_each_other(tokenizer: Tokenizer) -> None:
    encoded = encode(tokenizer, ["a", "a b c", ""], None, 16)
    assert [len(text.ids) for text in encoded] == [3, 5, 2]


def test_a_text_of_100000_words_is_cut(tokenizer: Tokenizer) -> None:
    assert len(ids(tokenizer, "a " * 100_000)) == 512


def test_encode_split_takes_pairs_where_there_are_any(tokenizer: Tokenizer, tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["0" * 16], "text": ["a"], "text_b": ["b"], "label": [1]})
    write_table(tmp_path / "train.parquet", table)
    split = read_split(tmp_path / "train.parquet")
    assert encode_split(tokenizer, split, 16)[0].types.tolist() == [0, 0, 0, 1, 1]
    assert encode_split(tokenizer, split.drop(columns="text_b"), 16)[0].ids.tolist() == [CLS, A, SEP]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ["x", "x"]}, "an id appears twice"),
        ({"text": ["a", None]}, "'text' misses values"),
        ({"label": [0.0, float("nan")]}, "'label' misses values"),
    ],
)
def test_a_damaged_split_is_refused(change: dict[str, list[object]], reason: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["x", "y"], "text": ["a", "b"], "label": [0, 1]} | change)
    write_table(tmp_path / "train.parquet", table)
    with pytest.raises(DamagedFile, match=reason):
        read_split(tmp_path / "train.parquet")


def test_a_missing_a_broken_and_a_foreign_tokenizer_are_refused(folder: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(EatError, match=r"no such file; make one .*AutoTokenizer"):
        load_tokenizer(folder / "nowhere")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(EatError, match="puts 0 special tokens around a text"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0", "trunc', encoding="utf-8")
    with pytest.raises(DamagedFile, match="not a complete tokenizer"):
        load_tokenizer(folder)


# --- beside a model -----------------------------------------------------------------------------------------------


def test_transformers_reads_the_copy_as_we_do(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    copy_tokenizer(folder, tmp_path / "model")
    copy_tokenizer(tmp_path / "model", tmp_path / "next")  # a later stage copies from an earlier one
    theirs = AutoTokenizer.from_pretrained(tmp_path / "next")
    text = "Hello a b é hello Hellos " * 10
    assert theirs(text)["input_ids"] == ids(tokenizer, text)  # cased, which transformers' BertTokenizer is not here
    pair = theirs("a b", "c")
    ours = encode(tokenizer, ["a b"], ["c"], 16)[0]
    assert (pair["input_ids"], pair["token_type_ids"]) == (ours.ids.tolist(), ours.types.tolist())
    assert theirs("a b c a b c a b c", truncation=True, max_length=8)["input_ids"] == ids(
        tokenizer, "a b c a b c a b c", 8
    )
    assert theirs.model_max_length == 512
    assert len(theirs) == len(WORDS)
    assert (theirs.cls_token_id, theirs.sep_token_id, theirs.pad_token_id) == (CLS, SEP, 0)


def test_the_copy_carries_no_length_and_no_code(folder: Path, tmp_path: Path) -> None:
    write_json(
        folder / "tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": "evil.Tokenizer"}, "max_length": 6, "model_max_length": 128},
    )
    copy_tokenizer(folder, tmp_path / "model")
    config = read_json(tmp_path / "model" / "tokenizer_config.json")
    assert config["model_max_length"] == 128
    assert not {"auto_map", "max_length"} & config.keys()
    saved = json.loads((tmp_path / "model" / "tokenizer.json").read_text(encoding="utf-8"))
    assert (saved["truncation"], saved["padding"]) == (None, None)


def test_a_distilbert_has_no_segments(folder: Path, tmp_path: Path) -> None:
    write_json(folder / "config.json", {"model_type": "distilbert"})
    copy_tokenizer(folder, tmp_path / "model")
    names = read_json(tmp_path / "model" / "tokenizer_config.json")["model_input_names"]
    assert names == ["input_ids", "attention_mask"]


@needs(MINILM)
def test_minilm_is_not_cut_at_128(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    parent = next(iter(package_files(MINILM, MINILM_FOLDER + "config.json").values())).parent
    raw = Tokenizer.from_file(str(parent / "tokenizer.json"))
    text = "An unexpectedly naïve film, isn't it? " * 50  # 300 words
    assert len(raw.encode(text).ids) == len(raw.encode("one").ids) == 128  # the trap

    ours = ids(load_tokenizer(parent), text)
    assert len(ours) == 2 + 50 * 10  # an unexpectedly naive film , isn ' t it ?
    copy_tokenizer(parent, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(text, truncation=True)["input_ids"] == ours
    assert theirs("one")["input_ids"] == ids(load_tokenizer(parent), "one")
    assert len(theirs("one")["input_ids"]) == 3
