"""Several processes train one stage as a single one does, here on the CPU over gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from eat.errors import EatError
from eat.finetune.examples import collate, training_examples
from eat.finetune.launching import _reason
from eat.finetune.losses import JointLoss
from eat.finetune.shares import Counts, Share
from eat.finetune.stage import StageInputs, train_stage
from eat.validation import canonical_json

ROOT = Path(__file__).resolve().parent.parent


def examples(labels: list[int]) -> list[dict[str, Any]]:
    """Texts of different lengths with these labels, and logits of a teacher."""
    texts = tiny.texts([3 + 2 * number for number in range(len(labels))])
    teacher = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(1)).numpy()
    return training_examples(texts, torch.tensor(labels).numpy(), teacher)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1], [0, -1, -1, 1, -1], [-1, -1, -1], [1], [0, 1]])
@pytest.mark.parametrize("processes", [2, 3])
def test_the_weighted_losses_of_the_shares_add_up_to_the_loss_of_the_batch(labels: list[int], processes: int) -> None:
    batch = examples(labels)
    loss = JointLoss({2: 0.3, 4: 1.0}, mu=0.5, temperature=2.0, distilled={2: 0.3, 4: 1.0})
    logits = {depth: torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(depth)) for depth in (2, 4)}

    def parts(packed: dict[str, Any]) -> dict[str, torch.Tensor]:
        own = {depth: values[packed["rows"]] for depth, values in logits.items()}
        return loss(own, packed["labels"], packed["teacher"])

    found = dict.fromkeys(("exit_2", "exit_4", "distillation"), 0.0)
    rows: list[int] = []
    for rank in range(processes):
        packed = Share(rank, processes).collate(batch)
        rows += packed["rows"] if packed["weights"].own.texts else []
        for name, part in parts(packed).items():
            found[name] += packed["weights"].of(name) * float(part)
    assert sorted(rows) == [*range(len(labels))]
    assert found == pytest.approx({name: float(part) for name, part in parts(collate(batch)).items()}, abs=1e-6)


def test_means_over_tokens_and_pairs_are_weighted_by_their_numbers() -> None:
    batch = examples([0, 1, 0])  # of 3, 5 and 7 tokens
    first, second = (Share(rank, 2).collate(batch)["weights"] for rank in (0, 1))
    assert (first.own, second.own) == (Counts(2, 2, 10, 58), Counts(1, 1, 5, 25))
    assert (first.of("hidden"), second.of("hidden")) == (10 / 15, 5 / 15)
    assert (first.of("attention"), second.of("attention")) == (58 / 83, 25 / 83)


@pytest.mark.parametrize(
    ("training", "line"),
    [
        ({"gpus": 0}, "training.gpus: found 0; input should be greater than or equal to 1"),
        ({"gpus": 2}, "gpus: 2 with device: auto; several processes train on cuda, or on the cpu"),
        ({"gpus": 2, "device": "mps"}, "gpus: 2 with device: mps; several processes train on cuda, or on the cpu"),
        ({"gpus": 8, "device": "cuda"}, "gpus: 8 with batch_size: 4; each GPU trains on a share of the batch"),
    ],
)
def test_processes_that_could_not_share_a_batch_are_refused(training: dict[str, Any], line: str) -> None:
    with pytest.raises(EatError) as error:
        tiny.study(training={"batch_size": 4, **training})
    (found,) = str(error.value).splitlines()
    assert line in found


def test_one_draw_for_a_whole_batch_is_refused() -> None:
    systems = tiny.study().plain()["systems"]
    systems["dense"]["recipe"] = [{"layer_drop": 0.2}]
    with pytest.raises(EatError) as error:
        tiny.study(systems=systems, training={"batch_size": 4, "device": "cuda", "gpus": 2})
    (found,) = str(error.value).splitlines()
    assert "systems.dense.recipe.0: layer_drop: 0.2 with training.gpus: 2; one draw decides" in found


def test_a_small_batch_of_a_task_is_refused() -> None:
    tasks = tiny.study().plain()["tasks"]
    tasks["tiny"]["batch_size"] = 2
    with pytest.raises(EatError, match=r"tasks\.tiny\.batch_size: found 2, but training\.gpus is 4"):
        tiny.study(tasks=tasks, training={"batch_size": 4, "device": "cuda", "gpus": 4})


def test_one_gpu_is_not_in_the_parameters_of_a_stage() -> None:
    def parameter(**training: Any) -> str:
        return tiny.study(training={"device": "cuda", **training}).training_spec("tiny", "eat", "finetune").to_json()

    assert parameter(gpus=1) == parameter() != parameter(gpus=2)
    assert "gpus" not in parameter() and '"gpus":2' in parameter(gpus=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `backbone/` without dropout, `train.parquet` and `card.json`."""
    folder = tmp_path_factory.mktemp("several")
    tiny.backbone(folder / "backbone")
    file = folder / "backbone" / "config.json"
    dropped = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    file.write_text(json.dumps(json.loads(file.read_text()) | dropped))
    tiny.split(folder / "train.parquet", rows=25)  # in batches of 4 the last has one text, and one process has none
    return folder


