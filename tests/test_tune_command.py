"""The command `eat tune`: what it passes on, what it refuses before any work, and a whole search."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from project_copy import ROOT, SNAKEMAKE, Copy, copy_project

from eat.cli import main
from eat.commands import tune
from eat.errors import EatError
from eat.files import read_json, write_json, write_text
from eat.study.loading import load_study, read_mapping
from eat.tune.paths import FILES, SETTING
from eat.tune.setting import check_folder, check_same
from eat.tune.space import VARIANTS

pytest.importorskip("optuna", reason="the extra tune is not installed")


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a checkout, in which nothing runs; the current folder is another one."""
    root = tmp_path / "project"
    for file in ("Snakefile", "workflow_scripts/train_file.py"):
        write_text(root / file, "")
    tiny_study = read_mapping(ROOT / "config" / "adapt.yaml")
    (root / "config").mkdir()
    (root / "config" / "adapt.yaml").write_text(yaml.safe_dump(tiny_study))
    monkeypatch.setattr("eat.commands.in_checkout.checkout", lambda: root)

    def no_run(*_: Any) -> None:
        raise AssertionError("nothing may run")

    monkeypatch.setattr(tune, "_workflow", no_run)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    changed(tiny_study, "study.yaml")
    return root


def changed(study: dict[str, Any], file: str, **keys: Any) -> None:
    Path(file).write_text(yaml.safe_dump(study | {"study": "films"} | keys, allow_unicode=True), encoding="utf-8")


def test_the_workflow_gets_what_was_asked_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tune, "_workflow", lambda *call: calls.append(call))
    main(["tune", "study.yaml", "--accuracy-loss", "0.5", "--to", "out", "--cores", "2", "--trials", "60"])
    ((root, words),) = calls
    assert root == project
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given["--config"] == str(Path("study.yaml").absolute()) and given["--to"] == str(Path("out").absolute())
    assert (given["--name"], given["--task"], given["--accuracy-loss"]) == ("films-tune", "rotten_tomatoes", "0.5")
    assert (given["--trials"], given["--batch"], given["--cores"]) == ("60", "8", "2")
    assert [words[number + 1] for number, word in enumerate(words) if word == "--beside"] == ["adapt-6", "adapt-6-int8"]


def test_a_folder_goes_on_only_as_the_same_search(project: Path) -> None:
    setting = {"name": "a-tune", "budget": {"kind": "p90_ms", "limit": 3.0}, "configuration": "1"}
    write_json(Path("out") / SETTING, setting)
    check_folder(Path("out"))
    check_same(Path("out"), setting)
    with pytest.raises(EatError, match=r"holds another search \(budget a 90th percentile of at most 3 ms\)"):
        check_same(Path("out"), setting | {"budget": {"kind": "accuracy_loss", "limit": 0.005}})
    # what SQLite leaves beside its file after a kill belongs to the search
    for name in ("trials.db", "trials.db-journal", ".trials.csv.1.part"):
        (Path("out") / name).touch()
    check_folder(Path("out"))


BUDGET = ["--accuracy-loss", "0.5"]
WRONG: dict[str, tuple[list[str], str]] = {
    "no budget": (["study.yaml"], "--p90-ms and --accuracy-loss: neither is given"),
    "two budgets": (["study.yaml", *BUDGET, "--p90-ms", "3"], "both are given"),
    "a budget of no time": (["study.yaml", "--p90-ms", "0"], "--p90-ms: found 0; give milliseconds above 0"),
    "a budget that is no number": (["study.yaml", "--p90-ms", "fast"], "--p90-ms: invalid float value: 'fast'"),
    "a gain as loss": (["study.yaml", "--accuracy-loss", "-1"], "--accuracy-loss: found -1; give points"),
    "no such file": (["none.yaml", *BUDGET], "none.yaml: the configuration file cannot be read: No such file"),
    "a folder as configuration": (["full", *BUDGET], "full: the configuration file cannot be read: Is a directory"),
    "no YAML": (["broken.yaml", *BUDGET], "broken.yaml: not plain YAML"),
    "not UTF-8": (["latin.yaml", *BUDGET], "latin.yaml: not UTF-8 text"),
    "a table of texts": (["films.csv", *BUDGET], "not a mapping of keys"),
    "a misspelt key": (["misspelt.yaml", *BUDGET], "sytems: unknown key"),
    "no such task": (["study.yaml", *BUDGET, "--task", "imdb"], "--task: found 'imdb'; the study has rotten_tomatoes"),
    "several tasks": (["two.yaml", *BUDGET], "--task: missing; the study has the tasks more, rotten_tomatoes"),
    "a task of other models": (["two.yaml", *BUDGET, "--task", "more"], "runs the models of rotten_tomatoes"),
    "no such row": (["study.yaml", *BUDGET, "--beside", "bert"], "--beside: bert is no system of the study"),
    "the name of the study itself": (["study.yaml", *BUDGET, "--name", "films"], "--name: 'films' is the study itself"),
    "the name of another study": (["study.yaml", *BUDGET, "--name", "adapt"], "that of the study config/adapt.yaml"),
    "a name with a slash": (["study.yaml", *BUDGET, "--name", "a/b"], "study: found 'a/b'"),
    "a row called tuned": (["tuned.yaml", *BUDGET], "has a system 'tuned'"),
    "GLUE that is not there": (["glue.yaml", *BUDGET, "--glue-dir", "nowhere"], "nowhere: no such folder"),
    "texts that are not there": (["file.yaml", *BUDGET], "films.csv: no such file; correct the path"),
    "no trials": (["study.yaml", *BUDGET, "--trials", "0"], "--trials: found 0"),
    "no batch": (["study.yaml", *BUDGET, "--batch", "-3"], "--batch: found -3"),
    "no cores": (["study.yaml", *BUDGET, "--cores", "0"], "--cores: found 0"),
    "half a trial": (["study.yaml", *BUDGET, "--trials", "1.5"], "--trials: invalid int value: '1.5'"),
    "a negative seed": (["study.yaml", *BUDGET, "--seed", "-1"], "--seed: found -1"),
    "a file as folder": (["study.yaml", *BUDGET, "--to", "films.csv"], "films.csv: is a file"),
    "a folder below a file": (["study.yaml", *BUDGET, "--to", "films.csv/out"], "films.csv is a file"),
    "a folder with other content": (["study.yaml", *BUDGET, "--to", "full"], "full: contains other files"),
    "another search": (["study.yaml", *BUDGET, "--to", "other"], "other: holds another search (name x"),
}


