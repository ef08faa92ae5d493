"""What users of a stock Hugging Face classifier do with a model: train, evaluate, load and change it as they would one.

Where a stock model has an answer, `BertForSequenceClassification` of the same size is asked the same. Tolerance 1e-6 on
weights after a step and 1e-5 on logits of other batches, which are the same sums in another order; exact where the same
numbers are computed twice.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    pipeline,
)

from eat.errors import EatError
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.model.tokenizer import copy_tokenizer

PARTS: dict[str, Any] = {"exits": [1, 2, 3], "reducer": {"kind": "norm", "after": [1, 3], "ratio": 0.3}}
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0}
LENGTHS = [17, 3, 24, 9, 2, 30, 12, 8]
LABELS = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1])


@pytest.fixture
def adaptive() -> EatForSequenceClassification:
    """A model at an operating point at which its texts leave after different layers."""
    model = tiny.model(**PARTS)
    model.set_operating_point(["confidence"], 0.8, {1: 0.8})
    return model


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    tiny.save_tokenizer(tmp_path / "source")
    copy_tokenizer(tmp_path / "source", tmp_path / "tokenizer")
    return AutoTokenizer.from_pretrained(tmp_path / "tokenizer")


def rows(lengths: list[int] = LENGTHS) -> list[dict[str, Any]]:
    """A data set as `Trainer` takes it."""
    return [
        {"input_ids": text.ids.tolist(), "token_type_ids": text.types.tolist(), "labels": int(label)}
        for text, label in zip(tiny.texts(lengths), LABELS, strict=False)
    ]


def trainer(model: PreTrainedModel, folder: Path, tokenizer: Any, **options: Any) -> Trainer:
    """The stock trainer: one plain step a batch, texts in their order."""
    compute_metrics = options.pop("compute_metrics", None)
    data = options.pop("data", rows())
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 3,
        "num_train_epochs": 1,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(**{**arguments, **options}),
        train_dataset=data,
        eval_dataset=rows(),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
    )


def accuracy(prediction: Any) -> dict[str, float]:
    """The metric as every tutorial has it."""
    return {"accuracy": float(np.mean(np.argmax(prediction.predictions, axis=-1) == prediction.label_ids))}


# --- the stock trainer --------------------------------------------------------------------------------------------


def test_metrics_of_an_evaluation_see_the_logits_alone(
    adaptive: EatForSequenceClassification, tmp_path: Path, tokenizer: Any
):
    used = trainer(adaptive, tmp_path, tokenizer, compute_metrics=accuracy)
    found = used.evaluate()
    inputs = tiny.padded(tiny.texts(LENGTHS))
    with torch.no_grad():
        output = adaptive(**inputs, labels=LABELS)
    assert len(set(output.depth.tolist())) > 1
    assert found["eval_accuracy"] == (output.logits.argmax(-1) == LABELS).float().mean()
    assert found["eval_loss"] == pytest.approx(output.loss.item(), abs=1e-5)  # of batches of 3, 3 and 2
    predicted = used.predict(rows())
    torch.testing.assert_close(torch.tensor(predicted.predictions), output.logits, atol=1e-5, rtol=0)
    assert predicted.metrics["test_accuracy"] == found["eval_accuracy"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [4, 8, 7, 3], ids=lambda count: f"{count} texts")
def test_accumulated_gradients_are_those_of_one_large_batch(
    count: int, smoothing: float, tmp_path: Path, tokenizer: Any
):
    """Two batches of 2 make the same step as one of 4, and the last of fewer texts too."""
    weights: list[dict[str, Tensor]] = []
    losses: list[list[float]] = []
    for size, accumulated in ((4, 1), (2, 2)):
        used = trainer(
            tiny.model(**PARTS, **NO_DROPOUT),
            tmp_path,
            tokenizer,
            data=rows()[:count],
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            label_smoothing_factor=smoothing,
        )
        used.train()
        weights.append(dict(used.model.state_dict()))
        losses.append([line["loss"] for line in used.state.log_history if "loss" in line])
    assert len(losses[0]) == -(-count // 4)
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)  # the log rounds
    start = tiny.model(**PARTS, **NO_DROPOUT).state_dict()
    assert any(not torch.equal(weights[0][name], start[name]) for name in start)
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, atol=1e-6, rtol=0)


def test_a_trainer_s_checkpoint_is_a_model_and_can_be_resumed(tmp_path: Path, tokenizer: Any):
    options = {"save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 2}
    whole = trainer(tiny.model(**PARTS, **NO_DROPOUT), tmp_path / "run", tokenizer, **options)
    whole.train()
    resumed = trainer(tiny.model(**PARTS, **NO_DROPOUT, seed=9), tmp_path / "run", tokenizer, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    loaded = load_model(tmp_path / "run" / "checkpoint-4")
    for name, expected in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], expected)
        assert torch.equal(loaded.state_dict()[name], expected)


# --- what it takes and gives --------------------------------------------------------------------------------------


def inputs() -> dict[str, Tensor]:
    return tiny.padded(tiny.texts(LENGTHS, pairs=True))


@pytest.mark.parametrize(
    "change",
    [
        {"attention_mask": torch.bool},
        {"attention_mask": torch.float32},
        {"input_ids": torch.int32, "token_type_ids": torch.int32, "attention_mask": torch.int32},
    ],
    ids=["mask of bool", "mask of float", "int32"],
)
def test_any_type_of_number_gives_the_same(adaptive: EatForSequenceClassification, change: dict[str, torch.dtype]):
    with torch.no_grad():
        expected = adaptive(**inputs()).logits
        given = {name: tensor.to(change.get(name, tensor.dtype)) for name, tensor in inputs().items()}
        assert torch.equal(adaptive(**given).logits, expected)


@pytest.mark.parametrize("labels", [LABELS.int(), LABELS.bool(), LABELS[:, None]], ids=["int32", "bool", "a column"])
def test_labels_of_any_type_of_number(adaptive: EatForSequenceClassification, labels: Tensor):
    with torch.no_grad():
        expected = adaptive(**inputs(), labels=LABELS).loss
        assert torch.equal(adaptive(**inputs(), labels=labels).loss, expected)


@pytest.mark.parametrize(
    "labels", [LABELS.float(), torch.eye(2)[LABELS], LABELS[:5]], ids=["float", "one a class", "too few"]
)
def test_labels_that_are_not_a_class_a_text_are_refused(adaptive: EatForSequenceClassification, labels: Tensor):
    with pytest.raises(EatError, match=r"^labels: found .*; give one class per text, int64 \(8,\)"):
        adaptive(**inputs(), labels=labels)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_tuple_is_given_where_one_is_asked_for(adaptive: EatForSequenceClassification, training: bool):
    adaptive = tiny.model(**PARTS, **NO_DROPOUT).train(training)
    output = adaptive(**inputs(), labels=LABELS)
    for found in (adaptive(**inputs(), labels=LABELS, return_dict=False), output.to_tuple()):
        assert [tensor.shape for tensor in found] == [(), (8, 2), (8,)]
        assert torch.equal(found[1], output.logits)
    assert len(adaptive(**inputs(), return_dict=False)) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"inputs_embeds": torch.zeros(8, 30, 32)},
        {"position_ids": torch.arange(30)[None]},
        {"output_hidden_states": True},
        {"token_type_id": torch.zeros(8, 30)},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_it_cannot_do_is_refused_and_not_passed_over(
    adaptive: EatForSequenceClassification, given: dict[str, Any]
):
    with pytest.raises(EatError, match=f"^found {next(iter(given))}; the model takes input_ids, attention_mask,"):
        adaptive(**inputs(), **given)
    asked_for_nothing = {name: False if value is True else None for name, value in given.items()}
    assert torch.equal(adaptive(**inputs(), **asked_for_nothing).logits, adaptive(**inputs()).logits)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input_ids": torch.tensor([[2, 200, 3]])}, "found the token 200, but the model embeds 0 to 199; use"),
        ({"input_ids": torch.tensor([[2, -100, 3]])}, "found the token -100, but"),
        (
            {"input_ids": torch.tensor([[2, 9, 3]]), "token_type_ids": torch.tensor([[0, 2, 0]])},
            "found the segment 2, but the model embeds 0 to 1; use",
        ),
        ({"input_ids": torch.full((1, 65), 9)}, "a text of 65 tokens, but the model has 64 positions"),
        ({"input_ids": torch.tensor([2, 9, 3])}, r"found the shapes \(3,\), \(3,\); give each \(texts, tokens\)"),
        (
            {"input_ids": torch.tensor([[2, 9, 3]]), "attention_mask": torch.ones(1, 1, 1, 3)},
            r"found the shapes \(1, 3\), \(1, 1, 1, 3\), \(1, 3\); give",
        ),
        ({"input_ids": torch.zeros(0, 5, dtype=torch.int64)}, "a batch of 0 rows"),
        ({"input_ids": torch.zeros(2, 0, dtype=torch.int64)}, "a batch of 2 rows with 0, 0 tokens"),
    ],
    ids=["token", "negative", "segment", "position", "one text", "mask", "no rows", "no tokens"],
)
def test_a_batch_that_has_no_answer_is_refused_in_one_line(
    adaptive: EatForSequenceClassification, given: dict[str, Tensor], message: str
):
    with pytest.raises(EatError, match=message) as error:
        adaptive(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_place_and_on_loading(
    adaptive: EatForSequenceClassification, tmp_path: Path, dtype: torch.dtype
):
    adaptive.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=dtype)
    half = copy.deepcopy(adaptive).to(dtype)
    assert loaded.dtype == half.dtype == dtype
    assert adaptive.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(loaded(**inputs()).logits, half(**inputs()).logits)
        assert torch.isfinite(half(**inputs()).logits).all()


def test_a_pipeline_s_options(adaptive: EatForSequenceClassification, tmp_path: Path, tokenizer: Any):
    classify = pipeline("text-classification", model=adaptive, tokenizer=tokenizer)
    texts = ["word1 word2", "word3", "", " ".join(tiny.NEUTRAL)]
    answers = classify(texts, batch_size=3, top_k=None, truncation=True)
    assert [len(answer) for answer in answers] == [2] * 4
    for text, answer in zip(texts, answers, strict=True):
        alone = classify(text, top_k=1, truncation=True)[0]
        assert alone["score"] == pytest.approx(answer[0]["score"], abs=1e-5)
    assert classify({"text": "word1", "text_pair": "word2"})["label"] in ("LABEL_0", "LABEL_1")
    with pytest.raises(EatError, match="positions"):
        classify(texts[3])


# --- other classes, other tokens, several files -------------------------------------------------------------------


@pytest.fixture(params=["ours", "stock"])
def saved(request: pytest.FixtureRequest, tmp_path: Path, adaptive: EatForSequenceClassification) -> Path:
    """A saved model of two classes: ours, and a stock one, which must behave alike."""
    (adaptive if request.param == "ours" else tiny.stock()).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


THREE: dict[str, Any] = {"id2label": {0: "no", 1: "maybe", 2: "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}}


@pytest.mark.parametrize("asked", [{"num_labels": 3}, THREE], ids=["num_labels", "id2label"])
def test_another_number_of_classes_is_refused_or_gives_new_heads(saved: Path, tmp_path: Path, asked: dict[str, Any]):
    load = AutoModelForSequenceClassification.from_pretrained
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        load(saved, **asked)
    model = load(saved, **asked, ignore_mismatched_sizes=True)
    model.save_pretrained(tmp_path / "again")
    again = load(tmp_path / "again")
    before = load(saved)
    for found in (model, again):
        assert found.num_labels == found.config.num_labels == 3
        names = asked.get("id2label", {row: f"LABEL_{row}" for row in range(3)})
        assert found.config.id2label == names
        with torch.no_grad():
            assert found(**inputs()).logits.shape == (8, 3)
    kept = dict(before.named_parameters())
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, kept[name]) == ("classifier" not in name or "projection" in name), name
    labels = torch.arange(8) % 3
    assert torch.isfinite(again.train()(**inputs(), labels=labels).loss)


def test_three_classes_are_saved_with_their_shape(adaptive: EatForSequenceClassification, tmp_path: Path):
    adaptive.save_pretrained(tmp_path / "two")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "two", **THREE, ignore_mismatched_sizes=True)
    model.save_pretrained(tmp_path / "three")
    loaded = load_model(tmp_path / "three")
    assert loaded.config.shape["classes"] == loaded.encoder.shape.classes == 3
    assert list(loaded.config.id2label.values()) == ["no", "maybe", "yes"]
    assert torch.equal(loaded(**inputs()).logits, model(**inputs()).logits)


@pytest.mark.parametrize(
    "asked",
    [
        {"num_labels": 1, "ignore_mismatched_sizes": True},
        {"problem_type": "multi_label_classification"},
        {"problem_type": "regression"},
        {"output_hidden_states": True},
        {"output_attentions": True},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_a_configuration_that_asks_for_what_it_cannot_do(
    adaptive: EatForSequenceClassification, tmp_path: Path, asked: dict[str, Any]
):
    adaptive.save_pretrained(tmp_path)
    with pytest.raises(EatError, match=r"of two or more classes|removed tokens and rows have none") as error:
        AutoModelForSequenceClassification.from_pretrained(tmp_path, **asked)
    assert "\n" not in str(error.value)


def test_tokens_can_be_added(saved: Path, tmp_path: Path):
    model = AutoModelForSequenceClassification.from_pretrained(saved)
    embedding = model.get_input_embeddings()
    assert (embedding.num_embeddings, embedding.embedding_dim) == (tiny.VOCABULARY, 32)
    with torch.no_grad():
        expected = model(**inputs()).logits
    resized = model.resize_token_embeddings(tiny.VOCABULARY + 3, mean_resizing=False)
    assert resized is model.get_input_embeddings()
    model.save_pretrained(tmp_path / "more")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "more")
    assert again.config.vocab_size == again.get_input_embeddings().num_embeddings == tiny.VOCABULARY + 3
    new = torch.tensor([[tiny.CLS, tiny.VOCABULARY + 2, tiny.SEP]])
    with torch.no_grad():
        assert torch.equal(again(**inputs()).logits, expected)
        assert torch.equal(again(new).logits, model(new).logits)


def test_an_embedding_can_be_put_in_place(adaptive: EatForSequenceClassification):
    other = torch.nn.Embedding(50, 32)
    adaptive.set_input_embeddings(other)
    assert adaptive.get_input_embeddings() is other
    assert adaptive.encoder.shape.vocabulary == adaptive.config.shape["vocabulary"] == 50


def test_a_model_in_several_files_is_loaded_as_any_other(adaptive: EatForSequenceClassification, tmp_path: Path):
    adaptive.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    # products of few rows take another way through memory that is aligned otherwise
    for again in (loaded, load_model(tmp_path)):
        torch.testing.assert_close(again(**inputs()).logits, adaptive(**inputs()).logits, atol=1e-6, rtol=0)
