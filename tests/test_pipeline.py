"""A pipeline of `transformers` takes the model as any other: each option does what it does to a stock model.

At full depth the same weights stand in a `BertForSequenceClassification`, and both must give equal labels, and scores
to 1e-4. With exits switched on, a pipeline must give what the model's own forward pass gives for each text alone.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from exported import saved_model
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset
from transformers.pipelines.text_classification import ClassificationFunction

from eat.errors import EatError
from eat.export.folder import export
from eat.export.source import ExportOptions
from eat.model.batch import PackedBatch
from eat.model.configuration import EatConfig
from eat.model.hugging_face import EatForSequenceClassification
from eat.model.tokenizer import copy_tokenizer

TEXTS = [row["text"] for row in tiny.table(12).to_dict("records")]
LONG = " ".join(tiny.NEUTRAL[:90])
PAIRS = [{"text": text, "text_pair": other} for text, other in itertools.pairwise(TEXTS)]
NAMES = ["no", "perhaps", "yes"]
CLOSE = 1e-4
SEED = 7
"""Of the weights: with it the texts are of all classes."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same weights as a stock classifier and as `eat export --format transformers` writes them."""
    place = tmp_path_factory.mktemp("models")
    stock = tiny.backbone(place / "given", labels=3, seed=SEED)
    stock.config.id2label, stock.config.label2id = dict(enumerate(NAMES)), {name: row for row, name in enumerate(NAMES)}
    stock.save_pretrained(place / "given")
    export(ExportOptions(place / "given", place / "ours", "float32", format="transformers"))
    # the tokenizers, too, are the same, so that only the models can differ
    shutil.copytree(place / "given", place / "stock")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(place / "ours" / name, place / "stock" / name)
    return {name: place / name for name in ("stock", "ours")}


@pytest.fixture(scope="module")
def both(folders: dict[str, Path]) -> list[Any]:
    """The pipelines of both, the stock one first."""
    made = [pipeline("text-classification", model=str(folder)) for folder in folders.values()]
    assert [type(each.model).__name__ for each in made] == [
        "BertForSequenceClassification",
        "EatForSequenceClassification",
    ]
    return made


def require_alike(expected: Any, found: Any, close: float = CLOSE) -> None:
    """The same nesting of lists and answers, the same labels, and close scores."""
    assert type(found) is type(expected)
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(expected, found, strict=True):
            require_alike(one, other, close)
    else:
        assert found.keys() == expected.keys() == {"label", "score"}
        assert found["label"] == expected["label"]
        assert found["score"] == pytest.approx(expected["score"], abs=close)


def outcome(call: Callable[[Any], Any], classify: Any) -> Any:
    """What a call gives, with generators as lists; the name of the exception if it raises one."""
    try:
        found = call(classify)
        return found if isinstance(found, dict) else list(found)
    except Exception as error:
        return {"label": type(error).__name__, "score": 0.0}


