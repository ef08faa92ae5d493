"""Fine-tuning of a stage on a tiny backbone: what it writes, that it resumes exactly, and what it refuses.

24 texts in batches of 4, two epochs: 12 steps, with a checkpoint and a line of the log every 3. Where two runs must be
equal they are so bit for bit, on one thread of the CPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertModel

from eat import progress
from eat.errors import DamagedFile, EatError
from eat.files import read_json, write_json
from eat.finetune import losses, resuming, schedules, stage
from eat.finetune.initial_model import build_model
from eat.finetune.resuming import newest_checkpoint
from eat.finetune.schedules import annealing
from eat.finetune.stage import StageInputs, train_stage
from eat.finetune.trainer import StageTrainer
from eat.model.hugging_face import load_model
from eat.model.options import Parts
from eat.model.weights import read_checkpoint
from eat.processor import cpu_name
from eat.study.recipes import Annealing, Distillation
from eat.study.study import Study
from eat.trace.recording import record_trace

STEPS, OFTEN = 12, 3
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "train_log.jsonl"]


class Killed(BaseException):
    """Ends a training run as a signal would: nothing catches it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `backbone/`, `train.parquet` and `card.json`."""
    folder = tmp_path_factory.mktemp("data")
    tiny.backbone(folder / "backbone")
    tiny.split(folder / "train.parquet", rows=24)
    return folder


def save_often(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint and a line of the log every three steps, not every hundred and every ten."""
    original = stage.trainer_arguments

    def arguments(*given: Any) -> Any:
        made = original(*given)
        made.save_steps = made.logging_steps = OFTEN
        return made

    patch.setattr(stage, "trainer_arguments", arguments)


@pytest.fixture(scope="module", autouse=True)
def often() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        save_often(patch)
        yield


def inputs_of(data: Path, system: str = "eat", study: Study | None = None, stage: str = "finetune") -> StageInputs:
    spec = (study or tiny.study()).training_spec("tiny", system, stage)
    return StageInputs(spec, data / "backbone", [data / "train.parquet"], data / "card.json", seed=1)


def with_spec(inputs: StageInputs, part: str, **changes: Any) -> StageInputs:
    """The same inputs with some keys of a part of the specification, or of itself if part is empty, replaced."""
    return replace(inputs, spec=tiny.changed(inputs.spec, part, **changes))


def trained(inputs: StageInputs, folder: Path) -> dict[str, Tensor]:
    """Train to the end, checkpoints beside the output; returns the weights."""
    train_stage(inputs, folder / "model", folder / "checkpoints", "tiny/run")
    return weights(folder)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "model" / "train_log.jsonl").read_text().splitlines()]


