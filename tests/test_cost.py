"""What a study would take: a study estimated by its own measurements takes what it took, a larger one more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from project_copy import FOLDER, SNAKEMAKE, copy_project

from eat.errors import EatError
from eat.planned_cost import Finished, Job, costs, jobs_of, layers_of, sizes, timing_memory_bytes, tokens_of
from eat.study.loading import load_study
from eat.study.paths import StudyPaths
from eat.study.study import Study

ROOT = Path(__file__).resolve().parent.parent
TASK = "rotten_tomatoes"
TEXTS = {"train": 96, "calibration": 80, "dev": 96}
LENGTH = 20
SECONDS = {"finetune": 30.0, "trace": 4.0, "trace_teacher": 6.0, "measure_time": 50.0}


def benchmark(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\n{seconds}\t-\n", encoding="utf-8")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The shipped tiny study as if it had run: measurements, cards, traces and models of made-up sizes."""
    monkeypatch.chdir(tmp_path)
    study = load_study(ROOT / "config" / "tiny.yaml")
    paths = StudyPaths(study.study)
    paths.card(TASK).parent.mkdir(parents=True)
    paths.card(TASK).write_text(json.dumps({"splits": TEXTS}), encoding="utf-8")
    (paths.data / "backbones" / "minilm-6").mkdir(parents=True)
    for system, row in study.systems.items():
        trace = paths.trace(TASK, system, 1, "dev")
        trace.parent.mkdir(parents=True)
        pd.DataFrame({"length": [LENGTH] * TEXTS["dev"]}).to_parquet(trace)
        benchmark(paths.benchmark("trace", TASK, system, "seed1"), SECONDS["trace"])
        for stage in row.recipe:
            benchmark(paths.benchmark("finetune", TASK, system, "seed1", stage.name), SECONDS["finetune"])
            model = paths.model(TASK, system, 1, stage.name)
            model.mkdir(parents=True)
            (model / "model.safetensors").write_bytes(bytes(1000 * layers_of(study)[system]))
    benchmark(paths.benchmark("trace_teacher", TASK, "dense-6", "seed1"), SECONDS["trace_teacher"])
    benchmark(paths.benchmark("measure_time", TASK), SECONDS["measure_time"])
    for rule in ("find_operating_points", "calibrate"):
        benchmark(paths.benchmark(rule, TASK), 2.0)
    benchmark(paths.benchmark("summarize"), 3.0)
    return study


# five systems train; two run the weights of one of them in int8
PLANNED = {"finetune": 5, "trace": 7, "trace_teacher": 1, "measure_time": 1, "calibrate": 7, "summarize": 1}


def test_a_study_by_its_own_measurements_takes_what_it_took(tiny: Study) -> None:
    found = {row.rule: row for row in costs(tiny, Finished(tiny), PLANNED, overhead=0.0)}
    assert found["finetune"].hours * 3600 == pytest.approx(5 * SECONDS["finetune"])
    assert found["trace"].hours * 3600 == pytest.approx(7 * SECONDS["trace"])
    assert found["trace_teacher"].hours * 3600 == pytest.approx(SECONDS["trace_teacher"])
    assert found["measure_time"].hours * 3600 == pytest.approx(SECONDS["measure_time"])
    assert found["measure_time"].core_hours == pytest.approx(2 * found["measure_time"].hours)
    assert found["calibrate"].hours * 3600 == pytest.approx(7 * 2.0)


def test_a_task_that_runs_the_models_of_another_trains_nothing_and_stretched_training_takes_longer(tiny: Study) -> None:
    value = tiny.model_dump(mode="json", by_alias=True)
    value["tasks"][TASK]["epochs_scale"] = 3.0
    value["tasks"]["shifted"] = value["tasks"][TASK] | {"models_of": TASK}
    finished, study = Finished(tiny), load_study(value | {"study": "shifted"})
    work = {
        kind: [sum(job.work for job in jobs_of(one, finished) if job.rule == kind) for one in (tiny, study)]
        for kind in ("finetune", "trace", "trace_teacher")
    }
    assert work["finetune"][1] == pytest.approx(3.0 * work["finetune"][0])
    assert work["trace"][1] == pytest.approx(2.0 * work["trace"][0])
    assert work["trace_teacher"][1] == pytest.approx(work["trace_teacher"][0])


def larger(original: Study, **changes: object) -> Study:
    return Study.model_validate(original.model_dump(mode="json", by_alias=True) | changes)


