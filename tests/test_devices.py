"""Which device a name means, whatever this machine has, and that no phase takes another than the one it is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from eat.engines.devices import resolve_device
from eat.engines.setting import Setting
from eat.errors import EatError
from eat.finetune.stage import StageInputs, train_stage
from eat.finetune.trainer import trainer_arguments
from eat.model.hugging_face import EatForSequenceClassification, load_model
from eat.study import keys
from eat.study.loading import load_study
from eat.trace.importance import compare_importance
from eat.trace.recording import record_trace
from eat.tune.clock import ClockOptions, measure_cost, usable_variants
from eat.tune.space import VARIANTS


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let torch say that it finds these devices beside the CPU."""

    def has(*devices: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in devices)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in devices)

    return has


@pytest.mark.parametrize(
    ("there", "taken"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
def test_auto_is_the_first_that_is_there(machine: Any, there: tuple[str, ...], taken: str):
    machine(*there)
    assert resolve_device("auto").type == taken
    assert resolve_device("cpu").type == "cpu"
    for name in there:
        assert resolve_device(name).type == name


@pytest.mark.parametrize(("name", "what"), [("cuda", "GPU"), ("mps", "Apple GPU")])
def test_a_device_that_is_not_there_is_refused(machine: Any, name: str, what: str):
    machine()
    with pytest.raises(EatError) as error:
        resolve_device(name, "timing.device")
    assert str(error.value) == f"timing.device is {name}, but torch finds no {what} here; set it to cpu or auto"


def test_an_unknown_device_is_refused():
    with pytest.raises(EatError, match=r"^device: 'cuda:1' is not a device; known: auto, cuda, mps, cpu$"):
        resolve_device("cuda:1")


def test_each_phase_has_its_own_device():
    study = tiny.study()
    assert (study.training.device, study.trace_device, study.timing.device) == ("auto", "cpu", "cpu")
    assert tiny.study(timing={"device": "cuda"}).trace_device == "cuda"
    assert tiny.study(timing={"device": "cuda"}, trace={"device": "auto"}).trace_device == "auto"
    with pytest.raises(EatError, match=r"trace\.device: found 'gpu'; input should be 'auto', 'cpu', 'cuda' or 'mps'"):
        load_study({**tiny.study().model_dump(mode="json", by_alias=True), "trace": {"device": "gpu"}})


@pytest.mark.parametrize(("traced", "timed"), [("cpu", "cuda"), ("cuda", "cpu"), ("mps", "cuda")])
def test_a_trace_on_another_device_than_the_clock_is_refused(traced: str, timed: str):
    with pytest.raises(EatError) as error:
        tiny.study(trace={"device": traced}, timing={"device": timed})
    (line,) = str(error.value).splitlines()
    assert f"trace.device: found '{traced}', but timing.device is '{timed}'" in line
    assert "omit trace.device, or set both to one device" in line
    assert tiny.study(trace={"device": timed}, timing={"device": timed}).trace_device == timed


def test_a_device_is_a_matter_of_its_phase_alone():
    plain, traced = tiny.study(), tiny.study(trace={"device": "auto"})
    assert plain.view(keys.TIMING, ["tiny"]) == traced.view(keys.TIMING, ["tiny"])
    assert plain.training_spec("tiny", "eat", "finetune") == traced.training_spec("tiny", "eat", "finetune")
    trained = tiny.study(training={"device": "cuda"})
    assert plain.training_spec("tiny", "eat", "finetune") != trained.training_spec("tiny", "eat", "finetune")
    timed = tiny.study(timing={"device": "cuda"})
    assert plain.view(keys.TIMING, ["tiny"]) != timed.view(keys.TIMING, ["tiny"])
    assert plain.view(keys.CALIBRATE, ["tiny"]) == timed.view(keys.CALIBRATE, ["tiny"])


def test_a_trace_stays_on_its_device_where_there_is_a_gpu(machine: Any, tmp_path: Path):
    tiny.model().save_pretrained(tmp_path / "model")
    tiny.save_tokenizer(tmp_path / "model")
    tiny.split(tmp_path / "dev.parquet", rows=8)
    machine("cuda")
    arguments = ([tmp_path / "model"], tiny.study().parts("dense"), tmp_path / "dev.parquet", tiny.UNNAMED, 32, "tiny")
    assert record_trace(*arguments).shape["device"] == "cpu"
    machine()
    with pytest.raises(EatError, match=r"^device is cuda, but torch finds no GPU here; set it to cpu or auto$"):
        record_trace(*arguments, "cuda")


@pytest.mark.parametrize("timed", ["cpu", "cuda"])
def test_scores_of_tokens_are_compared_on_the_device_of_the_traces(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timed: str
):
    study = tiny.study(timing={"device": timed})
    models = {}
    for name, row in study.systems.items():
        tiny.model(row.exits.after, row.reducer.model_dump(), last_head=row.last_head).save_pretrained(tmp_path / name)
        tiny.save_tokenizer(tmp_path / name)
        models[name, 1] = tmp_path / name
    tiny.split(tmp_path / "dev.parquet", rows=8)
    moved: list[str] = []

    def to(model: EatForSequenceClassification, device: torch.device) -> EatForSequenceClassification:
        moved.append(device.type)
        return model  # there is no GPU here

    monkeypatch.setattr(EatForSequenceClassification, "to", to)
    machine("cuda")
    compare_importance(study, "tiny", models, tmp_path / "dev.parquet", texts=8)
    assert moved == [timed] * 2
    machine()
    if timed == "cuda":
        with pytest.raises(EatError, match=r"^trace\.device is cuda, but torch finds no GPU here"):
            compare_importance(study, "tiny", models, tmp_path / "dev.parquet", texts=8)
    views = [one.view(keys.IMPORTANCE, ["tiny"]) for one in (study, tiny.study())]
    assert (views[0] == views[1]) == (timed == "cpu")


def test_the_clock_of_a_search_takes_the_device_of_timing(machine: Any, tmp_path: Path):
    with tiny.any_precision():
        machine("cuda")
        assert usable_variants("cpu") == tuple(VARIANTS)
        assert usable_variants("cuda") == ("torch", "bf16")  # ONNX Runtime is used on the CPU
        machine()
        for refused in (
            lambda: usable_variants("cuda"),
            lambda: measure_cost(ClockOptions(tmp_path / "model", tmp_path / "split", 32, 1, "cuda"), ("torch",), 4),
        ):
            with pytest.raises(EatError, match=r"^timing\.device is cuda, but torch finds no GPU here"):
                refused()


@pytest.fixture
def inputs(tmp_path: Path) -> StageInputs:
    """What `dense` is trained from."""
    tiny.backbone(tmp_path / "backbone")
    tiny.split(tmp_path / "train.parquet", rows=8)
    spec = tiny.study(training={"batch_size": 4, "device": "cpu"}).training_spec("tiny", "dense", "finetune")
    return StageInputs(spec, tmp_path / "backbone", [tmp_path / "train.parquet"], tmp_path / "card.json", 1)


def test_training_stays_on_its_device_where_there_is_a_gpu(
    machine: Any, inputs: StageInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    machine("cuda")
    # a checkpoint holds the state of the GPU's generator if there is a GPU
    monkeypatch.setattr(torch.cuda.random, "get_rng_state", lambda: torch.zeros(1, dtype=torch.uint8))
    train_stage(inputs, tmp_path / "model", tmp_path / "checkpoints", "tiny")
    assert load_model(tmp_path / "model").config.trained == {"device": "cpu", "precision": "float32"}


def test_training_on_a_device_that_is_not_there_is_refused_at_once(machine: Any, inputs: StageInputs, tmp_path: Path):
    machine()
    inputs = replace(inputs, spec=tiny.changed(inputs.spec, "training", device="cuda"))
    with pytest.raises(EatError, match=r"^training\.device is cuda, but torch finds no GPU here"):
        train_stage(inputs, tmp_path / "model", tmp_path / "checkpoints", "tiny")
    assert not (tmp_path / "checkpoints").exists()


def test_a_checkpoint_of_another_device_is_not_resumed(machine: Any, inputs: StageInputs):
    inputs = replace(inputs, spec=tiny.changed(inputs.spec, "training", device="auto"))
    machine()
    before = inputs.fingerprint()
    machine("cuda")
    assert inputs.fingerprint() != before


def test_a_training_takes_one_gpu_of_several(
    machine: Any, inputs: StageInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    machine("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    arguments = trainer_arguments(inputs.spec, Setting("cuda", "float32"), 1, tmp_path, 8)
    assert (arguments.device.type, arguments.n_gpu) == ("cuda", 1)