def require_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]
    assert different == []


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch, marked: bool = True) -> None:
    """Kill the run at this step's checkpoint: after it is marked as whole, or before."""
    mark = resuming.MarkComplete.on_save

    def on_save(self: resuming.MarkComplete, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if marked or state.global_step != step:
            mark(self, args, state, control, **kwargs)
        if state.global_step == step:
            raise Killed

    monkeypatch.setattr(resuming.MarkComplete, "on_save", on_save)


def train_and_kill(inputs: StageInputs, folder: Path, step: int, marked: bool = True) -> Path:
    """Train until a checkpoint's step and die there; returns the folder of the checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at(step, patch, marked)
        with pytest.raises(Killed):
            trained(inputs, folder)
    assert not (folder / "model").exists()
    checkpoints = checkpoints_of(folder)
    assert newest_checkpoint(checkpoints) == checkpoints / f"checkpoint-{step if marked else step - OFTEN}"
    return checkpoints


def checkpoints_of(folder: Path) -> Path:
    """The one folder of checkpoints that a run left."""
    (found,) = (folder / "checkpoints").glob("*/*")
    return found


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The log without what the clock says."""
    return [{key: value for key, value in line.items() if key != "tokens_per_s"} for line in log_of(folder)]


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `eat` that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    trained(inputs_of(data), folder)
    return folder


# --- what a run writes --------------------------------------------------------------------------------------------


def test_a_stage_writes_its_model_tokenizer_and_log(undisturbed: Path, data: Path):
    assert sorted(path.name for path in (undisturbed / "model").iterdir()) == FILES
    assert list((undisturbed / "checkpoints").iterdir()) == []
    model = load_model(undisturbed / "model")
    assert model.encoder.exits == [2, 4]
    assert model.encoder.reducer.scale == 1.0
    assert model.config.id2label == {0: "negative", 1: "positive"}
    start = read_checkpoint(data / "backbone").tensors["layers.0.up.weight"]
    assert not torch.equal(weights(undisturbed)["encoder.layers.0.up.weight"], start)


def test_the_log_has_a_line_every_few_steps(undisturbed: Path):
    log = log_of(undisturbed)
    assert [line["step"] for line in log] == [3, 6, 9, 12]
    for line in log:
        assert list(line) == [
            "step", "epoch", "loss", "exit_2", "exit_4", "pruning_ratio", "learning_rate", "tokens_per_s",
        ]  # fmt: skip
        assert line["loss"] == pytest.approx(line["exit_2"] + line["exit_4"])
        assert line["tokens_per_s"] > 0
        assert line["epoch"] == line["step"] / 6
    # annealing rises from step 3 to step 9 (epochs 0.5 to 1.5 of 6 steps); a line tells the ratio of its last step
    expected = [0.3 * min(max((step - 1 - 3) / 6, 0), 1) for step in (3, 6, 9, 12)]
    assert [line["pruning_ratio"] for line in log] == pytest.approx(expected)
    # one step of warm-up (a tenth of 12), then linearly to 0
    assert log[-1]["learning_rate"] < log[0]["learning_rate"] < 1e-3


@pytest.mark.slow
def test_a_stage_learns(data: Path, tmp_path: Path):
    # of the 24 texts each holds one word that names its label: an encoder that trains must fit them
    inputs = with_spec(inputs_of(data, "dense"), "stage", epochs=60)
    trained(with_spec(inputs, "training", learning_rate=2e-3), tmp_path)
    log = log_of(tmp_path)
    assert log[-1]["loss"] < 0.2 * log[0]["loss"]
    labels = ["negative", "positive"]
    trace = record_trace([tmp_path / "model"], tiny.study().parts("dense"), data / "train.parquet", labels, 32, "tiny")
    assert np.mean(trace.logits[4].argmax(axis=1) == trace.labels) >= 0.95


def test_every_other_step_trains_the_last_exit_alone(data: Path, tmp_path: Path):
    """BERxiT's alternation: the head after layer 2 gets no loss in the first step, and one in the second."""
    inputs = with_spec(inputs_of(data), "stage", steps="alternating")
    alone = with_spec(inputs, "stage", exit_weights={"2": 0.0, "4": 1.0}, steps="joint")
    joint = with_spec(inputs, "stage", steps="joint")
    found = {name: trained(one, tmp_path / name) for name, one in (("a", inputs), ("l", alone), ("j", joint))}
    logs = {name: log_of(tmp_path / name) for name in found}
    assert logs["a"][0]["exit_2"] < logs["j"][0]["exit_2"]
    assert "exit_2" not in logs["l"][0]
    head = "encoder.exit_heads.2.classifier.weight"
    assert not torch.equal(found["a"][head], found["l"][head])
    assert not torch.equal(found["a"][head], found["j"][head])


def test_dropped_layers_are_the_same_ones_in_a_resumed_run(data: Path, tmp_path: Path):
    """LayerDrop draws from the generator whose state a checkpoint holds."""
    inputs = with_spec(inputs_of(data, "dense"), "stage", layer_drop=0.5)
    whole = trained(inputs, tmp_path / "whole")
    plain = trained(inputs_of(data, "dense"), tmp_path / "plain")
    assert not torch.equal(whole["encoder.layers.0.up.weight"], plain["encoder.layers.0.up.weight"])
    train_and_kill(inputs, tmp_path / "killed", 6)
    require_same(trained(inputs, tmp_path / "killed"), whole)


# --- the same again, and resuming ---------------------------------------------------------------------------------


def test_two_runs_give_identical_weights(undisturbed: Path, data: Path, tmp_path: Path):
    require_same(trained(inputs_of(data), tmp_path), weights(undisturbed))
    other = trained(replace(inputs_of(data), seed=2), tmp_path / "seed2")
    assert not torch.equal(other["encoder.layers.0.up.weight"], weights(undisturbed)["encoder.layers.0.up.weight"])


@pytest.mark.parametrize("step", [3, 6])
def test_a_killed_run_resumes_to_the_same_weights(undisturbed: Path, data: Path, tmp_path: Path, step: int):
    train_and_kill(inputs_of(data), tmp_path, step)
    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        begin = schedules.RisingRatio.on_step_begin

        def on_step_begin(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            steps.append(state.global_step)
            begin(self, args, state, control, **kwargs)

        patch.setattr(schedules.RisingRatio, "on_step_begin", on_step_begin)
        resumed = trained(inputs_of(data), tmp_path)
    assert steps == list(range(step, STEPS))
    require_same(resumed, weights(undisturbed))
    assert timeless(tmp_path) == timeless(undisturbed)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("lines_every", [2, 5, 100])
def test_the_log_of_a_resumed_run_is_that_of_an_undisturbed_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines_every: int
):
    """Also where a checkpoint falls between two lines, and where the run ends between two."""
    original = stage.trainer_arguments

    def arguments(*given: Any) -> Any:
        made = original(*given)
        made.logging_steps = lines_every
        return made

    monkeypatch.setattr(stage, "trainer_arguments", arguments)
    trained(inputs_of(data), tmp_path / "undisturbed")
    train_and_kill(inputs_of(data), tmp_path / "killed", 9)
    trained(inputs_of(data), tmp_path / "killed")
    log = timeless(tmp_path / "killed")
    assert log == timeless(tmp_path / "undisturbed")
    assert [line["step"] for line in log] == sorted({*range(lines_every, STEPS + 1, lines_every), STEPS})
    rates = [line["tokens_per_s"] for line in log_of(tmp_path / "killed")]
    assert max(rates) < 20 * min(rates)  # no line counts tokens of one run over the seconds of the other


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "run_log.json", resuming.COMPLETE])
@pytest.mark.parametrize("left", [0.0, 0.5, None])
def test_a_checkpoint_that_is_marked_but_damaged_is_skipped(
    undisturbed: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, left: float | None
):
    """As a power loss or a full disk leaves it: cut off, empty, or gone."""
    checkpoints = train_and_kill(inputs_of(data), tmp_path, 9)
    broken = checkpoints / "checkpoint-9" / file
    if left is None:
        broken.unlink()
    else:
        broken.write_bytes(broken.read_bytes()[: int(left * broken.stat().st_size)])
    capsys.readouterr()
    require_same(trained(inputs_of(data), tmp_path), weights(undisturbed))
    assert timeless(tmp_path) == timeless(undisturbed)
    printed = capsys.readouterr().err
    (line,) = [line for line in printed.splitlines() if line.startswith("skipping ")]
    assert line.startswith(f"skipping {checkpoints / 'checkpoint-9'}: ")
    assert file in line or (file == resuming.COMPLETE and "not written to its end" in line)
    assert "resuming at step 6" in printed


