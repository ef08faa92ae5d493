"""Results are never taken for current because of a date, or of the records of other results; commands fit the study.

As in `test_workflow_plan.py`, the rules are the real ones, in a copy of the project, and their commands a stand-in.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from glue_folder import write_glue
from project_copy import FOLDER, SNAKEMAKE, Copy, copy_project, stand_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SNAKEMAKE.is_file(), reason="snakemake is not installed beside python"),
]

OWN = "own data/reviews.csv"
MODEL = "own model"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
GLUE = ["--config", "glue_dir=own glue's"]
STUDY = ["--configfile", "config/study.yaml", *GLUE]
PREPARED = ("--cores", "1", "--until", "prepare_text", "fetch_backbone")


def write_study(copy: Copy) -> None:
    study = yaml.safe_load((copy.folder / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    task = study["tasks"]["rotten_tomatoes"]
    study["tasks"] = {
        "own": task | {"source": {"kind": "file", "path": OWN, "text": ["text"], "label": "label"}},
        "sst2": task | {"source": {"kind": "glue_dir", "task": "sst2"}},
    }
    study["study"] = "own"
    study["backbones"]["minilm-6"] = {"kind": "folder", "path": MODEL}
    (copy.folder / "config" / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy in which the data of a study of the user's own were prepared: a file, a folder of GLUE and a backbone."""
    copy = copy_project(tmp_path_factory.mktemp("stale") / FOLDER)
    stand_in(copy)
    write_study(copy)
    write_glue(copy.folder / "own glue's", examples=2)
    (copy.folder / MODEL).mkdir()
    (copy.folder / "own data").mkdir()
    for file in (OWN, *(f"{MODEL}/{name}" for name in FILES)):
        (copy.folder / file).write_text('{"model_type": "bert", "num_hidden_layers": 6}', encoding="utf-8")
    run = copy.snakemake(*STUDY, *PREPARED)
    assert run.returncode == 0, run.stderr[-3000:]
    return copy


@pytest.fixture
def copy(prepared: Copy, tmp_path: Path) -> Copy:
    """A copy of it, with all dates kept."""
    folder = tmp_path / FOLDER
    shutil.copytree(prepared.folder, folder, symlinks=True)
    return Copy(folder, prepared.environment)


def wanted(copy: Copy, *arguments: str) -> set[str]:
    """The jobs of preparation that a run would do, as they call themselves."""
    done = copy.snakemake(*STUDY, "--dry-run", *PREPARED, *arguments)
    assert done.returncode == 0, done.stderr
    return set(
        re.findall(r"^Job \d+: (.+): (?:preparing text|fetching pretrained weights)$", done.stdout, re.MULTILINE)
    )


# --- content ------------------------------------------------------------------------------------------------------


def older(path: Path) -> None:
    """A file in another's place, with an older date."""
    path.write_text('{"num_hidden_layers": 12}', encoding="utf-8")
    os.utime(path, (1e9, 1e9))


def same_size_and_date(path: Path) -> None:
    stat = path.stat()
    path.write_text("x" * stat.st_size, encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def link_to_an_older_file(path: Path) -> None:
    """As a folder of data sets with a link `current`."""
    older(path.with_name("another"))
    path.unlink()
    path.symlink_to("another")
    os.utime(path, (1e9, 1e9), follow_symlinks=False)


def swap_with_the_dev_text(path: Path) -> None:
    other, between = path.with_name("dev.tsv"), path.with_name("between")
    os.replace(path, between)
    os.replace(other, path)
    os.replace(between, other)


def other_code(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "# another version\n", encoding="utf-8")
    os.utime(path, (1e9, 1e9))


TEXT, WEIGHTS = "own glue's/SST-2/train.tsv", f"{MODEL}/model.safetensors"
ROUNDS: dict[str, tuple[dict[str, Callable[[Path], None]], set[str]]] = {
    "older files": ({OWN: older, TEXT: older, WEIGHTS: older}, {"own", "sst2", "minilm-6"}),
    "of the same size and date": (
        {OWN: same_size_and_date, TEXT: same_size_and_date, WEIGHTS: same_size_and_date},
        {"own", "sst2", "minilm-6"},
    ),
    "a link, two files swapped, a file that a backbone may lack": (
        {OWN: link_to_an_older_file, TEXT: swap_with_the_dev_text, f"{MODEL}/tokenizer_config.json": older},
        {"own", "sst2", "minilm-6"},
    ),
    "a file that a backbone lacked": ({f"{MODEL}/vocab.txt": older}, {"minilm-6"}),
    "code, as an older version unpacked over it": ({"eat/prepare/splits.py": other_code}, {"own", "sst2"}),
}


@pytest.mark.parametrize("what", ROUNDS)
def test_replaced_content_is_seen_whatever_its_date(copy: Copy, what: str) -> None:
    replaced, jobs = ROUNDS[what]
    for path, replace in replaced.items():
        replace(copy.folder / path)
    assert wanted(copy) == jobs


def test_what_is_only_touched_is_current(copy: Copy) -> None:
    """Results too: the run has noted what it made, though it was not a full one."""
    for folder in ("eat", "workflow_scripts", "report", "own data", "own glue's", MODEL, "data/own"):
        for path in (copy.folder / folder).rglob("*"):
            os.utime(path, (1.9e9, 1.9e9))
    assert wanted(copy) == set()


@pytest.mark.workflow
def test_a_file_that_is_missing_or_a_folder_is_named(copy: Copy) -> None:
    (copy.folder / OWN).unlink()
    shutil.rmtree(copy.folder / "data" / "own" / "own")
    for expected in (OWN, f"{OWN}: cannot be read (Is a directory); correct the path"):
        done = copy.snakemake(*STUDY, "--dry-run", *PREPARED)
        assert done.returncode != 0
        assert expected in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        (copy.folder / OWN).mkdir(exist_ok=True)


# --- records ------------------------------------------------------------------------------------------------------


def refusal(copy: Copy, *arguments: str) -> str:
    done = copy.snakemake(*arguments, "--dry-run", *PREPARED)
    printed = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if "no records" in line]
    return line


