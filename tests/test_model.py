"""The encoder as a Hugging Face model: saved, found by the Auto classes, run by a pipeline.

Tolerance 1e-6 on logits of the same packed rows reached in two ways; exact where the same numbers are computed twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from eat.errors import DamagedFile, EatError
from eat.model.batch import PackedBatch
from eat.model.configuration import EatConfig
from eat.model.exit_policy import ExitPolicy
from eat.model.hugging_face import EatForSequenceClassification, load_model, pack_padded
from eat.model.options import Parts
from eat.model.tokenizer import copy_tokenizer

LENGTHS = [17, 3, 24, 9, 2, 30, 12]
PARTS: dict[str, Any] = {
    "exits": [1, 2, 3],
    "reducer": {"kind": "norm", "after": [1, 3], "ratio": 0.3, "protect": ["cls"]},
    "attention": {"kind": "window", "left": 3, "right": 2},
    "read": "mean",
}
POINT: dict[str, Any] = {"rule": ["confidence"], "tau": 0.8, "temperatures": {1: 0.8, 2: 1.5}}


@pytest.fixture
def adaptive() -> EatForSequenceClassification:
    """A model at an operating point at which its texts leave after different layers."""
    model = tiny.model(**PARTS)
    model.set_operating_point(**POINT)
    return model


def padded(lengths: list[int] = LENGTHS) -> dict[str, torch.Tensor]:
    return tiny.padded(tiny.texts(lengths, pairs=True))


@pytest.mark.parametrize("load", [AutoModelForSequenceClassification, EatForSequenceClassification, load_model])
def test_a_saved_model_answers_as_before_at_its_operating_point(
    adaptive: EatForSequenceClassification, tmp_path: Path, load: Any
):
    adaptive.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = load(tmp_path) if load is load_model else load.from_pretrained(tmp_path)
    assert isinstance(loaded, EatForSequenceClassification)
    assert not loaded.training
    assert loaded.policy == adaptive.policy == ExitPolicy(("confidence",), 0.8, {1: 0.8, 2: 1.5})
    with torch.no_grad():
        before, after = adaptive(**padded()), loaded(**padded())
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.depth, after.depth)
    assert len(set(after.depth.tolist())) > 1
    for name, parameter in adaptive.named_parameters():
        assert torch.equal(parameter, loaded.get_parameter(name))


def test_the_configuration_survives_the_disk(adaptive: EatForSequenceClassification, tmp_path: Path):
    adaptive.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, EatConfig)
    for key in ("shape", "reducer", "attention", "exits", "read", "last_head", "operating_point"):
        assert getattr(config, key) == getattr(adaptive.config, key)
    assert (config.num_labels, config.hidden_size, config.num_hidden_layers) == (2, 32, 4)


def test_padded_equals_packed_at_every_operating_point(adaptive: EatForSequenceClassification):
    encoded = tiny.texts(LENGTHS, pairs=True)
    with torch.no_grad():
        for rule, tau in ((["confidence"], 0.8), ([], None), (["confidence"], 1e-6), (["agreement"], None)):
            adaptive.set_operating_point(rule, tau)
            expected = adaptive.run(PackedBatch.of(encoded), adaptive.policy)
            found = adaptive(**padded())
            torch.testing.assert_close(found.logits, expected.logits, atol=1e-6, rtol=0)
            assert found.depth.tolist() == expected.depth


@pytest.mark.parametrize("side", ["right", "left", "more"])
def test_what_stands_in_padding_and_where_it_stands_changes_nothing(side: str, adaptive: EatForSequenceClassification):
    inputs = padded()
    with torch.no_grad():
        expected = adaptive(**inputs).logits
    live = inputs["attention_mask"].bool()
    inputs["input_ids"][~live] = 77
    inputs["token_type_ids"][~live] = 1
    if side == "left":
        order = torch.argsort(live.long(), dim=1, stable=True)
        inputs = {name: values.gather(1, order) for name, values in inputs.items()}
    if side == "more":
        inputs = {name: torch.nn.functional.pad(values, (0, 20)) for name, values in inputs.items()}
    with torch.no_grad():
        torch.testing.assert_close(adaptive(**inputs).logits, expected, atol=1e-6, rtol=0)


def test_mask_and_segments_may_be_left_out(adaptive: EatForSequenceClassification):
    ids = padded([9, 9])["input_ids"]
    with torch.no_grad():
        short = adaptive(ids)
        long = adaptive(ids, torch.ones_like(ids), torch.zeros_like(ids))
    assert torch.equal(short.logits, long.logits)
    assert short.loss is None


def test_labels_give_the_loss_and_in_training_nobody_leaves(adaptive: EatForSequenceClassification):
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0])
    with torch.no_grad():
        output = adaptive(**padded(), labels=labels)
    expected = -output.logits.log_softmax(-1)[torch.arange(7), labels].mean()
    torch.testing.assert_close(output.loss, expected)
    adaptive.train()
    trained = adaptive(**padded(), labels=labels)
    assert trained.depth.tolist() == [4] * 7
    trained.loss.backward()
    assert adaptive.encoder.embeddings.token.weight.grad is not None


@pytest.mark.parametrize("rows", [[0, 0], [1, 0]])
def test_a_row_without_tokens_is_refused(rows: list[int]):
    mask = torch.tensor([[kept] * 3 for kept in rows])
    with pytest.raises(EatError, match="every row needs at least one token"):
        pack_padded(torch.ones(2, 3, dtype=torch.int64), mask)


@pytest.mark.parametrize(
    "parts", [{"exits": [5]}, {"reducer": {"kind": "norm", "after": [2, 5]}}], ids=["exit", "removal"]
)
def test_layers_that_the_model_has_not_are_refused(parts: dict[str, Any]):
    with pytest.raises(EatError, match="after layer 5 of a model with 4 layers"):
        tiny.model(**parts)


@pytest.mark.parametrize(
    "parts",
    [
        {"reducer": {"kind": "norn", "after": [1]}},
        {"attention": {"kind": "windows", "left": 3, "right": 2}},
        {"read": "maximum"},
        {"last_head": "bertt"},
        {"exits": [0]},
    ],
    ids=lambda parts: next(iter(parts)),
)
def test_parts_that_do_not_exist_are_refused_and_not_read_as_others(parts: dict[str, Any]):
    with pytest.raises(EatError, match=r"; allowed: |after layer 0 of a model with 4 layers") as error:
        tiny.model(**parts)
    assert "\n" not in str(error.value)


# --- operating points ---------------------------------------------------------------------------------------------

BAD_POINTS: list[dict[str, Any]] = [
    {"rule": ["confidense"], "tau": 0.9},
    {"rule": "confidence", "tau": 0.9},
    {"rule": ["confidence"], "tau": 1.5},
    {"rule": ["confidence"], "tau": float("nan")},
    {"rule": ["confidence"], "tau": "0.9"},
    {"rule": ["agreement"], "patience": 0},
    {"rule": ["confidence"]},
    {"rule": [], "temperatures": {"9": 1.5}},
]


@pytest.mark.parametrize("point", BAD_POINTS, ids=str)
def test_a_bad_operating_point_is_refused_and_nothing_is_saved(
    adaptive: EatForSequenceClassification, tmp_path: Path, point: dict[str, Any]
):
    before = dict(adaptive.config.operating_point)
    with pytest.raises(EatError) as error:
        adaptive.set_operating_point(**point)
    assert "\n" not in str(error.value)
    assert adaptive.config.operating_point == before
    adaptive.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["operating_point"] == before


@pytest.mark.parametrize("load", [AutoModelForSequenceClassification.from_pretrained, load_model], ids=["auto", "ours"])
@pytest.mark.parametrize("point", [*BAD_POINTS, {"threshold": 0.9}, ["confidence"], "confidence"], ids=str)
def test_a_bad_operating_point_in_a_file_is_refused_on_loading(
    adaptive: EatForSequenceClassification, tmp_path: Path, point: Any, load: Any
):
    adaptive.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"operating_point": point}))
    with pytest.raises(EatError, match="found ") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_bad_operating_point_in_a_configuration_is_refused_on_use(adaptive: EatForSequenceClassification):
    adaptive.config.operating_point = {"rule": ["confidence"], "tau": 1.5}
    with pytest.raises(EatError, match=r"found 1\.5"):
        adaptive(**padded())


def test_other_parts_run_without_the_operating_point_that_was_saved(
    adaptive: EatForSequenceClassification, tmp_path: Path
):
    adaptive.save_pretrained(tmp_path)
    assert load_model(tmp_path, Parts()).policy == ExitPolicy()


def test_labels_that_are_not_those_of_the_weights(adaptive: EatForSequenceClassification, tmp_path: Path):
    adaptive.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": {"0": "a", "1": "b", "2": "c"}}))
    with pytest.raises(EatError, match=r"names 3 labels .* of a model with 2 classes; name every class$"):
        load_model(tmp_path)


def test_a_pipeline_classifies_text(tmp_path: Path):
    model = tiny.model(**PARTS)
    model.config.id2label, model.config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    model.set_operating_point(**POINT)
    model.save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path / "source")
    copy_tokenizer(tmp_path / "source", tmp_path)
    classify = pipeline("text-classification", model=str(tmp_path), tokenizer=AutoTokenizer.from_pretrained(tmp_path))
    texts = [" ".join(tiny.NEUTRAL[start : start + 3 * start + 1]) for start in range(8)]
    answers = classify(texts, batch_size=4)
    tokenizer = tiny.tokenizer()
    for text, answer in zip(texts, answers, strict=True):
        ids = torch.tensor(tokenizer.encode(text).ids)
        with torch.no_grad():
            logits = model.run(PackedBatch.of([(ids, torch.zeros_like(ids))]), model.policy).logits[0]
        assert answer["label"] == ["bad", "good"][int(logits.argmax())]
        assert answer["score"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)
    assert len({answer["score"] for answer in answers}) > 1


# --- what `load_model` refuses ------------------------------------------------------------------------------------


def test_a_model_folder_that_is_not_whole(adaptive: EatForSequenceClassification, tmp_path: Path):
    adaptive.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # it maps the file into memory

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedFile, match=r"model\.safetensors: not a whole safetensors file"):
        load_model(tmp_path)

    save_file({name: tensor for name, tensor in tensors.items() if "layers.2.up" not in name}, path)
    with pytest.raises(DamagedFile, match=r"lacks layers\.2\.up\.weight, layers\.2\.up\.bias; train again"):
        load_model(tmp_path)

    save_file({**tensors, "encoder.layers.2.up.bias": torch.full((64,), torch.nan)}, path)
    with pytest.raises(DamagedFile, match=r"encoder\.layers\.2\.up\.bias holds NaN"):
        load_model(tmp_path)

    path.unlink()
    torch.save(adaptive.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(DamagedFile, match=r"pytorch_model\.bin is not opened"):
        load_model(tmp_path)

    path.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config)[:-9])
    with pytest.raises(DamagedFile, match=r"config\.json: not a whole JSON file"):
        load_model(tmp_path)


def test_a_stock_checkpoint_is_no_model_of_a_study(tmp_path: Path):
    tiny.backbone(tmp_path)
    with pytest.raises(EatError, match="a bert checkpoint, not a model that a study trained"):
        load_model(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import eat.model; from transformers import AutoConfig, pipeline",
        "import eat.model.layout; from transformers import BertModel, AutoConfig",
        "import eat.model; from transformers import Trainer, AutoConfig",
    ],
)
def test_importing_the_package_registers_the_architecture_in_any_order(imports: str) -> None:
    code = f"{imports}; from transformers import AutoModelForSequenceClassification as Auto; import eat.model as m; "
    code += "print(Auto._model_mapping[type(AutoConfig.for_model('eat'))] is m.EatForSequenceClassification)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_importing_the_package_reads_no_heavy_library() -> None:
    code = "import sys, eat.model; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
