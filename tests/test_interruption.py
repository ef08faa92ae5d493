"""Interrupted at any moment, the documented recovery gives the results of a run that nothing disturbed.

Real training, tracing, timing and plotting, on the tiny study with three systems (one of them distilled) and
checkpoints every few steps. One copy of the project runs undisturbed. In another the run is killed at one point after
the other, in every way: SIGTERM and SIGKILL of all processes, SIGKILL of Snakemake alone or of a job alone, and a power
loss, which is SIGKILL and the loss of what no fsync had secured: files that were being written are cut off or empty.
After each comes the recovery of docs/interruption.md: the same command, after `snakemake --unlock` where it says so. At
the end the results of both copies are compared.

Equal, byte for byte: data, weights, tokenizers, traces, temperatures, operating points, curves and the figures of
curves, the table of calibration. Equal but for what a clock wrote: logs of training (`tokens_per_s`), `summary.csv`
and `buckets.csv` (the columns `TIMED`). Not compared, because the clock or the machine writes them or they are made
from what it wrote: benchmarks, logs, `timing/`, `summary_{task}.csv`, `metrics.json`, the curve of cost, the figures of
frontier, latency, cost, FLOPs and buckets, all tables but that of calibration, the report; and `records.json`, which
holds dates and those files' digests: of it the outputs, rules and parameters are compared.

The tests of the disturbed copy run in their order, each from where the one before left the copy; each may also run
alone. `make test-interruption` runs this file, in some six minutes on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from project_copy import FOLDER, SNAKEMAKE, Copy, copy_project

from eat.files import digest, sha256_of

pytestmark = pytest.mark.interruption

# a shell's background job would hand down that Ctrl-C is ignored, and nohup that a closed terminal is
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

TASK = "rotten_tomatoes"
RESULTS = Path("results/small")
COMMAND = (str(SNAKEMAKE), "--nocolor", "--cores", "2")
LIMIT_SECONDS = 600.0
"""The longest wait for a moment or for the end of a run. A run takes two minutes on two idle cores."""
LOCKED = "It can be removed with the --unlock argument"

TIMED = ("latency_ms", "examples_per_s", "speedup", "packed")
"""How the columns of `summary.csv` and `buckets.csv` begin that are read off the clock."""

NOT_COMPARED = (
    "benchmarks/**", "logs/**", "timing/*", "summary_*.csv", "metrics.json", "report/*", "curves/cost.csv",
    "figures/batch_1_*", "figures/frontier_*", "figures/latency_*", "figures/cost_*", "figures/flops_*",
    "figures/buckets_*",
    "tables/results_*", "tables/throughput_*", "tables/frontier_*", "tables/paper_*",
)  # fmt: skip


# --- a run, and its interruption ----------------------------------------------------------------------------------


class Run:
    """Snakemake at work in a copy, in a process group of its own."""

    def __init__(self, copy: Copy, *arguments: str) -> None:
        self.folder = copy.folder
        self.whole_before = whole_checkpoints(self)
        self.printed = copy.folder.parent / f"printed-{time.monotonic_ns()}.txt"
        with self.printed.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=copy.folder,
                env=os.environ | copy.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.printed.read_text(encoding="utf-8")

    def until(self, moment: Callable[[], Any], what: str) -> Any:
        """Wait for a moment of the run; returns what tells of it."""
        end = time.monotonic() + LIMIT_SECONDS
        while not (found := moment()):
            assert self.process.poll() is None, f"the run ended before {what}:\n{self.text()[-3000:]}"
            assert time.monotonic() < end, f"{what} never came:\n{self.text()[-3000:]}"
            time.sleep(0.002)
        return found

    def jobs(self, command: str) -> list[psutil.Process]:
        """The Python processes of a command that this run started."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                line = child.cmdline()
            except psutil.NoSuchProcess:
                continue
            if f"workflow_scripts.{command}" in line and "python" in Path(line[0]).name:
                found.append(child)
        return found

    def end(self, number: signal.Signals) -> int:
        """Send a signal to the whole group and wait until all of it is gone; returns Snakemake's status."""
        os.killpg(self.process.pid, number)
        status = self.process.wait(timeout=60)
        wait_for_group(self.process.pid)
        return status

    def finish(self) -> int:
        """Wait for the end of the run."""
        status = self.process.wait(timeout=LIMIT_SECONDS)
        wait_for_group(self.process.pid)
        return status


