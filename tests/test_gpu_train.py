"""`eat gpu train` as it runs on the CPU with tiny weights and a few texts, and the page made of its results. No GPU."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eat import cli
from eat.bench import gpu_train
from eat.bench.bundle import TEXT, pack
from eat.bench.gpu_results import gpu_page, gpu_table
from eat.bench.gpu_train import TrainOptions, run_train, study_of
from eat.errors import EatError
from eat.files import read_json, write_json
from workflow_scripts import gpu_bundle, gpu_results

pytestmark = pytest.mark.slow

SYSTEMS = ("dense-6", "student-3", "eat-6", "adapt-6")
ENDS = ("", "_low", "_high")
FILES = {"models.json", "timing-batch-1.json", "timing-batch-32.json", "train.json"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a dry run of the command."""
    out = tmp_path_factory.mktemp("gpu") / "out"
    threads = torch.get_num_threads()
    cli.main(["gpu", "train", "--dry-run", "--out", str(out)])
    torch.set_num_threads(threads)
    return out


def test_a_dry_run_trains_and_times_every_system(results: Path):
    assert {path.name for path in results.iterdir()} == FILES
    files = {path.stem: read_json(path) for path in results.iterdir()}
    assert files["train"]["parts"] == {
        name: {"left_out": [], "failed": []} for name in ("models", "timing-batch-1", "timing-batch-32")
    }
    for content in files.values():
        assert content["device"] == "cpu"
        assert {"cpu", "gpu", "driver", "cuda"} <= set(content["machine"])
    models = files["models"]["rows"]
    assert {(row["system"], row["seed"]) for row in models} == {(name, seed) for name in SYSTEMS for seed in (1, 2)}
    assert {row["tau"] for row in models if row["system"] == "eat-6"} == {0.8, 0.9, 0.95}
    assert all(0 <= row["accuracy"] <= 1 and row["n"] == 40 and row["seconds_training"] > 0 for row in models)
    for size, graphs in ((1, {f"{name}-graphs" for name in SYSTEMS}), (32, set())):
        rows = {row["system"]: row for row in files[f"timing-batch-{size}"]["rows"]}
        assert set(rows) == {"hf-dense", *SYSTEMS} | graphs
        assert rows["dense-6"]["over_dense-6"] == 1.0
        assert all(row["over_hf-dense"] > 0 and row["fault"] is None for row in rows.values())
        # on all of dev, by the same answers
        assert all(rows[name]["accuracy"] == rows[name.removesuffix("-graphs")]["accuracy"] for name in graphs)
        assert rows["dense-6"]["difference"] == 0.0
    assert json.loads(rows["adapt-6"]["exit_rates"]).keys() <= {"1", "2", "3", "4", "5", "6"}


def test_a_page_and_a_table_are_made_of_the_files(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["gpu_results", "--results", str(results), "--out", str(tmp_path)])
    gpu_results.main()
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "## Goals" in page and "dense under graphs over stock eager" in page
    assert (tmp_path / "gpu.csv").read_text(encoding="utf-8").startswith("goal,system,over,text,batch_size,speedup,")
    # nothing that no GPU measured is published
    monkeypatch.setattr("sys.argv", ["gpu_results", "--results", str(results)])
    with pytest.raises(EatError, match="not measured on a GPU, so it is not published"):
        gpu_results.main()


def facts(**changes: Any) -> dict[str, Any]:
    machine = {"gpu": "a card", "driver": "1.2", "cuda": "13.0", "cpu": "a processor"}
    return {"device": "cuda", "date": "2026-11-28", "machine": machine, "versions": {"torch": "2.13"}, **changes}


def timed(system: str, size: int, high: float = 0.01, **over: tuple[float, float, float]) -> dict[str, Any]:
    ends = {f"over_{name}{end}": value for name, found in over.items() for end, value in zip(ENDS, found, strict=True)}
    return {"system": system, "batch_size": size, "difference_low": -0.02, "difference_high": high, **ends}


def test_a_goal_is_met_if_the_whole_interval_is_and_no_loss_is_shown(tmp_path: Path):
    rows = [
        timed("dense-6-graphs", 1, **{"hf-dense": (5.0, 4.5, 5.5)}),
        timed("adapt-6-graphs", 1, **{"hf-dense": (9.0, 8.0, 10.0), "dense-6-graphs": (1.6, 1.4, 1.8)}),
    ]
    write_json(tmp_path / "timing-batch-1.json", facts(rows=rows))
    batch = [timed("adapt-6", 32, high=-0.001, **{"dense-6": (2.0, 1.9, 2.1)})]
    write_json(tmp_path / "timing-batch-32.json", facts(rows=batch))
    engine = {"length": 32, "batch_size": 1, "precision": "float16", "fault": None}
    ends = {"speedup_over": 3.5, "speedup_over_low": 3.2, "speedup_over_high": 3.8}
    mixed = {**engine, "system": "graphs-eat-float16-12 at 80%", "exit_rate": 0.8, "over": "hf-float16-12", **ends}
    stock = {"stock": "hf-float16-12", "stock_speedup": 4.1, "stock_speedup_low": 3.9, "stock_speedup_high": 4.3}
    wrong = {"length": 64, "batch_size": 1, "fault": "packed-12 differs"}
    found = [{**engine, "system": "graphs-float16-12", **stock}, mixed, wrong]
    write_json(tmp_path / "engine-bert-base-batch-1.json", facts(rows=found))
    table = gpu_table(tmp_path)
    goals = table[table["target"].notna()]
    assert dict(zip(goals["system"], goals["met"], strict=True)) == {
        "dense-6-graphs": "met",
        "adapt-6-graphs": "not met",  # the interval reaches below the goal
        "adapt-6": "not met",  # less accurate
        "graphs-float16-12": "not met",
        "graphs-eat-float16-12 at 80%": "met",
    }
    assert set(table["card"]) == {"a card"} and len(table) == 6
    page = gpu_page(table)
    assert "a card, driver 1.2, CUDA 13.0" in page and "## Other speed-ups" in page


