"""RoBERTa, XLM-R and ELECTRA: the packed forward pass and the ONNX file answer as transformers does.

Checkpoints are random models of the real classes, saved with `save_pretrained`; logits within 1e-4.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tokenizers import ByteLevelBPETokenizer, SentencePieceUnigramTokenizer, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    ElectraConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)

from eat.engines.onnx import OnnxModel
from eat.engines.packed import PackedModel
from eat.errors import DamagedFile, EatError
from eat.export.folder import export
from eat.export.source import ExportOptions
from eat.export.stock import load_stock
from eat.model.batch import PackedBatch
from eat.model.exit_policy import ExitPolicy
from eat.model.tokenizer import Encoded, encode, load_tokenizer, require_embeddings
from eat.runtime import AdaptiveClassifier

CLOSE = {"atol": 1e-4, "rtol": 1e-5}
LENGTHS = [1, 2, 5, 9, 17, 30, 62]
SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "num_labels": 3, "initializer_range": 0.2,
}  # fmt: skip
FAMILIES = {
    "roberta": RobertaConfig(**SMALL, max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5),
    "xlm-roberta": XLMRobertaConfig(**SMALL, max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5),
    "electra": ElectraConfig(**SMALL, max_position_embeddings=64, embedding_size=16),
    "electra-base": ElectraConfig(**SMALL, max_position_embeddings=64, embedding_size=32),
}
TEXTS = ["a quiet film", "the end of it all, at last; and then some more of the same", "no", "Don't!"]


def saved(folder: Path, family: str, shard: str = "5GB") -> PreTrainedModel:
    """A random classifier, with a tokenizer of its kind trained on a few sentences."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(FAMILIES[family]).eval()
    model.save_pretrained(folder, max_shard_size=shard)
    if family.startswith("electra"):
        tiny.save_tokenizer(folder)
        return model
    if family == "roberta":
        trained: Any = ByteLevelBPETokenizer(add_prefix_space=False)
        trained.train_from_iterator(TEXTS * 20, vocab_size=290, special_tokens=["<s>", "<pad>", "</s>", "<unk>"])
    else:
        trained = SentencePieceUnigramTokenizer()
        trained.train_from_iterator(
            TEXTS * 20, vocab_size=90, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>"
        )
    tokenizer = Tokenizer.from_str(trained._tokenizer.to_str())
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:0 </s>:0", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def inputs_of(texts: list[Encoded], model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Padded as the tokenizer of the model pads."""
    padding = model.config.pad_token_id or 0
    longest = max(len(text.ids) for text in texts)
    ids = torch.full((len(texts), longest), padding)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)], mask[row, : len(text.ids)] = text.ids, 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    stock = saved(tmp_path, family)
    model = load_stock(tmp_path)
    generator = torch.Generator().manual_seed(1)
    # no token of a text is padding, whose number is 0 or 1
    ids = [torch.randint(5, 290, (length,), generator=generator) for length in LENGTHS]
    texts = [Encoded(each, torch.zeros_like(each)) for each in ids]
    with torch.no_grad():
        expected = stock(**inputs_of(texts, stock)).logits
        torch.testing.assert_close(model.encoder(PackedBatch.of(texts)).logits, expected, **CLOSE)
        onnx = OnnxModel(PackedModel(model), "float32").runner(ExitPolicy())(texts)
    torch.testing.assert_close(onnx.logits(), expected, **CLOSE)
    assert model.encoder.shape.positions == 64, "a text of 64 tokens is the longest"


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "electra"])
def test_an_export_answers_texts(family: str, tmp_path: Path) -> None:
    stock = saved(tmp_path / "model", family)
    export(ExportOptions(tmp_path / "model", tmp_path / "out", "float32"))
    answers = AdaptiveClassifier.load(tmp_path / "out")(TEXTS)
    texts = encode(load_tokenizer(tmp_path / "model"), TEXTS, None, 64)
    with torch.no_grad():
        expected = torch.softmax(stock(**inputs_of(texts, stock)).logits, -1)
    found = torch.tensor([list(answer.probabilities.values()) for answer in answers])
    torch.testing.assert_close(found, expected, **CLOSE)


def test_pairs_have_one_segment(tmp_path: Path) -> None:
    saved(tmp_path, "roberta")
    tokenizer, model = load_tokenizer(tmp_path), load_stock(tmp_path)
    require_embeddings(tokenizer, tmp_path, model.encoder.shape, 64, pairs=True)
    [pair] = encode(tokenizer, ["a film"], ["the end"], 64)
    assert pair.types.tolist() == [0] * len(pair.ids)
    assert pair.ids.tolist().count(2) == 3, "<s> a </s></s> b </s>"


def test_weights_in_several_files(tmp_path: Path) -> None:
    saved(tmp_path / "whole", "roberta")
    saved(tmp_path / "parts", "roberta", shard="40KB")
    parts = sorted(path.name for path in (tmp_path / "parts").glob("*.safetensors"))
    assert len(parts) > 1
    [text] = tiny.texts([20])
    with torch.no_grad():
        found, expected = (
            load_stock(tmp_path / name).encoder(PackedBatch.of([text])).logits for name in ("parts", "whole")
        )
    assert torch.equal(found, expected)
    (tmp_path / "parts" / parts[0]).unlink()
    with pytest.raises(DamagedFile, match=f"names {parts[0]}, which is missing; fetch the model again"):
        load_stock(tmp_path / "parts")
    index = tmp_path / "parts" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "../other.safetensors"}}')
    with pytest.raises(DamagedFile, match=r"names \.\./other\.safetensors"):
        load_stock(tmp_path / "parts")
    index.write_text("{")
    with pytest.raises(DamagedFile, match="not a whole index of weights"):
        load_stock(tmp_path / "parts")


def test_a_tokenizer_of_vocabulary_and_merges_is_converted(tmp_path: Path) -> None:
    saved(tmp_path, "roberta")
    whole = load_tokenizer(tmp_path)
    expected = [text.ids.tolist() for text in encode(whole, TEXTS, None, 64)]
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    assert [text.ids.tolist() for text in encode(load_tokenizer(tmp_path), TEXTS, None, 64)] == expected
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(EatError, match=r"tokenizer\.json: no such file, and .* cannot be converted"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["modernbert", "deberta-v2", "gpt2"])
def test_other_architectures_are_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(EatError) as caught:
        load_stock(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: model_type is '{kind}'; allowed: bert, distilbert, roberta, xlm-roberta, electra, eat; take "
        "another checkpoint"
    )