def pasted(copy: Copy, command: str) -> subprocess.CompletedProcess[str]:
    """What a command prints that a person has pasted into a shell."""
    words = shlex.split(command)
    assert words[0] == "python"
    return subprocess.run(
        [sys.executable, *words[1:]],
        cwd=copy.folder,
        env=os.environ | copy.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def change_a_learning_rate(copy: Copy) -> None:
    path = copy.folder / "config" / "study.yaml"
    study: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    study["training"]["learning_rate"] = 1e-5
    path.write_text(yaml.safe_dump(study), encoding="utf-8")


def test_the_records_of_another_study_are_none_of_this_one(copy: Copy) -> None:
    shutil.rmtree(copy.folder / ".snakemake")
    other = ("--configfile", "config/tiny.yaml")
    assert copy.snakemake(*other, *PREPARED).returncode == 0
    change_a_learning_rate(copy)
    assert "data/own/backbones/minilm-6/config.json" in refusal(copy, *STUDY)
    assert copy.snakemake(*other, "--dry-run", *PREPARED).returncode == 0


@pytest.mark.workflow
def test_results_copied_over_others_are_not_those_of_the_records(copy: Copy) -> None:
    """All paths have records, and every date is that of a result; but the content is of another run."""
    for path in (copy.folder / "data" / "own" / "own").iterdir():
        path.write_text("of another run", encoding="utf-8")
        os.utime(path, (1.6e9, 1.6e9))
    line = refusal(copy, *STUDY)
    assert "data/own/own/calibration.parquet" in line
    repair = re.search(r"; (python -m workflow_scripts.versioning repair .*) lets Snakemake make", line)
    assert repair is not None
    done = pasted(copy, repair[1])
    assert done.returncode == 0, done.stderr
    assert "4 differ from their records and are made again, such as data/own/own/calibration.parquet" in done.stdout
    assert wanted(copy) == {"own"}


@pytest.mark.workflow
def test_a_record_that_is_lost_alone_is_missed(copy: Copy) -> None:
    records = sorted(path for path in (copy.folder / ".snakemake" / "metadata").rglob("*") if path.is_file())
    records[0].unlink()
    refusal(copy, *STUDY)
    assert copy.snakemake(*STUDY, "--unlock").returncode == 0  # the repair needs this to work


# --- commands -----------------------------------------------------------------------------------------------------


@pytest.mark.workflow
def test_the_reports_command_makes_this_study(copy: Copy) -> None:
    given = [*STUDY, "training={max_grad_norm: 2.0}", "accuracy_budget=0.02"]
    command = shlex.join(["snakemake", "--cores", "all", *given])
    assert command in params_of_the_report(copy, given)
    overriding = copy.folder / "config" / "override.yaml"
    overriding.write_text("accuracy_budget: 0.02\n", encoding="utf-8")
    # the Snakefile extends config/config.yaml by it, and not the other way round
    only = ["--configfile", "config/override.yaml"]
    assert "snakemake --cores all --configfile config/override.yaml" in params_of_the_report(copy, only)
    assert "snakemake --cores all" in params_of_the_report(copy, ["--configfile", "config/config.yaml"])


def params_of_the_report(copy: Copy, given: list[str]) -> list[str]:
    """The words of the command of the rule that renders the report, of a plan of the whole study."""
    done = copy.snakemake(*given, "--dry-run", "--cores", "1", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "workflow_scripts.report_page" in line]
    return shlex.split(line.split(" 2>&1 ")[0])