def test_results_of_two_cards_are_refused(tmp_path: Path):
    with pytest.raises(EatError, match="no results of `eat gpu`"):
        gpu_table(tmp_path)
    other = {**facts()["machine"], "gpu": "another card"}
    for size, machine in ((1, facts()["machine"]), (32, other)):
        rows = [timed("dense-6", size, **{"hf-dense": (1.0, 1.0, 1.0)})]
        write_json(tmp_path / f"timing-batch-{size}.json", facts(machine=machine, rows=rows))
    with pytest.raises(
        EatError, match=r"results of several machines \(a card, 1\.2, 2\.13; another card, 1\.2, 2\.13\)"
    ):
        gpu_table(tmp_path)


def test_the_study_is_that_of_the_configuration():
    study = study_of(TrainOptions())
    assert list(study.systems) == list(SYSTEMS) and study.seeds == [1, 2, 3]
    assert study.timing.device == study.training.device == "cuda"
    assert {row.precision for row in study.systems.values()} == {"float16"}
    dry = study_of(TrainOptions(dry_run=True))
    assert list(dry.systems) == list(SYSTEMS) and dry.timing.device == "cpu"


def test_a_bundle_without_text_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu_train, "resolve_device", lambda name, key: torch.device("cpu"))
    with pytest.raises(EatError, match=r"no bundle\.json, so it is not a bundle"):
        run_train(TrainOptions(tmp_path / "out", tmp_path / "none"))
    write_json(tmp_path / "bundle" / "bundle.json", {"python": "3.12", "files": {}})
    with pytest.raises(EatError, match=r"the bundle has no text of SST-2; pack it again where GLUE's files are"):
        run_train(TrainOptions(tmp_path / "out", tmp_path / "bundle"))
    assert not (tmp_path / "out").exists()


def test_no_time_at_all_leaves_a_summary(tmp_path: Path):
    run_train(replace(TrainOptions(tmp_path / "out", dry_run=True), seconds=0.0), time.monotonic())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train.json"}
    left = read_json(tmp_path / "out" / "train.json")["parts"]["models"]["left_out"]
    assert set(left) == {f"{system} seed {seed}" for system in SYSTEMS for seed in (1, 2)}


def test_a_seed_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Stub:
        def __init__(self, module: str) -> None:
            assert module == "eat.bench.gpu_seed"

        def ask(self, do: str, **request: Any) -> dict[str, Any]:
            if request["seed"] == 2 and request["system"] == "eat-6":
                raise EatError("the loss is nan")
            return {"seconds": {"training": 1.0}, "trained": {"precision": "bfloat16", "device": "cuda"}}

        def kill(self) -> None:
            pass

    timed: list[list[int]] = []

    def time_models(study: Any, *_: object) -> list[dict[str, Any]]:
        timed.append(study.seeds)
        return [{"system": "dense-6", "accuracy": 0.5}]

    monkeypatch.setattr(gpu_train, "Worker", Stub)
    monkeypatch.setattr(gpu_train, "points_of_models", lambda study, task, models: [{"system": models[0][0]}])
    monkeypatch.setattr(gpu_train, "time_models", time_models)
    with pytest.raises(EatError, match=r"^models, .*eat-6 seed 2: the loss is nan; see "):
        run_train(TrainOptions(tmp_path / "out", dry_run=True))
    assert timed == [[1], [1]]
    left = read_json(tmp_path / "out" / "train.json")["parts"]["models"]["left_out"]
    assert left == ["eat-6 seed 2", "adapt-6 seed 2"]


def test_the_bundle_takes_the_prepared_text_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def text(folder: Path) -> None:
        folder.mkdir()
        (folder / "train.parquet").write_bytes(bytes(10))

    monkeypatch.setattr("eat.bench.bundle._halve_weights", lambda folder: folder.mkdir())
    monkeypatch.setattr("eat.bench.bundle._download_wheels", lambda requirements, folder: folder.mkdir())
    assert pack(tmp_path / "bundle", Path("wheels.txt"), 0, text)[TEXT] == 10
    assert set(read_json(tmp_path / "bundle" / "bundle.json")["files"]) == {"text/train.parquet"}


def test_a_folder_without_the_text_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    given: list[Any] = []

    def packed(out: Path, requirements: Path, checkout: int, write_text: Any) -> dict[str, int]:
        given.append(write_text)
        return {}

    monkeypatch.setattr("eat.bench.bundle.pack", packed)
    monkeypatch.setattr(gpu_bundle, "checkout_bytes", lambda root: 0)
    monkeypatch.setattr("sys.argv", ["gpu_bundle", "--out", str(tmp_path / "b"), "--glue-dir", str(tmp_path)])
    gpu_bundle.main()
    assert given == [None]
    assert f"{tmp_path}: no SST-2 there, so the bundle has no text" in capsys.readouterr().out
    (tmp_path / "SST-2").mkdir()
    gpu_bundle.main()
    assert given[1] is not None
    shutil.rmtree(tmp_path / "SST-2")