def test_hours_and_disk_grow_with_seeds_and_overhead_with_jobs(tiny: Study) -> None:
    finished = Finished(tiny)
    twice = larger(tiny, seeds=[1, 2], study="twice")
    planned = {rule: count * (1 if rule in ("measure_time", "summarize") else 2) for rule, count in PLANNED.items()}
    one = {row.rule: row for row in costs(tiny, finished, PLANNED, overhead=0.0)}
    two = {row.rule: row for row in costs(twice, finished, planned, overhead=36.0)}
    assert two["finetune"].hours == pytest.approx(2 * one["finetune"].hours + 10 * 0.01)
    assert two["measure_time"].hours == pytest.approx(2 * one["measure_time"].hours + 0.01)
    assert timing_memory_bytes(twice, finished) == 2 * timing_memory_bytes(tiny, finished)
    models = [sizes(study, finished, jobs=10)[0] for study in (tiny, twice)]
    assert [(size.what, size.size) for size in models] == [("models", 27_000), ("models", 54_000)]


def test_an_unknown_text_fills_max_length(tiny: Study) -> None:
    finished = Finished(tiny)
    assert tokens_of(tiny.tasks[TASK], finished) == LENGTH
    assert tokens_of(tiny.tasks[TASK].model_copy(update={"max_length": 64}), finished) == 64


def test_heads_alone_go_at_their_own_pace(tiny: Study) -> None:
    kinds = {(job.rule, job.kind) for job in jobs_of(tiny, Finished(tiny)) if isinstance(job, Job)}
    assert {("finetune", "finetune"), ("finetune", "heads")} <= kinds


def test_a_width_takes_its_share_of_the_work(tiny: Study) -> None:
    backbone, depth = tiny.systems["dense-6"].backbone, layers_of(tiny)["dense-6"]
    rows = {
        "wide": {
            "backbone": backbone,
            "last_head": "bert",
            "recipe": [{"epochs": 1.0, "widths": {"train": [1.0, 0.5]}}],
        },
        "half": {"weights_of": "wide", "width": 0.5},
        "both": {"cascade": ["half", "wide"], "exits": {"after": [depth], "rule": ["confidence"], "tau": [0.9]}},
    }
    study = larger(tiny, systems=tiny.plain()["systems"] | rows)
    more = {
        kind: sum(job.work for job in jobs_of(study, Finished(tiny)) if job.rule == kind)
        - sum(job.work for job in jobs_of(tiny, Finished(tiny)) if job.rule == kind)
        for kind in ("finetune", "trace")
    }
    assert more["finetune"] == pytest.approx(1.5 * TEXTS["train"] * LENGTH * depth)
    assert more["trace"] == pytest.approx((1 + 0.5 + 1.5) * (TEXTS["calibration"] + TEXTS["dev"]) * LENGTH * depth)


def test_a_count_that_is_not_snakemakes_is_an_error(tiny: Study) -> None:
    with pytest.raises(EatError, match="Snakemake plans 4 jobs, the study has 5"):
        costs(tiny, Finished(tiny), {"finetune": 4}, overhead=0.0)


def test_what_is_missing_is_named(tiny: Study) -> None:
    with pytest.raises(EatError, match="run that study first"):
        Finished(larger(tiny, study="other"))
    unknown = yaml.safe_load((ROOT / "config" / "long.yaml").read_text(encoding="utf-8"))
    del unknown["tasks"]["imdb"]["train_examples"]
    with pytest.raises(EatError, match="its number of texts is unknown"):
        [*jobs_of(Study.model_validate(unknown), Finished(tiny))]


@pytest.mark.slow
@pytest.mark.skipif(not SNAKEMAKE.is_file(), reason="snakemake is not installed beside python")
def test_the_command_counts_the_jobs_of_snakemakes_plan(tiny: Study, tmp_path: Path) -> None:
    copied = copy_project(tmp_path / FOLDER)
    for name in ("data", "results"):
        shutil.copytree(tmp_path / name, copied.folder / name)
    arguments = ("--config", "config/scale.yaml", "--finished", "config/tiny.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "workflow_scripts.estimate_cost", *arguments],
        cwd=copied.folder,
        env=os.environ | copied.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert rows["finetune"][0] == rows["trace"][0] == "180"
    assert rows["measure_time"][0] == "3" and rows["trace_teacher"][0] == "15"
    assert rows["all"][0] == "602"
    assert "Assumed:" in done.stdout
