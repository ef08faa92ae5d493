"""The workflow through `profiles/slurm` on a real Slurm; `make test-cluster` runs these tests, `make test` does not.

They need Linux, `snakemake-executor-plugin-slurm`, and either a Slurm that is up and has the partitions `cpu` and
`gpu`, or root to start one on this machine (`slurm/cluster.py`, which installs it by `apt-get` where it is missing).
Where they cannot have it they are skipped with the reason. They take some ten minutes on two cores, mostly waiting.

Each works on a copy of the project in a folder with a space and an accent in its name, with the profile as it is
shipped but for how often Slurm is asked, and a time limit where that is the matter. The whole study and the training
that is killed are real; where only the scheduling matters, a command is replaced by one that waits, or by stand-ins.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from project_copy import FOLDER, SNAKEMAKE, Copy, copy_project
from slurm import cluster as slurm
from test_versioning import Repository, build

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
        reason="snakemake-executor-plugin-slurm is not installed; pip install --editable '.[study,cluster]'",
    ),
]

PROFILE = ("--workflow-profile", "profiles/slurm")
TASK = "rotten_tomatoes"

SOON = 1
"""Seconds until Slurm is first asked how a job is; after 11 s more it is asked again, then after 21. For real jobs."""

SHORT = 12
"""The same where each job has ended by then, even on a busy machine: waiting a little is cheaper than asking twice."""


@dataclass(frozen=True)
class SlurmJob:
    """What Slurm remembers of a job."""

    number: int
    rule: str
    partition: str
    state: str
    cpus: int  # asked for; a job that has its node alone is granted all
    memory: str
    limit: str
    alone: bool
    began: datetime | None
    ended: datetime | None


@dataclass
class Run:
    """A Snakemake that submits to Slurm, and what it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def jobs(self) -> list[SlurmJob]:
        return jobs_of(self.printed)

    def wait(self, seconds: float = 1800.0) -> int:
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Leave nothing running, also where a test failed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        live = [str(job.number) for job in self.jobs() if job.state in ("PENDING", "RUNNING")]
        if live:
            subprocess.run(["scancel", *live], check=False)


def jobs_of(printed: str) -> list[SlurmJob]:
    """The jobs of the runs whose output this is, in the order of their submission."""
    runs = re.findall(r"^SLURM run ID: (\S+)$", printed, re.MULTILINE)
    if not runs:
        return []
    fields = "%i|%P|%T|%c|%m|%l|%h|%S|%e|%k"
    command = ["squeue", "--noheader", "--states=all", f"--name={','.join(runs)}", f"--format={fields}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted((job_of(line) for line in lines), key=lambda job: job.number)


def job_of(line: str) -> SlurmJob:
    number, partition, state, cpus, memory, limit, shared, began, ended, comment = line.split("|")
    rule = comment.removeprefix("rule_").split("_wildcards_")[0]
    dates = [None if date == "N/A" else datetime.fromisoformat(date) for date in (began, ended)]
    return SlurmJob(int(number), rule, partition, state, int(cpus), memory, limit, shared == "NO", *dates)


Submit = Callable[..., Run]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """A Slurm for the time of these tests; one that was up before stays up."""
    try:
        started = slurm.start()
    except slurm.Unavailable as reason:
        pytest.skip(str(reason))
    try:
        yield
    finally:
        if started:
            slurm.stop()


@pytest.fixture(scope="module")
def submit() -> Iterator[Submit]:
    """Starts Snakemake with the Slurm profile in a copy; whatever still runs when the tests end is stopped."""
    runs: list[Run] = []

    def started(copied: Copy, *arguments: str, ask_after: int) -> Run:
        log = copied.folder.parent / f"snakemake-{len(runs)}.log"
        polling = ("--slurm-init-seconds-before-status-checks", str(ask_after))
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(SNAKEMAKE), "--nocolor", *PROFILE, *polling, *arguments],
                cwd=copied.folder,
                env=os.environ | copied.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        runs.append(Run(process, log))
        return runs[-1]

    yield started
    for run in runs:
        run.stop()