def wait_for_group(group: int, seconds: float = 60.0) -> None:
    """Wait until no process of a group is left."""
    end = time.monotonic() + seconds
    while any(member.status() != psutil.STATUS_ZOMBIE for member in members(group)):
        assert time.monotonic() < end, f"still there: {members(group)}"
        time.sleep(0.01)


def members(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group:
                process.status()
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def start(copy: Copy) -> Run:
    """The documented recovery: the same command, after `--unlock` where it says that the folder is locked."""
    # a log that exists then tells that its job has begun in this run
    shutil.rmtree(copy.folder / RESULTS / "logs", ignore_errors=True)
    if is_locked(copy.folder):
        refused = copy.snakemake("--cores", "2")
        assert refused.returncode != 0
        assert LOCKED in refused.stdout + refused.stderr
        assert "left Snakemake's lock; no Snakemake of this machine runs here" in refused.stderr
        assert "snakemake --unlock, then run the same command again" in refused.stderr
        unlocked = copy.snakemake("--unlock")
        assert unlocked.returncode == 0, unlocked.stderr
    return Run(copy)


# --- the copies ---------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> Copy:
    """A copy of the project with a study that is small and writes checkpoints often."""
    copy = copy_project(folder)
    config = yaml.safe_load((folder / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    config["study"] = "small"
    config["systems"] = {name: config["systems"][name] for name in ("dense-6", "student-3", "eat-6")}
    config["training"]["batch_size"] = 8
    config["timing"]["texts"] = 8
    for file in (folder / "config").glob("*.yaml"):
        file.unlink()
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    trainer = folder / "eat" / "finetune" / "trainer.py"
    text = trainer.read_text(encoding="utf-8")
    for before, after in (("save_steps=100", "save_steps=3"), ("logging_steps=10", "logging_steps=2")):
        assert before in text
        text = text.replace(before, after)
    trainer.write_text(text, encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run that nothing disturbed gives."""
    copy = prepare(tmp_path_factory.mktemp("reference") / FOLDER)
    run = Run(copy)
    assert run.finish() == 0, run.text()[-3000:]
    found = deterministic(copy)
    assert len(found) > 40
    return found


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The copy whose run is killed again and again."""
    return prepare(tmp_path_factory.mktemp("disturbed") / FOLDER)


@pytest.fixture
def run(copy: Copy) -> Iterator[Run]:
    """A run that recovers from what the test before did."""
    started = start(copy)
    yield started
    if started.process.poll() is None:
        started.end(signal.SIGKILL)


def deterministic(copy: Copy) -> dict[str, str]:
    """The digest of everything that two undisturbed runs have in common; see the top of this file."""
    records = json.loads((copy.folder / RESULTS / "records.json").read_text(encoding="utf-8"))
    study = {path: (entry["record"]["rule"], entry["record"]["params"]) for path, entry in records.items()}
    found = {"records.json": digest(json.loads(json.dumps(study)))}
    for output in (*records, str(RESULTS / "records.json")):
        path = copy.folder / output
        assert path.stat().st_size > 0
        if any(Path(output).match(f"{RESULTS}/{pattern}") for pattern in NOT_COMPARED) or path.name == "records.json":
            continue
        found[output] = content(path)
    for folder in ("data", "results"):
        litter = [str(file) for file in (copy.folder / folder).rglob(".*.part")]
        assert not [path for path in litter if path.endswith("safetensors")]
    return found


def content(path: Path) -> str:
    """The digest of a file, without what the clock wrote in it."""
    if path.name == "train_log.jsonl":
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return digest([{key: value for key, value in line.items() if key != "tokens_per_s"} for line in lines])
    if path.name in ("summary.csv", "buckets.csv"):
        table = pd.read_csv(path, dtype=str)
        return digest(table[[name for name in table if not name.startswith(TIMED)]].to_csv(index=False))
    return sha256_of(path)


# --- moments ------------------------------------------------------------------------------------------------------


def job_begins(log: str, *outputs: str) -> Callable[[Run], bool]:
    """The moment at which a job has begun and none of these outputs is there."""

    def moment(run: Run) -> bool:
        results = run.folder / RESULTS
        return (results / "logs" / f"{log}.log").exists() and not any((results / path).exists() for path in outputs)

    return moment


def half_written(first: str, second: str) -> Callable[[Run], bool]:
    """The moment at which a job has written one of its outputs, and not yet the other beside it."""
    return lambda run: any(not path.with_name(second).exists() for path in (run.folder / RESULTS).glob(first))


def a_plot_begins(run: Run) -> bool:
    return any((run.folder / RESULTS / "logs").glob("plot_figure/**/*.log"))


def a_plot_is_half_written(run: Run) -> bool:
    return any(not path.with_suffix(".svg").exists() for path in (run.folder / RESULTS / "figures").glob("*.pdf"))


def checkpoints(run: Run) -> list[Path]:
    return sorted((run.folder / RESULTS / "checkpoints").glob("*/*/checkpoint-*"))


def training_before_a_checkpoint(run: Run) -> bool:
    return any((run.folder / RESULTS / "checkpoints").glob("*/*/train_log.jsonl")) and not checkpoints(run)


def whole_checkpoints(run: Run) -> set[Path]:
    return {path for path in checkpoints(run) if (path / "complete").exists()}


def checkpoint_is_whole(run: Run) -> bool:
    """This run has written one."""
    return bool(whole_checkpoints(run) - run.whole_before)


def checkpoint_is_being_written(run: Run) -> bool:
    cut = [path for path in checkpoints(run) if not (path / "complete").exists()]
    return any((path / "model.safetensors").exists() for path in cut) and checkpoint_is_whole(run)


# --- what a power loss adds ---------------------------------------------------------------------------------------


def lose_nothing(run: Run) -> None:
    """SIGKILL and SIGTERM: the kernel lives and writes all that it was given."""


def lose_the_newest_checkpoint(run: Run) -> None:
    """Every file of a checkpoint without a mark, and of the log: no fsync has secured them."""
    for path in checkpoints(run):
        if not (path / "complete").exists():
            for number, file in enumerate(sorted(path.iterdir())):
                cut(file, 0.0 if number % 2 else 0.5)
    for log in (run.folder / RESULTS / "checkpoints").glob("*/*/train_log.jsonl"):
        cut(log, 0.7)


def spoil_a_whole_checkpoint(run: Run) -> None:
    """What a disk does that lies about fsync: marked, and damaged all the same."""
    newest = max(whole_checkpoints(run), key=lambda path: path.stat().st_mtime)
    cut(newest / "optimizer.pt", 0.3)


def lose_outputs_of_unfinished_jobs(run: Run) -> None:
    """Results whose job Snakemake has not recorded as complete, and all temporary files: empty, or cut off."""
    marks = run.folder / ".snakemake" / "incomplete"
    unfinished = [run.folder / decoded(mark.name) for mark in sorted(marks.rglob("*")) if mark.is_file()]
    written = [output for output in unfinished if output.is_file()]
    assert written
    for number, output in enumerate(written):
        cut(output, 0.5 * (number % 2))
    for file in (run.folder / RESULTS).rglob(".*.part"):
        if file.is_file():
            cut(file, 0.0)


def lose_records(run: Run) -> None:
    """Snakemake does not ask the disk to keep its records: the last ones are empty."""
    records = [path for path in (run.folder / ".snakemake" / "metadata").rglob("*") if path.is_file()]
    for path in sorted(records, key=lambda path: path.stat().st_mtime)[-3:]:
        cut(path, 0.0)


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(share * path.stat().st_size))


def decoded(name: str) -> str:
    from base64 import urlsafe_b64decode

    return urlsafe_b64decode(name).decode()


# --- the tests ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """Where a run is killed, how, and what is lost with it."""

    name: str
    moment: Callable[[Run], bool]
    number: signal.Signals
    lose: Callable[[Run], None] = lose_nothing


HALF_A_TRACE = half_written(f"traces/{TASK}/*/seed1/calibration.parquet", "dev.parquet")
POINTS = [
    Point("planning", lambda run: True, signal.SIGTERM),
    Point("prepare", job_begins(f"prepare_text/{TASK}"), signal.SIGKILL),
    Point("before the first checkpoint", training_before_a_checkpoint, signal.SIGTERM),
    Point("training, by Ctrl-C", training_before_a_checkpoint, signal.SIGINT),
    Point("training, the terminal closed", training_before_a_checkpoint, signal.SIGHUP),
    Point("after a checkpoint", checkpoint_is_whole, signal.SIGKILL),
    Point("after a checkpoint, damaged", checkpoint_is_whole, signal.SIGKILL, spoil_a_whole_checkpoint),
    Point("within a checkpoint", checkpoint_is_being_written, signal.SIGTERM),
    Point("within a checkpoint, power", checkpoint_is_being_written, signal.SIGKILL, lose_the_newest_checkpoint),
]
LATER = [
    Point("trace", HALF_A_TRACE, signal.SIGTERM),
    Point("trace, power", HALF_A_TRACE, signal.SIGKILL, lose_outputs_of_unfinished_jobs),
    Point("summarize", job_begins("summarize", "summary.csv"), signal.SIGKILL),
    Point("plot", a_plot_begins, signal.SIGTERM),
    Point("plot, power", a_plot_is_half_written, signal.SIGKILL, lose_outputs_of_unfinished_jobs),
    Point("record", job_begins("record", "records.json"), signal.SIGKILL),
]
RECORD_POWER = Point("record, power", job_begins("record", "records.json"), signal.SIGKILL, lose_records)


def is_locked(folder: Path) -> bool:
    """Whether Snakemake works in the folder, or was killed while it did."""
    return any((folder / ".snakemake" / "locks").glob("*.lock"))


def interrupt(run: Run, point: Point) -> None:
    # the lock: what the run before has left half-written is not this run's moment
    run.until(lambda: is_locked(run.folder) and point.moment(run), point.name)
    begun = time.monotonic()
    status = run.end(point.number)
    assert status != 0
    assert time.monotonic() - begun < 30
    assert is_locked(run.folder) == (point.number == signal.SIGKILL)  # after SIGTERM Snakemake tidies up by itself
    point.lose(run)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_all_is_killed_until_a_model_is_trained(run: Run, point: Point) -> None:
    interrupt(run, point)


def test_a_job_alone_is_killed(run: Run) -> None:
    (job, *_) = run.until(lambda: checkpoint_is_whole(run) and run.jobs("finetune"), "training")
    job.kill()
    assert run.finish() != 0
    assert not is_locked(run.folder)


def test_an_orphan_ends_by_itself(run: Run) -> None:
    orphans = run.until(lambda: checkpoint_is_whole(run) and run.jobs("finetune"), "training")
    run.process.kill()
    run.process.wait()
    _, alive = psutil.wait_procs(orphans, timeout=10)
    assert alive == []
    assert not list((run.folder / RESULTS / "models").rglob(".*.part"))


def sha256_if_there(path: Path) -> str | None:
    """The sha256 of a file that another process may remove at any moment."""
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return None


def test_a_late_write_of_an_orphan_does_not_mix_in(copy: Copy, run: Run) -> None:
    """An orphan that does not see that its workflow died, as on another machine, and of another learning rate."""
    (job, *_) = run.until(lambda: checkpoint_is_whole(run) and run.jobs("finetune"), "training")
    line = job.cmdline()
    run.end(signal.SIGKILL)
    place = line.index("--spec") + 1
    spec = json.loads(line[place])
    spec["training"]["learning_rate"] = 0.1
    line[place] = json.dumps(spec)
    out = copy.folder / line[line.index("--out") + 1]
    locks = copy.folder / RESULTS / "checkpoints"
    for lock in locks.glob("*.lock"):
        lock.unlink()
    printed = copy.folder.parent / "orphan.txt"
    with printed.open("w", encoding="utf-8") as file:
        orphan = subprocess.Popen(
            [sys.executable, *line[1:]],
            cwd=copy.folder,
            env=os.environ | copy.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + LIMIT_SECONDS
        while not any(lock.stat().st_size for lock in locks.glob("*.lock")):  # who holds it writes its name into it
            assert orphan.poll() is None and time.monotonic() < end, printed.read_text(encoding="utf-8")
            time.sleep(0.002)
        orphan.send_signal(signal.SIGSTOP)  # so that it is the slower one for certain
        recovery = start(copy)
        log = copy.folder / RESULTS / "logs" / "finetune" / Path(*out.parts[-4:]).with_suffix(".log")
        recovery.until(lambda: log.exists() and "still trains" in log.read_text(encoding="utf-8"), "waiting")
        assert f"process {orphan.pid} on " in log.read_text(encoding="utf-8")
        orphan.send_signal(signal.SIGCONT)
        assert orphan.wait(timeout=LIMIT_SECONDS) == 0, printed.read_text(encoding="utf-8")
        late = sha256_if_there(out / "model.safetensors")  # it did write where the recovery is about to write
        recovery.until(lambda: sha256_if_there(out / "model.safetensors") not in (None, late), "the recovered model")
        recovery.end(signal.SIGKILL)
    finally:
        orphan.kill()
        orphan.wait()


@pytest.mark.parametrize("point", LATER, ids=lambda point: point.name)
def test_all_is_killed_after_training(run: Run, point: Point) -> None:
    interrupt(run, point)


def test_records_that_a_power_loss_damaged_are_not_trusted(copy: Copy, run: Run) -> None:
    interrupt(run, RECORD_POWER)
    planned = copy.snakemake("--dry-run", "--cores", "2")
    said = [line for line in planned.stderr.splitlines() if "its record is damaged" in line]
    assert len(said) == 3


def test_recovered_results_are_those_of_an_undisturbed_run(copy: Copy, run: Run, reference: dict[str, str]) -> None:
    assert run.finish() == 0, run.text()[-3000:]
    same_as(reference, copy)


def test_of_two_runs_in_one_folder_one_works(copy: Copy, reference: dict[str, str]) -> None:
    done = start(copy)
    assert done.finish() == 0, done.text()[-3000:]
    shutil.rmtree(copy.folder / RESULTS / "figures")
    first = start(copy)
    try:
        first.until((copy.folder / RESULTS / "logs" / "plot_figure").exists, "the first run's work")
        second = copy.snakemake("--cores", "2")
        assert first.process.poll() is None
        assert second.returncode != 0
        assert LOCKED in second.stdout + second.stderr
        assert "no Snakemake of this machine" not in second.stderr
        assert first.finish() == 0, first.text()[-3000:]
    finally:
        if first.process.poll() is None:
            first.end(signal.SIGKILL)
    same_as(reference, copy)


def same_as(reference: dict[str, str], copy: Copy) -> None:
    """Require the reference's content, nothing left to do, and no checkpoint left."""
    found = deterministic(copy)
    assert found.keys() == reference.keys()
    assert [path for path in reference if found[path] != reference[path]] == []
    assert copy.pending("config.yaml") == []
    assert list((copy.folder / RESULTS / "checkpoints").iterdir()) == []
