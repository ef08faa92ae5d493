"""`config/paper.yaml`: planned at once, and run small, from models of the hub's shapes that lie in a cache made here.

The stand-ins have random weights and the layers, heads, tensor names and files of bert-base-uncased and
distilbert-base-uncased, but narrow layers and a small vocabulary.
"""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import yaml
from glue_folder import write_glue
from hub_cache import put_model, put_task
from project_copy import FOLDER, ROOT, SNAKEMAKE, Copy, copy_project
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining, DistilBertConfig, DistilBertForMaskedLM

from eat.files import read_json
from eat.model.weights import read_checkpoint
from eat.prepare.sources.registry import reader_of
from eat.prepare.splits import prepare_text
from eat.study.backbones import HubBackbone
from eat.study.loading import load_study
from eat.study.recipes import Annealing
from eat.study.study import Study
from eat.study.tasks import HubSource

pytestmark = pytest.mark.skipif(not SNAKEMAKE.is_file(), reason="snakemake is not installed beside python")

WIDTH, POSITIONS = 24, 512


@pytest.fixture(scope="module")
def paper() -> Study:
    return load_study(ROOT / "config" / "paper.yaml")


def bert_base(folder: Path) -> None:
    """BERT-base's shape but for its width, with the names its layer norms have on the hub: gamma and beta."""
    config = BertConfig(vocab_size=tiny.VOCABULARY, hidden_size=WIDTH, intermediate_size=4 * WIDTH)
    assert (config.num_hidden_layers, config.num_attention_heads, config.max_position_embeddings) == (12, 12, POSITIONS)
    model = BertForPreTraining(config)
    tiny.randomise(model, seed=0)  # as it begins, every token has the same norm, and which goes is a matter of rounding
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    for new, name in old.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    assert sum("gamma" in name for name in tensors) == 2 * 12 + 2  # of the layers, the embeddings, the pretraining head
    save_file(tensors, path, metadata={"format": "pt"})
    tiny.save_tokenizer(folder)


def distilbert_base(folder: Path) -> None:
    """DistilBERT-base's shape but for its width."""
    config = DistilBertConfig(vocab_size=tiny.VOCABULARY, dim=WIDTH, hidden_dim=4 * WIDTH)
    assert (config.n_layers, config.n_heads, config.max_position_embeddings) == (6, 12, POSITIONS)
    model = DistilBertForMaskedLM(config)
    tiny.randomise(model, seed=1)
    model.save_pretrained(folder)
    tiny.save_tokenizer(folder)