def copy_of(folder: Path, change: Callable[[dict[str, Any]], None]) -> Copy:
    """A copy whose only study is the tiny one with changes."""
    copied = copy_project(folder / FOLDER)
    study = yaml.safe_load((copied.folder / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    change(study)
    write_config(copied, study)
    return copied


def write_config(copied: Copy, study: dict[str, Any]) -> None:
    for file in (copied.folder / "config").glob("*.yaml"):
        file.unlink()
    (copied.folder / "config" / "config.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")


def keep_systems(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(study: dict[str, Any]) -> None:
        study["systems"] = {name: study["systems"][name] for name in names}

    return change


def prepare_here(copied: Copy) -> None:
    """What a login node does before its compute nodes, which have no internet."""
    done = copied.snakemake("--cores", "1", "--until", "prepare_text", "fetch_backbone")
    assert done.returncode == 0, done.stderr


def edit_profile(copied: Copy, change: Callable[[dict[str, Any]], None]) -> None:
    path = copied.folder / "profiles" / "slurm" / "profile.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(profile)
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")


# --- the whole study ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory,
    submit: Submit,
    overrun: tuple[Copy, Run],
    failing: tuple[Copy, Run],
) -> tuple[Copy, Run]:
    """The tiny study with three systems, prepared here and then run through Slurm beside two runs that mostly wait."""
    copied = copy_of(tmp_path_factory.mktemp("study"), keep_systems("dense-6", "student-3", "eat-6"))
    prepare_here(copied)
    run = submit(copied, ask_after=SOON)
    run.wait()
    return copied, run


def test_the_tiny_study_runs_from_training_to_the_report(study: tuple[Copy, Run]) -> None:
    copied, run = study
    assert run.process.returncode == 0, run.printed[-3000:]
    results = copied.folder / "results" / "tiny"
    summary = pd.read_csv(results / "summary.csv")
    assert {"dense-6", "student-3", "eat-6", "hf-dense"} <= set(summary["system"])
    assert (results / "report" / "report.html").stat().st_size > 0
    jobs = run.jobs()
    assert {job.state for job in jobs} == {"COMPLETED"}
    rules = [job.rule for job in jobs]
    assert "prepare_text" not in rules and "fetch_backbone" not in rules
    assert rules.count("finetune") == 3
    assert rules.count("trace") == rules.count("calibrate") == 4  # dense-6 in int8 in ONNX Runtime, too
    assert {"trace_teacher", "measure_time", "summarize", "plot_figure", "render_report"} <= set(rules)
    assert "record" not in rules and (results / "records.json").is_file()  # it runs where Snakemake runs


def test_each_rule_gets_what_the_profile_says(study: tuple[Copy, Run]) -> None:
    copied, run = study
    profile = yaml.safe_load((copied.folder / "profiles" / "slurm" / "profile.yaml").read_text(encoding="utf-8"))
    for job in run.jobs():
        expected = profile["default-resources"] | profile["set-resources"].get(job.rule, {})
        assert job.partition == "cpu"  # the study names no GPU
        assert minutes(job.limit) == expected["runtime"]
        assert job.memory.removesuffix("M") == str(expected["mem_mb"])
        assert job.alone == (job.rule == "measure_time"), job


def minutes(limit: str) -> int:
    """Slurm's [days-]hours:minutes:seconds, or minutes:seconds."""
    days, _, clock = limit.rpartition("-")
    hours, minute, second = ([0, 0] + [int(part) for part in clock.split(":")])[-3:]
    assert second == 0
    return (int(days or 0) * 24 + hours) * 60 + minute


def test_a_local_dry_run_wants_nothing_after_slurm(study: tuple[Copy, Run]) -> None:
    copied, _ = study
    done = copied.snakemake("--dry-run")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


# --- jobs that do not end well ------------------------------------------------------------------------------------


def long_training(study: dict[str, Any]) -> None:
    """240 steps of a small model, with a checkpoint every hundred."""
    study["study"] = "long"
    study["tasks"][TASK] |= {"max_length": 16, "train_examples": 96}
    system = study["systems"]["dense-6"] | {"layers": {"first": 2}, "recipe": [{"epochs": 10}]}
    study["systems"] = {"dense-6": system}
    study["training"] |= {"batch_size": 4, "learning_rate": 1e-4}


def test_a_job_killed_by_scancel_resumes_from_its_checkpoint(submit: Submit, tmp_path: Path) -> None:
    killed = copy_of(tmp_path / "killed", long_training)
    prepare_here(killed)
    run = submit(killed, "--until", "finetune", ask_after=5)
    results = killed.folder / "results" / "long"
    wait_for(lambda: list(results.glob("checkpoints/**/checkpoint-*/complete")), run)
    (job,) = run.jobs()
    subprocess.run(["scancel", str(job.number)], check=True)
    undisturbed = copy_of(tmp_path / "undisturbed", long_training)
    done = undisturbed.snakemake("--cores", "1", "--until", "finetune")
    assert done.returncode == 0, done.stderr[-3000:]
    assert run.wait() == 0, run.printed[-3000:]

    assert [job.state for job in run.jobs()] == ["CANCELLED", "COMPLETED"]
    log = (results / "logs" / "finetune" / TASK / "dense-6" / "seed1" / "finetune.log").read_text(encoding="utf-8")
    assert "resuming at step 100" in log or "resuming at step 200" in log
    assert re.findall(r"step (\d+) of 240", log)[-1] == "240"
    model = Path("results", "long", "models", TASK, "dense-6", "seed1", "finetune")
    weights = [
        hashlib.sha256((copied.folder / model / "model.safetensors").read_bytes()).hexdigest()
        for copied in (undisturbed, killed)
    ]
    assert weights[0] == weights[1]
    lines = (killed.folder / model / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(10, 241, 10))
    assert not list(results.glob("checkpoints/**/checkpoint-*"))


def wait_for(condition: Callable[[], Any], run: Run, seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert run.process.poll() is None and time.monotonic() < until, run.printed[-3000:]
        time.sleep(0.1)


NEVER_ENDS = '''"""Writes a part of its outputs, and then waits for ever."""

import sys
import time
from pathlib import Path

out = Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True, exist_ok=True)
(out / "train.parquet").write_bytes(b"half a file")
print("half of it is written", flush=True)
time.sleep(3600)
'''


@pytest.fixture(scope="module")
def overrun(tmp_path_factory: pytest.TempPathFactory, submit: Submit) -> tuple[Copy, Run]:
    """A run one of whose jobs has a minute and takes an hour. Slurm needs its time: the other tests run meanwhile."""
    copied = copy_of(tmp_path_factory.mktemp("overrun"), keep_systems("dense-6"))
    (copied.folder / "workflow_scripts" / "prepare_text.py").write_text(NEVER_ENDS, encoding="utf-8")
    edit_profile(copied, lambda profile: profile["set-resources"]["prepare_text"].update(runtime=1))
    run = submit(copied, "--retries", "0", "--until", "prepare_text", "fetch_backbone", ask_after=10)
    return copied, run


def test_a_job_past_its_time_limit_fails_with_slurms_reason(overrun: tuple[Copy, Run]) -> None:
    copied, run = overrun
    assert run.wait(300) == 1, run.printed[-3000:]
    states = {job.rule: job.state for job in run.jobs()}
    assert states == {"prepare_text": "TIMEOUT", "fetch_backbone": "COMPLETED"}
    assert "SLURM status is: 'TIMEOUT'" in run.printed
    assert "half of it is written" in run.printed  # the log of the job
    log = re.search(r"\S* ?\S*\.snakemake/slurm_logs/rule_prepare_text/\S+\.log", run.printed)
    assert log and "DUE TO TIME LIMIT" in run.printed
    data = copied.folder / "data" / "tiny"
    assert not list((data / TASK).glob("*.parquet"))
    assert (data / "backbones" / "minilm-6" / "model.safetensors").is_file()


def bad_text(study: dict[str, Any]) -> None:
    keep_systems("dense-6")(study)
    study["tasks"][TASK] = {
        "source": {"kind": "file", "path": "mine.csv", "text": ["text"], "label": "label"},
        "max_length": 16,
    }


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, submit: Submit) -> tuple[Copy, Run]:
    """A run whose text lacks its label column. Each try waits for Slurm: the other tests run meanwhile."""
    copied = copy_of(tmp_path_factory.mktemp("failing"), bad_text)
    (copied.folder / "mine.csv").write_text("text,lable\ngood,1\nbad,0\n", encoding="utf-8")
    return copied, submit(copied, "--until", "prepare_text", "fetch_backbone", ask_after=SHORT)


def test_a_failing_job_is_tried_as_often_as_the_profile_says(failing: tuple[Copy, Run]) -> None:
    copied, run = failing
    assert run.wait(300) == 1, run.printed[-3000:]
    retries = yaml.safe_load((copied.folder / "profiles/slurm/profile.yaml").read_text(encoding="utf-8"))["retries"]
    jobs = run.jobs()
    assert [job.state for job in jobs if job.rule == "prepare_text"] == ["FAILED"] * (retries + 1)
    assert [job.state for job in jobs if job.rule == "fetch_backbone"] == ["COMPLETED"]
    log = f"results/tiny/logs/prepare_text/{TASK}.log"
    assert log in run.printed
    assert re.search(r"^\s*error: .*mine\.csv.*'?label'?", run.printed, re.MULTILINE), run.printed[-3000:]
    assert "SLURM status is: 'FAILED'" in run.printed
    assert not list((copied.folder / "data" / "tiny" / TASK).glob("*"))


# --- stand-ins: what is scheduled matters, not what it computes ---------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A study of stand-in commands under git and DVC, run and recorded once without Slurm."""
    for program in ("git", SNAKEMAKE.with_name("dvc")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    base = tmp_path_factory.mktemp("recorded")
    return build(base / FOLDER, base / "bin")


def copy_of_recorded(recorded: Repository, folder: Path) -> Repository:
    shutil.copytree(recorded.folder, folder / FOLDER, symlinks=True)
    return Repository(folder / FOLDER, recorded.environment)


def test_two_studies_run_at_once_each_in_its_own_folder(recorded: Repository, submit: Submit, tmp_path: Path) -> None:
    runs = {}
    for name in ("first", "second"):
        copied = copy_of_recorded(recorded, tmp_path / name)
        study = yaml.safe_load((copied.folder / "config" / "config.yaml").read_text(encoding="utf-8"))
        keep_systems("dense-6")(study)
        on_gpu = {section: {**study.get(section, {}), "device": "cuda"} for section in ("training", "timing")}
        on_gpu["timing"]["stock"] = []  # those of ONNX Runtime run on a CPU
        write_config(copied, study | on_gpu | {"study": name})
        runs[name] = copied, submit(copied, "--until", "measure_time", ask_after=SHORT)
    copied, run = runs["first"]
    wait_for(run.jobs, run)
    same_folder = copied.snakemake(*PROFILE)
    assert same_folder.returncode != 0 and "lock" in (same_folder.stdout + same_folder.stderr).lower()
    for name, (copied, run) in runs.items():
        assert run.wait() == 0, run.printed[-3000:]
        assert {job.state for job in run.jobs()} == {"COMPLETED"}
        assert (copied.folder / "results" / name / "timing" / f"{TASK}.parquet").is_file()
        assert sorted(path.name for path in (copied.folder / "results").iterdir()) == sorted({name, "small"})
    spans = [(run.jobs()[0].began, run.jobs()[-1].ended) for _, run in runs.values()]
    assert max(began for began, _ in spans) < min(ended for _, ended in spans)
    on_gpu = [job for _, run in runs.values() for job in run.jobs() if job.partition == "gpu"]
    assert {job.rule for job in on_gpu} == {"finetune", "trace", "measure_time"}
    shown = subprocess.run(
        ["scontrol", "show", "job", str(on_gpu[0].number)], capture_output=True, text=True, check=True
    )
    assert re.search(r"TresPerJob=\S*gpu:1\b", shown.stdout), shown.stdout
    timed = [job for job in on_gpu if job.rule == "measure_time"]
    assert len(timed) == 2
    for job in timed:
        beside = [other for other in on_gpu if other is not job and other.began < job.ended > job.began < other.ended]
        assert not beside, f"{job} was not alone: {beside}"


def test_dvc_repro_goes_through_slurm_and_leaves_both_tools_clean(recorded: Repository, tmp_path: Path) -> None:
    repository = copy_of_recorded(recorded, tmp_path)
    edit_profile(repository, lambda profile: profile.update({"slurm-init-seconds-before-status-checks": 7}))
    repository.change("systems", "eat-6", "exits", "tau", value=[0.6, 0.9])
    repository.change("timing", "threads", value=1)
    repository.environment = repository.environment | {
        "SNAKEMAKE_PROFILE": str(repository.folder / "profiles" / "slurm")
    }
    done = repository.run(sys.executable, "-m", "dvc", "repro")
    jobs = jobs_of(done.stdout + done.stderr)
    assert {job.state for job in jobs} == {"COMPLETED"}, done.stdout + done.stderr
    rules = {job.rule for job in jobs}
    assert {"find_operating_points", "measure_time", "summarize", "render_report"} <= rules
    assert not rules & {"finetune", "trace", "record"}
    # the threads that time the study, though DVC's stage says --cores all
    assert [job.cpus for job in jobs if job.rule == "measure_time"] == [1]
    del repository.environment["SNAKEMAKE_PROFILE"]
    assert repository.wanted() == set()
    assert repository.dirty() == set()