@pytest.mark.parametrize(("arguments", "reason"), WRONG.values(), ids=WRONG.keys())
def test_what_is_refused_before_any_work(
    arguments: list[str], reason: str, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = read_mapping(ROOT / "config" / "adapt.yaml")
    tasks = study["tasks"]
    Path("broken.yaml").write_text("a: [")
    Path("latin.yaml").write_bytes("study: größe".encode("cp1252"))
    Path("films.csv").write_text("text,label\na,b\n")
    write_text("full/notes.txt", "mine")
    write_json("other/search.json", {"name": "x"})
    changed(study, "misspelt.yaml", sytems={})
    changed(study, "two.yaml", tasks=tasks | {"more": tasks["rotten_tomatoes"] | {"models_of": "rotten_tomatoes"}})
    changed(study, "tuned.yaml", systems=study["systems"] | {"tuned": {"weights_of": "dense-6"}})
    of_file = {"kind": "file", "path": "films.csv", "text": ["text"], "label": "label"}
    changed(study, "file.yaml", tasks={"films": tasks["rotten_tomatoes"] | {"source": of_file}})
    of_glue = {"kind": "glue_dir", "task": "sst2"}
    changed(study, "glue.yaml", tasks={"films": tasks["rotten_tomatoes"] | {"source": of_glue}})
    before = sorted(tmp_path.rglob("*"))
    to = [] if "--to" in arguments else ["--to", "out"]
    with pytest.raises(SystemExit) as ended:
        main(["tune", *arguments, *to])
    error = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert len(error) == 1 and error[0].startswith("error: ") and reason in error[0], error
    assert sorted(tmp_path.rglob("*")) == before


def test_elsewhere_one_line_says_that_it_needs_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("eat.commands.in_checkout.checkout", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main(["tune", "study.yaml", *BUDGET, "--to", "out"])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith("error: eat tune runs Snakemake in a checkout of the project")


def test_without_the_extra_one_line_names_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit) as ended:
        main(["tune", "study.yaml", *BUDGET, "--to", "out"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == 'error: eat tune needs the extra tune: pip install "eat-study[tune]"\n'


# --- in the workflow ----------------------------------------------------------------------------------------------

TINY = {"train_examples": 64, "calibration_examples": 160, "dev_examples": 64}


def tiny_search(folder: Path) -> Path:
    """The study of `config/adapt.yaml` on very few texts."""
    study = read_mapping(ROOT / "config" / "adapt.yaml")
    study["study"] = "few"
    study["tasks"]["rotten_tomatoes"] = {
        "source": {"kind": "packaged", "name": "rotten_tomatoes"},
        "max_length": 32,
    } | TINY
    study["training"] |= {"precision": "float32"}
    study["timing"] |= {"texts": 16, "block_texts": 8, "passes": 2, "warmup": 2, "deep_layers": None}
    for name in ("dense-6", "adapt-6"):
        study["systems"][name]["recipe"][0] |= {"epochs": 1}
    del study["systems"]["adapt-6"]["recipe"][0]["texts"]
    study["systems"] = {name: study["systems"][name] for name in ("dense-6", "adapt-6", "adapt-6-int8")}
    path = folder / "few.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def in_copy(copy: Copy, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `eat` of a copy of the project in another folder."""
    return subprocess.run(
        [sys.executable, "-m", "eat.cli", *arguments],
        cwd=cwd,
        env=os.environ | copy.environment | {"PYTHONPATH": str(copy.folder)},
        capture_output=True,
        text=True,
        check=False,
    )


STAND_IN = """
import subprocess, sys
job = subprocess.Popen([sys.executable, "-c", "import time; print('training', flush=True); time.sleep(60)"])
job.wait()
sys.exit(1)
"""


@pytest.mark.slow
def test_a_signal_ends_everything(tmp_path: Path) -> None:
    """A stand-in for Snakemake, which waits for its job, as Snakemake does after SIGTERM."""
    copy = copy_project(tmp_path / "project")
    (copy.folder / "snakemake.py").write_text(STAND_IN)
    command = subprocess.Popen(
        [sys.executable, "-m", "eat.cli", "tune", str(tiny_search(tmp_path)), *BUDGET, "--to", "out"],
        cwd=tmp_path,
        env=os.environ | copy.environment | {"PYTHONPATH": str(copy.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    assert any(line == "training\n" for line in command.stdout)
    command.send_signal(signal.SIGINT)
    # the pipe ends only if no process is left that holds it
    _, printed = command.communicate(timeout=20)
    assert command.returncode == 130
    assert printed.splitlines()[-1] == "interrupted; the same command goes on"
    assert {path.name for path in (tmp_path / "out").iterdir()} <= FILES


@pytest.mark.slow
@pytest.mark.skipif(not SNAKEMAKE.is_file(), reason="snakemake is not installed beside python")
def test_a_dry_run_shows_the_rows_and_the_jobs_and_writes_nothing(tmp_path: Path) -> None:
    copy = copy_project(tmp_path / "a project")
    config = tiny_search(tmp_path)
    done = in_copy(copy, tmp_path, "tune", str(config), *BUDGET, "--to", "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "mean-mlp-x1.2.3.4.5-int8:" in done.stdout
    planned = done.stdout + done.stderr
    # one dense model, one set of heads, and a trace of each variant over the calibration texts alone
    assert re.search(r"^finetune +2$", planned, flags=re.MULTILINE)
    assert re.search(rf"^trace_trial +{len(VARIANTS)}$", planned, flags=re.MULTILINE)
    assert not re.search(r"^trace +\d", planned, flags=re.MULTILINE)
    assert not (tmp_path / "out").exists() and not (copy.folder / "results").exists()


@pytest.mark.workflow
@pytest.mark.skipif(not SNAKEMAKE.is_file(), reason="snakemake is not installed beside python")
def test_a_whole_search(tmp_path: Path) -> None:
    """Real text and weights, very few: some minutes."""
    copy = copy_project(tmp_path / "project")
    arguments = ["tune", str(tiny_search(tmp_path)), "--accuracy-loss", "5", "--to", "out"]
    done = in_copy(copy, tmp_path, *arguments, "--trials", "4", "--batch", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == FILES
    results = copy.folder / "results" / "few-tune"
    traced = {path.parts[-3] for path in (results / "trials").rglob("calibration.parquet")}
    trials = pd.read_csv(out / "trials.csv")
    assert len(trials) == 4 and traced == {"dense-6", *trials["row"]}
    # dev was seen by the rows that stand beside the best one, and by no other trial
    assert {path.parts[-3] for path in (results / "traces").rglob("dev.parquet")} == {
        "dense-6", "adapt-6", "adapt-6-int8", "tuned", "hf-dense-onnx", "hf-dense-onnx-int8",
        *(name for name in load_study(out / "best.yaml").systems if name.startswith("heads-")),
    }  # fmt: skip
    result = read_json(out / "result.json")
    assert result["trials"] == 4 and set(result["dev"]) >= {"tuned", "adapt-6", "adapt-6-int8", "dense-6"}
    assert result["sentence"] in done.stdout and result["sentence"].startswith("On dev the best row answers ")
    # the dense model was trained once
    trained = [path.parts[-3] for path in (results / "models").rglob("train_log.jsonl")]
    assert trained.count("dense-6") == 1
    # the same command has nothing to do; more trials go on
    weights = {path: path.stat().st_mtime_ns for path in (results / "models").rglob("model.safetensors")}
    more = in_copy(copy, tmp_path, *arguments, "--trials", "5", "--batch", "3")
    assert more.returncode == 0, more.stdout + more.stderr
    assert len(pd.read_csv(out / "trials.csv")) == 5
    assert all(path.stat().st_mtime_ns == date for path, date in weights.items() if path.exists())