CALLS: dict[str, Callable[[Any], Any]] = {
    "one text": lambda classify: classify(TEXTS[0]),
    "a list": lambda classify: classify(TEXTS),
    "a list of one": lambda classify: classify(TEXTS[:1]),
    "no text": lambda classify: classify([]),
    "an empty text": lambda classify: classify(["", TEXTS[1]]),
    **{f"batch {size}": lambda classify, size=size: classify(TEXTS, batch_size=size) for size in (1, 2, 5, 12, 100)},
    # what is returned
    "top_k None": lambda classify: classify(TEXTS, top_k=None),
    "top_k None of one text": lambda classify: classify(TEXTS[0], top_k=None),
    "top_k 1": lambda classify: classify(TEXTS, top_k=1),
    "top_k 2": lambda classify: classify(TEXTS, top_k=2),
    "top_k 2 of one text": lambda classify: classify(TEXTS[0], top_k=2),
    "top_k beyond the classes": lambda classify: classify(TEXTS, top_k=99, batch_size=4),
    "return_all_scores": lambda classify: classify(TEXTS[:2], return_all_scores=True),
    "softmax": lambda classify: classify(TEXTS, function_to_apply="softmax"),
    "sigmoid": lambda classify: classify(TEXTS, function_to_apply="sigmoid", top_k=None),
    "logits": lambda classify: classify(TEXTS, function_to_apply="none", top_k=None),
    "a function of the enumeration": lambda classify: classify(TEXTS, function_to_apply=ClassificationFunction.SIGMOID),
    "an unknown function": lambda classify: classify(TEXTS, function_to_apply="tanh"),
    # how texts are cut and padded
    "truncation": lambda classify: classify([LONG, *TEXTS], truncation=True),
    "truncation to 8 tokens": lambda classify: classify([LONG, *TEXTS], truncation=True, max_length=8),
    "truncation in batches": lambda classify: classify([LONG, *TEXTS], truncation=True, batch_size=4),
    "truncation of the first": lambda classify: classify(
        {"text": LONG, "text_pair": TEXTS[0]}, truncation="only_first"
    ),
    "truncation of the second": lambda classify: classify(
        {"text": TEXTS[0], "text_pair": LONG}, truncation="only_second"
    ),
    "truncation on the left": lambda classify: classify(LONG, truncation=True, truncation_side="left"),
    "padding": lambda classify: classify(TEXTS, padding=True, batch_size=4),
    "padding to the longest": lambda classify: classify(TEXTS, padding="max_length", max_length=40, truncation=True),
    "padding in batches": lambda classify: classify(TEXTS, padding="max_length", max_length=40, batch_size=3),
    "padding to a multiple": lambda classify: classify(TEXTS, padding=True, pad_to_multiple_of=8),
    # what else the tokenizer takes
    "no special tokens": lambda classify: classify(TEXTS, add_special_tokens=False),
    "no segments": lambda classify: classify(TEXTS, return_token_type_ids=False, batch_size=4),
    "no mask": lambda classify: classify(TEXTS[0], return_attention_mask=False),
    "a mask of special tokens": lambda classify: classify(TEXTS, return_special_tokens_mask=True),
    "lengths": lambda classify: classify(TEXTS, return_length=True),
    "offsets": lambda classify: classify(TEXTS, return_offsets_mapping=True),
    "overflowing tokens": lambda classify: classify(
        LONG, truncation=True, max_length=20, stride=4, return_overflowing_tokens=True, padding=True
    ),
    "an option of no tokenizer": lambda classify: classify(TEXTS, trunkation=True),
    # pairs
    "a pair": lambda classify: classify(PAIRS[0]),
    "a pair in a list": lambda classify: classify(PAIRS[:1]),
    "pairs": lambda classify: classify(PAIRS),
    "pairs in batches": lambda classify: classify(PAIRS, batch_size=4, top_k=None),
    "dictionaries of one text": lambda classify: classify([{"text": text} for text in TEXTS]),
    "a pair in lists": lambda classify: classify([[[TEXTS[0], TEXTS[1]]]]),
    "a pair in a tuple": lambda classify: classify([(TEXTS[0], TEXTS[1])]),
    "a list of lists": lambda classify: classify([[TEXTS[0], TEXTS[1]]]),
    "a number": lambda classify: classify(7),
    # where texts come from
    "a generator": lambda classify: classify(text for text in TEXTS),
    "a generator in batches": lambda classify: classify((text for text in TEXTS), batch_size=5, top_k=2),
    "a generator of pairs": lambda classify: classify((pair for pair in PAIRS), batch_size=3),
    "a data set": lambda classify: classify(
        KeyDataset(Dataset.from_dict({"text": TEXTS}), "text"), batch_size=4, truncation=True
    ),
    "a data set of pairs": lambda classify: classify(Dataset.from_list(PAIRS), batch_size=4),
    "a data set read by a process": lambda classify: classify(
        KeyDataset(Dataset.from_dict({"text": TEXTS}), "text"), batch_size=4, num_workers=1
    ),
    "a column": lambda classify: classify(Dataset.from_dict({"text": TEXTS})["text"], batch_size=4),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_option_of_a_call_does_what_it_does_to_a_stock_model(name: str, both: list[Any]) -> None:
    expected, found = (outcome(CALLS[name], classify) for classify in both)
    require_alike(expected, found)


def test_the_answers_that_are_compared_differ_from_each_other(both: list[Any]) -> None:
    answers = both[1](TEXTS)
    assert len({answer["label"] for answer in answers}) > 1
    assert len({round(answer["score"], 3) for answer in answers}) > len(TEXTS) / 2


MADE: dict[str, dict[str, Any]] = {
    "batch size": {"batch_size": 4},
    "top_k": {"top_k": None},
    "truncation": {"truncation": True, "max_length": 8},
    "function": {"function_to_apply": "sigmoid"},
    "device -1": {"device": -1},
    "device cpu": {"device": "cpu"},
    "a device": {"device": torch.device("cpu")},
    "device map cpu": {"device_map": "cpu"},
    "device map auto": {"device_map": "auto"},
    "a whole device map": {"device_map": {"": "cpu"}},
    "float32": {"dtype": torch.float32},
    "float32 by name": {"dtype": "float32"},
    "dtype auto": {"dtype": "auto"},
    "the old name of dtype": {"torch_dtype": torch.float32},
    "options of the model": {"model_kwargs": {"dtype": torch.float32, "low_cpu_mem_usage": True}},
    "eager attention": {"model_kwargs": {"attn_implementation": "eager"}},
    "fused attention": {"model_kwargs": {"attn_implementation": "sdpa"}},
    "fast tokenizer": {"use_fast": True},
    "no code of others": {"trust_remote_code": False},
    "workers": {"num_workers": 0},
    "binary output": {"binary_output": True},
}


@pytest.mark.parametrize("name", MADE)
def test_an_option_of_a_pipeline_does_what_it_does_to_a_stock_model(name: str, folders: dict[str, Path]) -> None:
    expected, found = (
        outcome(lambda made: made(TEXTS), pipeline("text-classification", model=str(folder), **MADE[name]))
        for folder in folders.values()
    )
    require_alike(expected, found)


@pytest.mark.parametrize("name", ["sentiment-analysis", "text-classification"])
def test_parts_may_be_given_as_objects_or_as_places(name: str, folders: dict[str, Path]) -> None:
    answers = []
    for folder in folders.values():
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        answers += [
            pipeline(name, model=model, tokenizer=tokenizer)(TEXTS),
            pipeline(name, model=str(folder), tokenizer=str(folder), config=config)(TEXTS),
        ]
    for other in answers[1:]:
        require_alike(answers[0], other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_a_stock_model_in_it(dtype: torch.dtype, folders: dict[str, Path]) -> None:
    made = [pipeline("text-classification", model=str(folder), dtype=dtype) for folder in folders.values()]
    assert [each.model.dtype for each in made] == [dtype, dtype]
    expected, found = (
        [{one["label"]: one["score"] for one in answer} for answer in each(TEXTS, top_k=None, batch_size=4)]
        for each in made
    )
    # of sums in this precision, in another order
    most = 0.02 if dtype == torch.float16 else 0.15
    for one, other in zip(expected, found, strict=True):
        assert other == pytest.approx(one, abs=most)


def test_a_text_beyond_the_positions_is_refused_in_one_line(both: list[Any]) -> None:
    with pytest.raises(EatError, match=r"^a text of 92 tokens, but the model has 64 positions"):
        both[1](LONG)
    with pytest.raises((IndexError, RuntimeError)):
        both[0](LONG)


def test_a_pipeline_is_saved_and_read_again(both: list[Any], tmp_path: Path) -> None:
    both[1].save_pretrained(tmp_path)
    require_alike(both[1](TEXTS), pipeline("text-classification", model=str(tmp_path))(TEXTS), close=0.0)


def test_a_trainer_predicts_what_a_stock_model_does(folders: dict[str, Path], tmp_path: Path) -> None:
    predicted = []
    for folder in folders.values():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        data = Dataset.from_dict({"text": TEXTS, "label": [row % 3 for row in range(len(TEXTS))]})
        data = data.map(lambda row, tokenizer=tokenizer: tokenizer(row["text"], truncation=True))
        trainer = Trainer(
            model=AutoModelForSequenceClassification.from_pretrained(folder),
            args=TrainingArguments(
                str(tmp_path), per_device_eval_batch_size=5, report_to=[], use_cpu=True, disable_tqdm=True
            ),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        predicted.append(trainer.predict(data))
    stock, ours = predicted
    assert ours.predictions == pytest.approx(stock.predictions, abs=CLOSE)
    assert (ours.label_ids == stock.label_ids).all()
    assert ours.metrics["test_loss"] == pytest.approx(stock.metrics["test_loss"], abs=CLOSE)


# --- exits on -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model at whose operating point the texts exit after different layers."""
    folder = tmp_path_factory.mktemp("adaptive")
    saved_model(
        folder / "given",
        labels=NAMES,
        exits=[1, 2, 3],
        reducer={"kind": "norm", "after": [1, 3], "ratio": 0.3},
        point={"rule": ["confidence"], "tau": 0.8, "temperatures": {1: 0.8}},
    )
    export(ExportOptions(folder / "given", folder / "out", "float32", format="transformers"))
    return folder / "out"


def alone(model: EatForSequenceClassification, texts: list[str]) -> Iterator[tuple[list[float], int]]:
    """The probabilities and the depth of each text by itself, in the packed forward pass."""
    tokenizer = tiny.tokenizer()
    for text in texts:
        ids = torch.tensor(tokenizer.encode(text).ids)
        with torch.inference_mode():
            output = model.run(PackedBatch.of([(ids, torch.zeros_like(ids))]), model.policy)
        yield output.logits.softmax(-1)[0].tolist(), output.depth[0]


@pytest.mark.parametrize("options", [{}, {"batch_size": 5}, {"batch_size": 3, "padding": "max_length"}], ids=str)
@pytest.mark.parametrize("tau", [0.8, 0.6, 1.0])
def test_with_exits_each_text_is_answered_as_if_it_were_alone(
    tau: float, options: dict[str, Any], adaptive: Path
) -> None:
    classify = pipeline("text-classification", model=str(adaptive), top_k=None)
    classify.model.set_operating_point(**classify.model.config.operating_point | {"tau": tau})
    expected = list(alone(classify.model, TEXTS))
    assert (len({depth for _, depth in expected}) > 1) == (tau < 1)
    for (scores, _), answer in zip(expected, classify(TEXTS, truncation=True, **options), strict=True):
        assert {one["label"]: one["score"] for one in answer} == pytest.approx(
            dict(zip(NAMES, scores, strict=True)), abs=1e-5
        )


def test_the_depth_of_each_text_is_among_the_outputs(adaptive: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(adaptive)
    inputs = AutoTokenizer.from_pretrained(adaptive)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        depth = model(**inputs).depth.tolist()
    assert depth == [layers for _, layers in alone(model, TEXTS)]


# --- a folder -----------------------------------------------------------------------------------------------------


def test_the_configuration_names_the_classes(adaptive: Path) -> None:
    config = AutoConfig.from_pretrained(adaptive)
    assert isinstance(config, EatConfig)
    assert config.id2label == dict(enumerate(NAMES))
    assert config.label2id == {name: row for row, name in enumerate(NAMES)}
    assert config.num_labels == 3
    assert config.architectures == ["EatForSequenceClassification"]
    made = AutoModelForSequenceClassification.from_config(config)
    assert isinstance(made, EatForSequenceClassification) and made.num_labels == 3


@pytest.mark.parametrize(
    "options", [{}, {"device_map": "cpu"}, {"device_map": "auto"}, {"dtype": torch.float16}], ids=str
)
@pytest.mark.parametrize("shards", [None, "20KB"])
def test_a_saved_model_is_read_as_it_was(
    shards: str | None, options: dict[str, Any], adaptive: Path, tmp_path: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(adaptive, dtype=options.get("dtype", torch.float32))
    model.save_pretrained(tmp_path, **({} if shards is None else {"max_shard_size": shards}))
    copy_tokenizer(adaptive, tmp_path)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards is not None)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path, **options)
    assert again.dtype == model.dtype
    assert again.policy == model.policy
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
    first, second = (
        pipeline("text-classification", model=each, tokenizer=str(tmp_path))(TEXTS, batch_size=4)
        for each in (model, again)
    )
    require_alike(first, second, close=0.0)