def test_where_no_checkpoint_is_whole_training_begins_anew(undisturbed: Path, data: Path, tmp_path: Path):
    checkpoints = train_and_kill(inputs_of(data), tmp_path, 6)
    for checkpoint in checkpoints.glob("checkpoint-*"):
        (checkpoint / "optimizer.pt").write_bytes(b"")
    # killed again when it has written one: nothing of the damaged ones may come back under its name
    train_and_kill(inputs_of(data), tmp_path, 3)
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-3"]
    require_same(trained(inputs_of(data), tmp_path), weights(undisturbed))


def test_two_checkpoints_are_kept_whatever_their_dates(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mark = resuming.MarkComplete.on_save

    def on_save(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        mark(self, args, state, control, **kwargs)
        # as of a clock that was set back: later checkpoints have earlier dates
        date = 2e9 - 1000 * state.global_step
        os.utime(Path(args.output_dir) / f"checkpoint-{state.global_step}", (date, date))

    monkeypatch.setattr(resuming.MarkComplete, "on_save", on_save)
    checkpoints = train_and_kill(inputs_of(data), tmp_path, 9)
    assert sorted(path.name for path in checkpoints.glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-9"]


def test_a_checkpoint_cut_short_is_skipped(
    undisturbed: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    checkpoints = train_and_kill(inputs_of(data), tmp_path, 6, marked=False)
    cut = checkpoints / "checkpoint-6" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:1000])
    # a line of the log cut short, too
    with (checkpoints / "train_log.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    capsys.readouterr()
    require_same(trained(inputs_of(data), tmp_path), weights(undisturbed))
    assert f"skipping {checkpoints / 'checkpoint-6'}: it is incomplete" in capsys.readouterr().err
    assert [line["step"] for line in log_of(tmp_path)] == [3, 6, 9, 12]


def test_each_step_of_training_says_what_is_left(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Ten steps, after which the log gets a line, may take minutes."""
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    trained(inputs_of(data), tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert any(re.fullmatch(r"tiny/run: step 2 of 12, \d+ s left", line) for line in said)
    assert any(re.fullmatch(r"tiny/run: step 5 of 12, loss [\d.]+, \d+ tokens/s, \d+ s left", line) for line in said)
    assert any(re.fullmatch(r"tiny/run: step 12 of 12, loss .*, 0 s left", line) for line in said)


KILL_ITSELF = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
import torch
torch.set_num_threads(1)
from eat.finetune import trainer
import test_training as t
patch = t.pytest.MonkeyPatch()
t.save_often(patch)
def save(self, *given, **named):
    if self.state.global_step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *given, **named)
original = trainer.StageTrainer._save_optimizer_and_scheduler
trainer.StageTrainer._save_optimizer_and_scheduler = save
t.trained(t.inputs_of(Path({data!r})), Path({folder!r}))
"""


@pytest.mark.slow
def test_sigkill_within_a_checkpoint_s_writing(undisturbed: Path, data: Path, tmp_path: Path):
    tests = Path(__file__).parent
    script = KILL_ITSELF.format(tests=str(tests), root=str(tests.parent), data=str(data), folder=str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == -9, ended.stderr[-2000:]
    checkpoints = checkpoints_of(tmp_path)
    assert (checkpoints / "checkpoint-6" / "model.safetensors").exists()  # killed between weights and optimizer
    assert not (checkpoints / "checkpoint-6" / "optimizer.pt").exists()
    require_same(trained(inputs_of(data), tmp_path), weights(undisturbed))


def test_another_learning_rate_does_not_resume(data: Path, tmp_path: Path):
    slower = with_spec(inputs_of(data), "training", learning_rate=5e-4)
    train_and_kill(inputs_of(data), tmp_path / "killed", 6)
    after_kill = trained(slower, tmp_path / "killed")
    require_same(after_kill, trained(slower, tmp_path / "fresh"))
    assert timeless(tmp_path / "killed") == timeless(tmp_path / "fresh")
    # nobody will resume those of the other recipe: its model has been replaced
    assert list((tmp_path / "killed" / "checkpoints").iterdir()) == []


def test_what_a_kill_within_the_last_writing_left_is_removed(data: Path, tmp_path: Path):
    (tmp_path / ".model.01234567.part").mkdir()
    (tmp_path / ".other.01234567.part").mkdir()
    trained(inputs_of(data), tmp_path)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".other.01234567.part"]


def test_a_second_training_of_one_model_waits_for_the_first(
    undisturbed: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """As an orphan is waited for: two that write the same checkpoints would mix."""
    begun, go_on = threading.Event(), threading.Event()

    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        begin(self, args, state, control, **kwargs)
        if threading.current_thread() is orphan and state.global_step == 4:
            begun.set()
            go_on.wait(60)
            raise Killed

    def die() -> None:
        with contextlib.suppress(Killed):
            trained(inputs_of(data), tmp_path)

    orphan = threading.Thread(target=die)
    begin = schedules.RisingRatio.on_step_begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedules.RisingRatio, "on_step_begin", on_step_begin)
        orphan.start()
        assert begun.wait(60)
        threading.Timer(0.5, go_on.set).start()
        resumed = trained(inputs_of(data), tmp_path)
        orphan.join()
    printed = capfd.readouterr().err
    assert f"process {os.getpid()} on " in printed
    assert f"still trains {tmp_path / 'model'}; waiting until it ends" in printed
    assert "resuming at step 3" in printed
    require_same(resumed, weights(undisturbed))


def test_everything_that_determines_the_weights_is_in_the_fingerprint(data: Path, tmp_path: Path):
    same = inputs_of(data)
    assert same.fingerprint() == inputs_of(data).fingerprint()
    other_text, other_parent, other_words = tmp_path / "train.parquet", tmp_path / "parent", tmp_path / "words"
    tiny.split(other_text, rows=24, seed=1)
    tiny.backbone(other_parent, seed=1)
    tiny.backbone(other_words)
    tokenizer = json.loads((other_words / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (other_words / "tokenizer.json").write_text(json.dumps(tokenizer))
    changed = [
        replace(same, seed=2),
        replace(same, train=[other_text]),
        replace(same, parent=other_parent),
        replace(same, parent=other_words),
        replace(same, teacher=[other_text]),
        replace(same, code="an edit"),
        with_spec(same, "", max_length=31),
        with_spec(same, "reducer", ratio=0.2),
        with_spec(same, "training", device="cpu"),
    ]
    fingerprints = [one.fingerprint() for one in (same, *changed)]
    assert len(set(fingerprints)) == len(fingerprints)


def test_the_newest_whole_checkpoint_is_found_by_its_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert newest_checkpoint(tmp_path / "absent") is None
    for step, whole in ((3, True), (9, True), (12, True), (15, False), (100, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            write_json(tmp_path / f"checkpoint-{step}" / resuming.COMPLETE, {"files": {}})
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-12"
    skipped = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in skipped] == [f"skipping {tmp_path}/checkpoint-{n}" for n in (100, 15)]


# --- schedules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # the paper: epoch 1 without pruning, then linearly over epochs 2 and 3; ten steps an epoch
        ({"start_epoch": 1, "end_epoch": 3}, {0: 0.0, 9: 0.0, 10: 0.0, 11: 0.05, 20: 0.5, 29: 0.95, 30: 1.0, 99: 1.0}),
        ({"start_epoch": 0, "end_epoch": 0.5}, {0: 0.0, 1: 0.2, 5: 1.0}),
        ({"start_epoch": 1, "end_epoch": 1}, {9: 0.0, 10: 1.0}),  # a jump
        (None, {0: 1.0, 30: 1.0}),
    ],
)
def test_annealing_is_a_function_of_the_step(schedule: dict[str, float] | None, expected: dict[int, float]):
    scale = annealing(None if schedule is None else Annealing(**schedule), steps_an_epoch=10)
    assert {step: scale(step) for step in expected} == pytest.approx(expected)


# --- stages that train a part, or learn from a teacher ------------------------------------------------------------


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, torch.dtype]]:
    """For each call of the first layer's feed-forward part: whether dropout was on, and the dtype it computed in."""
    found: list[tuple[bool, torch.dtype]] = []
    build = stage.build_model

    def building(*given: Any) -> Any:
        model = build(*given)
        model.encoder.layers[0].up.register_forward_hook(lambda *call: found.append((call[0].training, call[2].dtype)))
        return model

    monkeypatch.setattr(stage, "build_model", building)
    return found


def test_a_frozen_encoder_stays_bit_identical(
    undisturbed: Path, data: Path, tmp_path: Path, hooked: list[tuple[bool, torch.dtype]]
):
    inputs = with_spec(inputs_of(data), "stage", train_heads=[2], anneal=None)
    found = trained(replace(inputs, parent=undisturbed / "model"), tmp_path)
    before = weights(undisturbed)
    changed = [name for name, tensor in before.items() if not torch.equal(found[name], tensor)]
    assert changed == ["encoder.exit_heads.2.classifier.bias", "encoder.exit_heads.2.classifier.weight"]
    assert [key for key in log_of(tmp_path)[0] if key.startswith("exit")] == ["exit_2"]
    assert hooked == [(False, torch.float32)], "without dropout, and only once, since the encoder does not change"


# --- reducers that learn ------------------------------------------------------------------------------------------

LEARNING: dict[str, dict[str, Any]] = {
    "threshold": {"kind": "threshold", "after": [1, 2, 3, 4]},
    "retention": {"kind": "retention", "after": [1, 2, 3, 4], "longest": 16},
    "predictor": {"kind": "predictor", "after": [1, 2, 3, 4], "size": 4},
}


def learning(data: Path, kind: str, parent: Path, removal: str = "soft", **stage: Any) -> StageInputs:
    """The inputs of a stage in which a reducer of this kind learns, or removes by what it has learned."""
    row = {"backbone": "tiny", "last_head": "bert", "reducer": LEARNING[kind]}
    more = {"epochs": 2, "removal": removal, **stage}
    dense = {"backbone": "tiny", "last_head": "bert", "recipe": [{"epochs": 2}]}
    study = tiny.study(systems={"dense": dense, "own": row | {"recipe": [more]}})
    return replace(inputs_of(data, "own", study), parent=parent)


@pytest.fixture(scope="module")
def dense(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained dense model."""
    folder = tmp_path_factory.mktemp("dense")
    trained(inputs_of(data, "dense"), folder)
    return folder / "model"


@pytest.mark.parametrize("kind", sorted(LEARNING))
def test_a_reducer_learns_softly_at_its_own_rate_and_then_stays(data: Path, dense: Path, tmp_path: Path, kind: str):
    softly = trained(learning(data, kind, dense, reducer_learning_rate=5e-2), tmp_path / "soft")
    own = {name: one for name, one in softly.items() if name.startswith("encoder.reducer.")}
    begun = build_model(learning(data, kind, dense).spec, dense, ["negative", "positive"]).state_dict()
    if kind != "predictor":  # whose networks begin at random
        assert all(not torch.equal(one, begun[name]) for name, one in own.items())
    assert "reducer" in log_of(tmp_path / "soft")[0]
    hard = trained(learning(data, kind, tmp_path / "soft" / "model", removal="hard"), tmp_path / "hard")
    require_same({name: hard[name] for name in own}, own)
    assert not torch.equal(hard["encoder.layers.0.down.weight"], softly["encoder.layers.0.down.weight"])
    assert "reducer" not in log_of(tmp_path / "hard")[0]


@pytest.mark.parametrize("kind", sorted(LEARNING))
def test_a_killed_soft_stage_resumes_to_the_same_weights(data: Path, dense: Path, tmp_path: Path, kind: str):
    inputs = learning(data, kind, dense, reducer_learning_rate=1e-2)
    whole = trained(inputs, tmp_path / "undisturbed")
    train_and_kill(inputs, tmp_path / "killed", 6)
    require_same(trained(inputs, tmp_path / "killed"), whole)


def test_learned_numbers_stay_in_their_range_at_any_rate(data: Path, dense: Path, tmp_path: Path):
    found = trained(learning(data, "retention", dense, reducer_learning_rate=3.0), tmp_path)
    retention = found["encoder.reducer.retention"]
    assert 0.0 <= retention.min() < retention.max() <= 1.0


def test_saliency_comes_from_a_trained_model(data: Path, tmp_path: Path):
    with pytest.raises(EatError, match=r"a bert checkpoint, not a model that a study trained; train first"):
        trained(learning(data, "predictor", data / "backbone"), tmp_path)


def test_a_model_can_teach_its_own_heads(data: Path, dense: Path, tmp_path: Path):
    """FastBERT's second stage: the last head and the encoder stay as they are."""
    distill = Distillation(teacher="self", onto="all", mu=1.0, temperature=1.0, labels=0.0).model_dump()
    inputs = with_spec(inputs_of(data), "stage", train_heads=[2], anneal=None, distill=distill)
    exits = {"after": [2], "read": "attention", "head": "bert"}
    spec = tiny.changed(inputs.spec, exits=exits, last_head="bert")
    found = trained(replace(inputs, spec=spec, parent=dense), tmp_path)
    assert all(set(line) >= {"distillation"} and "exit_2" not in line for line in log_of(tmp_path))
    before = load_file(dense / "model.safetensors")
    require_same({name: found[name] for name in before}, before)
    assert {name.split(".")[3] for name in set(found) - set(before)} == {"reader", "projection", "classifier"}


class Recorder:
    """What the collator handed to the loss: text row -> teacher's logits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.teacher: dict[int, list[float]] = {}
        compute = StageTrainer.compute_loss

        def recording(trainer: StageTrainer, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any):
            self.teacher |= dict(zip(inputs["rows"], inputs["teacher"].tolist(), strict=True))
            return compute(trainer, model, inputs, *rest, **more)

        monkeypatch.setattr(StageTrainer, "compute_loss", recording)


@pytest.fixture
def distilled(data: Path, tmp_path: Path) -> StageInputs:
    """A stage that learns from a trace of the backbone's own model, whose rows stand in another order."""
    tiny.model(last_head="bert").save_pretrained(tmp_path / "teacher")
    tiny.save_tokenizer(tmp_path / "teacher")
    trace = record_trace(
        [tmp_path / "teacher"],
        tiny.study().parts("dense"),
        data / "train.parquet",
        tiny.UNNAMED,
        32,
        "teacher",
    )
    order = np.random.default_rng(0).permutation(24)
    shuffled = {
        name: getattr(trace, name)[order]
        for name in ("ids", "labels", "lengths", "attended", "fed", "alive", "pairs", "pattern_pairs", "cut_margin")
    }
    logits = {depth: values[order] for depth, values in trace.logits.items()}
    replace(trace, logits=logits, **shuffled).write(tmp_path / "trace.parquet")
    inputs = with_spec(inputs_of(data), "stage", distill=Distillation(teacher="dense").model_dump())
    return replace(inputs, teacher=[tmp_path / "trace.parquet"])


def test_a_teacher_s_logits_are_found_by_id(distilled: StageInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recorder = Recorder(monkeypatch)
    trained(distilled, tmp_path)
    expected = record_trace(
        [tmp_path / "teacher"], tiny.study().parts("dense"), distilled.train[0], tiny.UNNAMED, 32, "teacher"
    ).logits[4]
    assert sorted(recorder.teacher) == list(range(24))
    for row, logits in recorder.teacher.items():
        assert logits == pytest.approx(expected[row].tolist(), abs=1e-6)
    assert all(line["distillation"] > 0 for line in log_of(tmp_path))


def test_a_teacher_that_was_not_traced_on_these_texts(distilled: StageInputs, tmp_path: Path):
    tiny.split(tmp_path / "train.parquet", rows=24, seed=3)
    with pytest.raises(EatError, match=r"lacks 24 of 24 training texts; trace the teacher again"):
        trained(replace(distilled, train=[tmp_path / "train.parquet"]), tmp_path)
    with pytest.raises(EatError, match=r"no trace of its teacher was given; pass --teacher"):
        trained(replace(distilled, teacher=[]), tmp_path)


def test_a_stage_learns_from_texts_without_labels(
    distilled: StageInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Their labels are -1: their only targets are the teacher's logits, of a second trace."""
    table = tiny.split(tmp_path / "unlabelled.parquet", rows=16, seed=3).assign(label=-1)
    table.to_parquet(tmp_path / "unlabelled.parquet")
    parts = tiny.study().parts("dense")
    traced = record_trace([tmp_path / "teacher"], parts, tmp_path / "unlabelled.parquet", tiny.UNNAMED, 32, "teacher")
    traced.write(tmp_path / "second.parquet")
    recorder = Recorder(monkeypatch)
    both = replace(
        distilled,
        train=[*distilled.train, tmp_path / "unlabelled.parquet"],
        teacher=[*distilled.teacher, tmp_path / "second.parquet"],
    )
    trained(both, tmp_path)
    assert sorted(recorder.teacher) == list(range(40))
    for row in range(24, 40):
        assert recorder.teacher[row] == pytest.approx(traced.logits[4][row - 24].tolist(), abs=1e-6)
    assert both.fingerprint() != distilled.fingerprint()


# --- policies (TR-BERT) -------------------------------------------------------------------------------------------


def policy_stage(data: Path, parent: Path, **policy: Any) -> StageInputs:
    """A stage that trains a policy after layers 1 and 3 of a dense model."""
    dense = {"backbone": "tiny", "last_head": "bert", "recipe": [{"epochs": 2}]}
    stage = {"epochs": 4, "removal": "soft", "reducer_learning_rate": 1e-2, "policy": policy}
    row = {"backbone": "tiny", "last_head": "bert", "reducer": {"kind": "policy", "after": [1, 3], "size": 8}}
    study = tiny.study(systems={"dense": dense, "own": row | {"recipe": [stage]}})
    return replace(inputs_of(data, "own", study), parent=parent)


@pytest.mark.parametrize("by", ["imitation", "reinforce"])
def test_a_policy_is_trained_alone_and_resumes_to_the_same_weights(data: Path, dense: Path, tmp_path: Path, by: str):
    inputs = policy_stage(data, dense, by=by)
    found = trained(inputs, tmp_path / "whole")
    before = load_file(dense / "model.safetensors")
    require_same({name: found[name] for name in before}, before)
    assert all(name.startswith("encoder.reducer.networks.") for name in set(found) - set(before))
    log = log_of(tmp_path / "whole")
    assert list(log[0])[:6] == ["step", "epoch", "loss", "policy", "reward", "kept"]
    assert all(line["loss"] == line["policy"] for line in log)
    train_and_kill(inputs, tmp_path / "killed", 9)
    require_same(trained(inputs, tmp_path / "killed"), found)
    assert timeless(tmp_path / "killed") == timeless(tmp_path / "whole")


@pytest.mark.slow
def test_a_policy_learns_its_heuristic_and_what_tokens_cost(data: Path, dense: Path, tmp_path: Path):
    imitation = with_spec(policy_stage(data, dense, by="imitation", keep=0.5), "stage", epochs=20)
    trained(imitation, tmp_path / "imitation")
    log = log_of(tmp_path / "imitation")
    # two layers, so that a coin would lose 2 ln 2
    assert log[-1]["policy"] < 0.95 * 2 * np.log(2)
    costly = with_spec(
        policy_stage(data, tmp_path / "imitation" / "model", by="reinforce", cost=20.0), "stage", epochs=20
    )
    trained(costly, tmp_path / "costly")
    log = log_of(tmp_path / "costly")
    assert log[-1]["kept"] < 0.7 * log[0]["kept"]
    assert log[-1]["reward"] > log[0]["reward"]


def test_with_a_policy_everything_can_be_trained(data: Path, dense: Path, tmp_path: Path):
    found = trained(policy_stage(data, dense, by="reinforce", samples=2, trains="all"), tmp_path)
    assert {"policy", "exit_4", "reward", "kept"} <= set(log_of(tmp_path)[0])
    before = load_file(dense / "model.safetensors")
    assert not torch.equal(found["encoder.layers.0.up.weight"], before["encoder.layers.0.up.weight"])


# --- learning from the layers of a teacher ------------------------------------------------------------------------


def learning_layers(data: Path, folder: Path, **teacher: Any) -> StageInputs:
    """A stage whose student has every second layer and learns from the layers of a model in `folder` alone."""
    tiny.model(last_head="bert", **teacher).save_pretrained(folder)
    tiny.save_tokenizer(folder)
    distill = {"teacher": "other", "mu": 0.0, "labels": 0.0, "layers": {}}
    inputs = with_spec(with_spec(inputs_of(data, "dense"), "stage", distill=distill), "", layers={"every": 2})
    return replace(inputs, teacher_model=folder)


@pytest.mark.slow
@pytest.mark.parametrize("teacher", [{}, {"hidden": 16}], ids=["same width", "projected"])
def test_a_student_learns_from_layers_and_resumes_to_the_same_weights(
    data: Path, tmp_path: Path, teacher: dict[str, Any]
):
    inputs = with_spec(learning_layers(data, tmp_path / "teacher", **teacher), "stage", epochs=10)
    found = trained(inputs, tmp_path / "whole")
    log = log_of(tmp_path / "whole")
    assert {"hidden", "attention"} <= set(log[0]) and not {"exit_2", "distillation"} & set(log[0])
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]
    assert not [name for name in found if "projection" in name and "exit_heads" not in name]
    train_and_kill(inputs, tmp_path / "killed", 6)
    require_same(trained(inputs, tmp_path / "killed"), found)
    assert load_model(tmp_path / "whole" / "model").config.num_hidden_layers == 2


def test_the_teacher_s_weights_are_in_the_fingerprint_and_its_tokens_must_be_the_student_s(data: Path, tmp_path: Path):
    inputs = learning_layers(data, tmp_path / "teacher")
    before = inputs.fingerprint()
    assert before != replace(inputs, teacher_model=None).fingerprint()
    tiny.model(last_head="bert", seed=5).save_pretrained(tmp_path / "teacher")
    assert inputs.fingerprint() != before
    with pytest.raises(EatError, match=r"no model was given; pass --teacher-model"):
        trained(replace(inputs, teacher_model=None), tmp_path)
    tokenizer = json.loads((tmp_path / "teacher" / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (tmp_path / "teacher" / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(EatError, match=r"its tokenizer is not that of .*backbone, so their layers have other tokens"):
        trained(inputs, tmp_path)


# --- several widths (DynaBERT) ------------------------------------------------------------------------------------


def at_widths(data: Path, dense: Path, folder: Path, **widths: Any) -> StageInputs:
    """A stage that trains two widths of a dense model, which is also its teacher, by logits and hidden states."""
    parts = tiny.study().parts("dense")
    labels = ["negative", "positive"]
    record_trace([dense], parts, data / "train.parquet", labels, 32, "teacher").write(folder / "teacher.parquet")
    distill = {"teacher": "dense", "mu": 1.0, "temperature": 1.0, "labels": 0.0}
    distill["layers"] = {"hidden": 0.1, "attention": 0.0}
    stage = {"widths": {"train": [1.0, 0.5], **widths}, "distill": distill, "epochs": 4}
    inputs = with_spec(inputs_of(data, "dense"), "stage", **stage)
    return replace(inputs, parent=dense, teacher=[folder / "teacher.parquet"], teacher_model=dense)


def test_widths_learn_together_and_resume_to_the_same_weights(data: Path, dense: Path, tmp_path: Path):
    inputs = at_widths(data, dense, tmp_path)
    found = trained(inputs, tmp_path / "whole")
    log = log_of(tmp_path / "whole")
    assert {"distillation", "hidden", "distillation_at_0.5", "hidden_at_0.5"} <= set(log[0])
    assert not [name for name in log[0] if name.startswith("exit")]
    # the full width begins as its teacher, but for dropout; the narrow one learns to compute what it computes
    assert log[0]["hidden"] < log[0]["hidden_at_0.5"]
    assert log[-1]["hidden_at_0.5"] < 0.8 * log[0]["hidden_at_0.5"]
    train_and_kill(inputs, tmp_path / "killed", 6)
    require_same(trained(inputs, tmp_path / "killed"), found)
    narrow = load_model(tmp_path / "whole" / "model", Parts(width=0.5))
    assert narrow.config.shape["heads"] == 2 and found["encoder.layers.0.up.weight"].shape == (64, 32)


def test_heads_and_neurons_are_ordered_before_training_unless_they_are_kept(data: Path, dense: Path, tmp_path: Path):
    """At a rate of 1e-9 the weights stay, so that only their order can change."""
    before = load_file(dense / "model.safetensors")["encoder.layers.0.up.bias"]
    biases = {}
    for order in ("kept", "importance"):
        inputs = with_spec(at_widths(data, dense, tmp_path, order=order), "training", learning_rate=1e-9)
        biases[order] = trained(inputs, tmp_path / order)["encoder.layers.0.up.bias"]
    torch.testing.assert_close(biases["kept"], before, atol=1e-6, rtol=0.0)
    assert not torch.allclose(biases["importance"], before, atol=1e-3)
    torch.testing.assert_close(biases["importance"].sort().values, before.sort().values, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(
    ("layers", "taken"),
    [
        ({"every": 2}, [2, 4]),
        ({"first": 3}, [1, 2, 3]),
        ({"numbers": [4, 1]}, [4, 1]),
        ({"stacked": 2}, [1, 2, 3, 4, 1, 2, 3, 4]),
        ({}, None),
    ],
)
def test_a_student_takes_its_layers_of_the_parent(data: Path, layers: dict[str, Any], taken: list[int] | None):
    spec = tiny.changed(inputs_of(data, "dense").spec, layers=layers)
    model = build_model(spec, data / "backbone", ["negative", "positive"])
    parent = read_checkpoint(data / "backbone").tensors
    taken = taken or [1, 2, 3, 4]
    assert model.config.num_hidden_layers == len(taken)
    for layer, source in enumerate(taken):
        for name, parameter in model.encoder.layers[layer].named_parameters():
            assert torch.equal(parameter, parent[f"layers.{source - 1}.{name}"])
    # copies are trained independently
    parameters = list(model.encoder.layers.parameters())
    assert len({parameter.data_ptr() for parameter in parameters}) == len(parameters)


def test_the_separator_is_that_of_the_tokenizer(data: Path):
    # `protect: [sep]` must find [SEP], which is 102 in BERT's vocabulary and 3 in this one
    assert build_model(inputs_of(data).spec, data / "backbone", ["a", "b"]).encoder.shape.separator == tiny.SEP


def test_accumulated_gradients_are_those_of_one_large_batch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The trainer of a stage divides its mean loss by the batches of a step, whatever the stock trainer would do."""
    tiny.backbone(tmp_path / "parent")
    config = json.loads((tmp_path / "parent" / "config.json").read_text())
    dropped = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "parent" / "config.json").write_text(json.dumps(config | dropped))
    original = stage.trainer_arguments
    found = []
    for size, accumulated in ((4, 1), (2, 2)):

        def arguments(*given: Any, size: int = size, accumulated: int = accumulated) -> Any:
            made = original(*given)
            made.optim, made.max_grad_norm = "sgd", 0.0  # neither Adam nor clipping, which hide the scale of a gradient
            made.per_device_train_batch_size, made.gradient_accumulation_steps = size, accumulated
            return made

        monkeypatch.setattr(stage, "trainer_arguments", arguments)
        inputs = replace(inputs_of(data, "dense"), parent=tmp_path / "parent")
        found.append(trained(inputs, tmp_path / str(size)))
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, atol=1e-6, rtol=0)


def test_pairs_are_refused_by_a_parent_without_a_segment_for_them(data: Path, tmp_path: Path):
    tiny.backbone(tmp_path / "parent")
    config = tiny.stock().config
    config.type_vocab_size = 1
    BertModel(config).save_pretrained(tmp_path / "parent")
    tiny.split(tmp_path / "train.parquet", rows=24, pairs=True)
    inputs = replace(inputs_of(data), parent=tmp_path / "parent")
    trained(inputs, tmp_path / "single")
    with pytest.raises(EatError, match=r"gives a pair of texts 2 segments, but the model embeds 1 \(type_vocab_size\)"):
        trained(replace(inputs, train=[tmp_path / "train.parquet"]), tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_precision_is_in_force(
    data: Path, tmp_path: Path, hooked: list[tuple[bool, torch.dtype]], precision: str, dtype: torch.dtype
):
    inputs = with_spec(with_spec(inputs_of(data), "training", precision=precision), "stage", epochs=1, anneal=None)
    with tiny.any_precision():
        saved = trained(inputs, tmp_path)
    assert hooked == [(True, dtype)] * 6
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert read_json(tmp_path / "model" / "config.json")["trained"] == {"device": "cpu", "precision": precision}


def test_a_precision_that_is_of_no_use_here_gives_way_to_float32(
    data: Path,
    tmp_path: Path,
    hooked: list[tuple[bool, torch.dtype]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    inputs = with_spec(with_spec(inputs_of(data), "training", precision="bfloat16"), "stage", epochs=1, anneal=None)
    with tiny.any_precision():
        elsewhere = inputs.fingerprint()
    monkeypatch.setattr(
        "eat.engines.setting.training_fault",
        lambda precision, device: "takes 7 times as long as float32" if precision == "bfloat16" else None,
    )
    assert inputs.fingerprint() != elsewhere  # a checkpoint in bfloat16 is not resumed in float32
    trained(inputs, tmp_path)
    assert hooked == [(True, torch.float32)] * 6
    assert read_json(tmp_path / "model" / "config.json")["trained"] == {"device": "cpu", "precision": "float32"}
    line = f"training in float32, since bfloat16 takes 7 times as long as float32 on this processor ({cpu_name()})\n"
    assert line in capsys.readouterr().err


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_step_and_texts(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loss = losses.JointLoss.__call__
    calls = 0

    def breaking(self: Any, *given: Any) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        parts = loss(self, *given)
        return {name: part * torch.nan for name, part in parts.items()} if calls == 5 else parts

    monkeypatch.setattr(losses.JointLoss, "__call__", breaking)
    with pytest.raises(EatError, match=r"the loss is nan at step 5 \(exit_2 nan, exit_4 nan\); texts: ") as error:
        trained(inputs_of(data), tmp_path)
    named = str(error.value).split("texts: ")[1].split(";")[0].split(", ")
    assert len(named) == 4
    assert set(named) <= set(tiny.table(24)["id"])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("", {"max_length": 65}, r"max_length is 65, but .* has 64 positions; lower it"),
        ("", {"layers": {"first": 5}}, r"first 5 of a model that has 4; use at most 4"),
        ("stage", {"train_heads": [3]}, r"train_heads names layer 3, which has no head; heads are after: 2, 4"),
        ("stage", {"exit_weights": {"1": 0.5}}, r"exit_weights names layer 1, which has no head"),
        ("stage", {"exit_weights": {"2": 0.0, "4": 0.0}}, r"exit_weights is 0 for every trained exit"),
        (
            "stage",
            {"steps": "alternating", "exit_weights": {"4": 0.0}},
            r"trains the last exit alone .* layer 4 a weight",
        ),
        ("reducer", {"after": [2, 9]}, r"after layer 9 of a model with 4 layers"),
    ],
    ids=["length", "layers", "heads", "weights", "no weight", "no weight for the last", "removal"],
)
def test_a_recipe_that_does_not_fit_the_model(
    data: Path, tmp_path: Path, part: str, changes: dict[str, Any], message: str
):
    with pytest.raises(EatError, match=message):
        trained(with_spec(inputs_of(data), part, **changes), tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_damaged_parent(data: Path, tmp_path: Path):
    parent = tmp_path / "parent"
    tiny.backbone(parent)
    path = parent / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        trained(replace(inputs_of(data), parent=parent), tmp_path)
    assert not (tmp_path / "model").exists()