def inputs_of(data: Path, gpus: int) -> StageInputs:
    """Those of 280 steps of a dense model, with checkpoints after 100 and 200."""
    study = tiny.study(training={"batch_size": 4, "learning_rate": 1e-4, "device": "cpu", "gpus": gpus})
    spec = tiny.changed(study.training_spec("tiny", "dense", "finetune"), "stage", epochs=40.0)
    return StageInputs(spec, data / "backbone", [data / "train.parquet"], data / "card.json", seed=1)


def test_a_stage_is_not_trained_by_fewer_processes_than_it_names(data: Path, tmp_path: Path) -> None:
    with pytest.raises(EatError, match=r"training\.gpus is 2, but the stage is trained by 1 process here"):
        train_stage(inputs_of(data, 2), tmp_path / "model", tmp_path / "checkpoints", "tiny")


def test_the_reason_of_a_failure_is_the_first_that_a_process_knows(tmp_path: Path) -> None:
    assert "process 2 was killed by SIGKILL" in _reason(tmp_path, {0: 1, 1: -9})
    for rank, known, moment in ((0, False, 1.0), (1, True, 3.0), (2, True, 2.0)):
        failure = {"known": known, "text": f"reason {rank}", "time": moment}
        (tmp_path / f"failed-{rank}.json").write_text(canonical_json(failure))
    assert _reason(tmp_path, {0: 1, 1: 1, 2: 1}) == "reason 2"


def command(inputs: StageInputs, folder: Path) -> subprocess.Popen[str]:
    """Start `workflow_scripts.finetune` with a configuration of the user that `accelerate` must not read."""
    settings = folder / "home" / "accelerate" / "default_config.yaml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 7\n")
    options = {
        "name": "tiny",
        "spec": inputs.spec.to_json(),
        "parent": inputs.parent,
        "train": inputs.train[0],
        "card": inputs.card,
        "seed": inputs.seed,
        "threads": 2,
        "checkpoints": folder / "checkpoints",
        "out": folder / "model",
    }
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    return subprocess.Popen(
        [sys.executable, "-m", "workflow_scripts.finetune", *words],
        cwd=ROOT,
        env=os.environ | {"HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_train_as_one_and_resume_after_a_signal(data: Path, tmp_path: Path) -> None:
    inputs = inputs_of(data, 2)
    first = command(inputs, tmp_path)
    while first.poll() is None and not [*(tmp_path / "checkpoints").glob("*/*/checkpoint-100/complete")]:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, errors = first.communicate(timeout=30)
    assert (first.returncode, time.monotonic() - began < 10) == (128 + signal.SIGTERM, True), errors
    assert [line for line in errors.splitlines() if not line.startswith("tiny: ")] == [
        "error: ended by SIGTERM; run the same command again"
    ]
    second = command(inputs, tmp_path)
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    assert errors.count("resuming at step 100") == 1
    assert [line for line in errors.splitlines() if not line.startswith("tiny: ")] == []
    alone = tmp_path / "alone"
    train_stage(inputs_of(data, 1), alone / "model", alone / "checkpoints", "tiny")
    require_close(tmp_path / "model", alone / "model")


def require_close(found: Path, expected: Path) -> None:
    """Weights and logs are equal to 1e-4.

    The biases of keys, the second third of `qkv.bias`, change no attention. Their gradient is rounding, from which Adam
    makes steps of the learning rate.
    """
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (found, expected))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        apart = (ours[name] - tensor).abs()
        apart = apart.view(3, -1)[[0, 2]] if name.endswith("qkv.bias") else apart
        assert float(apart.max()) < 1e-4, name
    logs = [[json.loads(line) for line in (folder / "train_log.jsonl").open()] for folder in (found, expected)]
    assert len(logs[0]) == len(logs[1]) == 28
    for line, other in zip(*logs, strict=True):
        assert line == pytest.approx(other | {"tokens_per_s": line["tokens_per_s"]}, rel=1e-4)


@pytest.mark.slow
def test_an_error_of_the_processes_is_one_line(data: Path, tmp_path: Path) -> None:
    done = command(replace(inputs_of(data, 2), card=tmp_path / "absent.json"), tmp_path)
    _, errors = done.communicate(timeout=120)
    assert done.returncode == 1
    (line,) = [line for line in errors.splitlines() if not line.startswith("tiny: ")]
    assert line.startswith("error: ") and "absent.json" in line