@pytest.fixture(scope="module")
def home(paper: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the hub with all that the study takes from there."""
    folder = tmp_path_factory.mktemp("hub")
    for name, write in (("bert-base", bert_base), ("distilbert", distilbert_base)):
        backbone = paper.backbones[name]
        assert isinstance(backbone, HubBackbone)
        write(folder / name)
        put_model(folder, backbone, folder / name)
    glue = write_glue(folder / "GLUE", examples=160)
    for task in paper.tasks.values():
        assert isinstance(task.source, HubSource)
        in_folder = task.source.model_dump() | {"kind": "glue_dir"}
        texts = load_study(_reading(in_folder)).tasks["task"].source
        put_task(folder, task.source, reader_of(texts, str(glue)).read())
    return folder


def _reading(source: dict[str, Any]) -> dict[str, Any]:
    """A study of one task that reads this source."""
    value = tiny.study().model_dump(mode="json", by_alias=True)
    return value | {"tasks": {"task": {"source": {key: source[key] for key in ("kind", "task")}}}}


# --- the study as it is shipped -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dry_run_takes_less_than_ten_seconds(tmp_path: Path) -> None:
    copy = copy_project(tmp_path / FOLDER)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    plan = copy.dry_run("paper.yaml")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "prepare_text" in plan
    # of the processor's time, since tests may run beside others; what it waits for, it waits for them
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10.0


def test_the_study_is_the_papers(paper: Study) -> None:
    assert {name: task.max_length for name, task in paper.tasks.items()} == {
        "sst2": 256, "qqp": 256, "mnli": 320, "mnli-mm": 320,
    }  # fmt: skip
    rates = {task: paper.training_spec(task, "eat-6", "finetune").stage.learning_rate for task in paper.tasks}
    assert (rates["sst2"], rates["qqp"], rates["mnli"]) == (2e-5, 2e-5, 3e-5)
    spec = paper.training_spec("sst2", "eat-6", "finetune")
    assert (spec.stage.epochs, spec.stage.anneal) == (3.0, Annealing(start_epoch=1.0, end_epoch=3.0))
    assert (spec.training.batch_size, spec.training.weight_decay) == (32, 0.01)
    assert {system.precision for system in paper.systems.values()} == {paper.training.precision} == {"float16"}
    assert (paper.timing.device, paper.timing.texts, paper.timing.warmup) == ("cuda", 1000, 50)
    assert (paper.timing.batch_sizes, paper.seeds) == ([1, 32], [1, 2, 3])
    assert all(task.dev_examples is None and task.train_examples is None for task in paper.tasks.values())


def test_matched_and_mismatched_calibrate_on_the_same_text(
    paper: Study, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    cut = {"splits": {"calibration": 0.2}}
    tables = {}
    for name in ("mnli", "mnli-mm"):
        task = paper.tasks[name].model_copy(
            update={"splits": paper.tasks[name].splits.model_copy(update=cut["splits"])}
        )
        prepare_text(name, task, tmp_path / name)
        tables[name] = {
            split: pd.read_parquet(tmp_path / name / f"{split}.parquet") for split in ("calibration", "dev")
        }
    assert tables["mnli"]["calibration"].equals(tables["mnli-mm"]["calibration"])
    assert not set(tables["mnli"]["dev"]["id"]) & set(tables["mnli-mm"]["dev"]["id"])


def test_the_stand_ins_have_the_shapes_of_the_hubs_models(home: Path) -> None:
    bert, distilbert = (read_checkpoint(home / name) for name in ("bert-base", "distilbert"))
    assert (bert.shape.layers, bert.shape.heads, bert.shape.positions, bert.shape.token_types) == (12, 12, 512, 2)
    assert (distilbert.shape.layers, distilbert.shape.heads, distilbert.shape.token_types) == (6, 12, 0)
    assert "layers.11.output_norm.weight" in bert.tensors


# --- the same rules, small ----------------------------------------------------------------------------------------


def small(paper: Study) -> dict[str, Any]:
    """The study for a CPU and a minute or two: one seed, few texts, half an epoch, float32; MNLI in both forms."""
    value = paper.model_dump(mode="json", by_alias=True)
    value["seeds"] = [1]
    value["tasks"] = {name: value["tasks"][name] for name in ("mnli", "mnli-mm")}
    for task in value["tasks"].values():
        task |= {"splits": {"calibration": 0.2}, "train_examples": 64, "dev_examples": 40, "max_length": 32}
        task |= {"epochs_scale": 0.17}
    for name in ("eat-6-patience", "eat-6"):
        del value["systems"][name]
    for system in value["systems"].values():
        system["precision"] = "float32"
    value["training"] |= {"precision": "float32"}
    value["timing"] |= {"device": "cpu", "texts": 16, "warmup": 2, "repeats": 1, "passes": 2, "threads": 1}
    return value


@pytest.fixture(scope="module")
def run(paper: Study, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = copy_project(tmp_path_factory.mktemp("paper") / FOLDER)
    (copy.folder / "config" / "small.yaml").write_text(yaml.safe_dump(small(paper), sort_keys=False), encoding="utf-8")
    copy.environment |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = ("--cores", "2", "--configfile", "config/small.yaml", "--", "results/paper/summary.csv")
    done = copy.snakemake(*command)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return copy


@pytest.mark.workflow
def test_the_rules_run_on_models_of_the_hubs_shapes(run: Copy) -> None:
    summary = pd.read_csv(run.folder / "results" / "paper" / "summary.csv")
    assert set(summary["task"]) == {"mnli", "mnli-mm"}
    chosen = summary[summary["chosen"] & (summary["batch_size"] == 1)]
    systems = ["bert-12", "distilbert-6", "eat-6-distilled", "eat-12", "hf-dense", "hf-dense-again"]
    for task in ("mnli", "mnli-mm"):
        rows = chosen[chosen["task"] == task].set_index("system")
        assert set(systems) <= set(rows.index)
        assert (rows.loc[systems, "n"] == 40).all()
        assert rows.loc["bert-12", "avg_depth"] == rows.loc["hf-dense", "avg_depth"] == 12
        assert rows.loc["distilbert-6", "avg_depth"] == 6
        assert rows.loc["bert-12", "accuracy"] == rows.loc["hf-dense", "accuracy"]
        assert rows.loc["eat-6-distilled", "gflops"] < rows.loc["bert-12", "gflops"]


@pytest.mark.workflow
def test_the_mismatched_task_trains_nothing(run: Copy) -> None:
    results = run.folder / "results" / "paper"
    assert sorted(path.name for path in (results / "models").iterdir()) == ["mnli"]
    assert sorted(path.name for path in (results / "traces").iterdir()) == ["mnli", "mnli-mm"]
    fitted = [
        read_json(results / "calibration" / task / "eat-12" / "seed1.json")["temperatures"]
        for task in ("mnli", "mnli-mm")
    ]
    assert fitted[0] == fitted[1]
    points = pd.concat(
        pd.read_parquet(results / "operating_points" / f"{task}.parquet") for task in ("mnli", "mnli-mm")
    )
    chosen = points[points["chosen"] & (points["split"] == "calibration")]
    by_task = chosen.pivot(index="system", columns="task", values="tau")
    assert by_task["mnli"].equals(by_task["mnli-mm"])


@pytest.mark.workflow
def test_without_the_hubs_cache_the_run_stops_with_one_line(run: Copy, tmp_path: Path) -> None:
    copy = copy_project(tmp_path / FOLDER)
    shutil.copy(run.folder / "config" / "small.yaml", copy.folder / "config")
    copy.environment |= {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1"}
    command = ("--cores", "1", "--configfile", "config/small.yaml", "--until", "fetch_backbone")
    done = copy.snakemake(*command)
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error: ")]
    assert any("config.json of commit" in line and "HF_HUB_OFFLINE is set" in line for line in lines)
