"""What Snakemake plans: its own tasks and systems for each configuration, and after a change just what depends on it.

The tests work in a copy of the project. Its commands are not run: `python` is a stand-in that notes its arguments, and
each rule then makes empty outputs. So a whole study takes seconds, with the real rules, parameters and sources.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from glue_folder import write_glue
from project_copy import FOLDER, ROOT, SNAKEMAKE, Copy, copy_project, stand_in

from eat.prepare.sources.registry import reader_of
from eat.study import keys
from eat.study.loading import load_study, study_of_json
from workflow_scripts._sources import sources_of

SHIPPED = (
    "config.yaml", "tiny.yaml", "long.yaml", "scale.yaml", "glue_cpu.yaml", "paper.yaml", "ablation.yaml",
    "systems.yaml", "magic_pyramid.yaml", "magic_pyramid_paper.yaml", "adapt.yaml", "depth.yaml",
    "removal.yaml",
)  # fmt: skip
ODD_TASK = """it's "a" $HOME & \\input 100% café"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SNAKEMAKE.is_file(), reason="snakemake is not installed beside python"),
]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy in which nothing was run, with a folder of GLUE files, and a user's own."""
    copy = copy_project(tmp_path_factory.mktemp("fresh") / FOLDER)
    write_glue(copy.folder / "data" / "glue", examples=2)
    for config in ("magic_pyramid.yaml", "magic_pyramid_paper.yaml"):
        for task in load_study(ROOT / "config" / config).tasks.values():
            for file in reader_of(task.source).files() if task.source.kind == "file" else []:
                (copy.folder / file).parent.mkdir(exist_ok=True)
                (copy.folder / file).write_text("text,label\na,0\n", encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy in which the tiny study was run by the stand-in.

    It has a second task, of an odd name, and a system `eat-6-half` that runs the weights of `eat-6`.
    """
    copy = copy_project(tmp_path_factory.mktemp("done") / FOLDER)
    study = yaml.safe_load((copy.folder / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    study["study"] = "plan"
    study["systems"]["eat-6-half"] = {"weights_of": "eat-6", "precision": "bfloat16"}
    study["tasks"][ODD_TASK] = dict(study["tasks"]["rotten_tomatoes"])
    (copy.folder / "config" / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    stand_in(copy)
    run = copy.snakemake("--cores", "1", "--configfile", "config/study.yaml")
    assert run.returncode == 0, run.stderr[-3000:]
    return copy


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy in which a study of two systems could be run by the stand-in, and nothing was."""
    copy = copy_project(tmp_path_factory.mktemp("ready") / FOLDER)
    study = yaml.safe_load((copy.folder / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    study["study"] = "plan"
    study["systems"] = {name: study["systems"][name] for name in ("dense-6", "eat-6")}
    (copy.folder / "config" / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    stand_in(copy)
    return copy


def rules_of(plan: list[tuple[str, str]]) -> set[str]:
    return {rule for rule, _ in plan}


def trained(plan: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """The systems and stages that a plan would train."""
    folders = [Path(path).parts for rule, path in plan if rule == "finetune"]
    return {(parts[-4], parts[-2]) for parts in folders}  # .../{task}/{system}/seed{seed}/{stage}/{file}


def traced(plan: list[tuple[str, str]]) -> set[str]:
    return {Path(path).parts[-3] for rule, path in plan if rule in ("trace", "trace_teacher")}


STEPS = {
    *("prepare_text", "fetch_backbone", "finetune", "trace", "trace_teacher", "calibrate"),
    *("find_operating_points", "measure_time", "summarize"),
}


def below(*rules: str, of: set[str]) -> set[str]:
    """Rules, with all that draw or report what they make, whatever those are called.

    The overview is drawn from the shapes of traces alone.
    """
    drawn = of - STEPS
    return {*rules} | (drawn if "trace" in rules else drawn - {"plot_study_figure"})


@pytest.fixture(scope="module")
def every_rule(fresh: Copy) -> set[str]:
    """The rules of a whole study."""
    found = rules_of(fresh.pending("tiny.yaml"))
    assert found > STEPS
    return found


# --- what is shipped ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [*SHIPPED[:2], *(pytest.param(name, marks=pytest.mark.workflow) for name in SHIPPED[2:])]
)
def test_a_dry_run_names_its_own_tasks_and_systems(fresh: Copy, config: str) -> None:
    study = load_study(ROOT / "config" / config)
    plan = fresh.dry_run(config)
    assert set(re.findall(r"^Job \d+: (.+): preparing text$", plan, re.MULTILINE)) == set(study.tasks)
    jobs = re.findall(r"^Job \d+: (.+): fine-tuning (.+), seed (\d+), stage (.+)$", plan, re.MULTILINE)
    expected = [
        (task, system, str(seed), stage)
        for task in study.tasks
        if study.tasks[task].models_of is None
        for system in study.systems
        for seed in study.seeds
        for stage in study.stage_names(system)
    ]
    assert sorted(set(jobs)) == sorted(expected)
    # also of systems that run another's weights, and train nothing
    runs = {(task, system, str(seed)) for task in study.tasks for system in study.systems for seed in study.seeds}
    for rule, words in (("trace", "tracing"), ("calibrate", "calibrating")):
        found = re.findall(rf"^Job \d+: (.+): {words} (?!the teacher)(.+), seed (\d+)$", plan, re.MULTILINE)
        assert set(found) == runs, rule
    others = {load_study(ROOT / "config" / other).study for other in SHIPPED} - {study.study}
    assert f"results/{study.study}/" in plan
    assert not [other for other in others if f"results/{other}/" in plan or f"data/{other}/" in plan]


def test_the_default_is_the_embedded_study(fresh: Copy) -> None:
    done = fresh.snakemake("-n", "--cores", "1")
    assert done.returncode == 0, done.stderr
    assert "results/embedded/summary.csv" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "other",
    [
        {},
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.workflow),
        pytest.param({"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7", "COLUMNS": "20"}, marks=pytest.mark.workflow),
    ],
    ids=["with TeX", "locale", "time zone and hashes"],
)
def test_the_plan_and_dvc_yaml_follow_from_the_configuration_alone(
    fresh: Copy, tmp_path: Path, other: dict[str, str]
) -> None:
    """Two people share `dvc.yaml`: what is installed on their machines must not show in it."""
    for engine in ("latexmk", "pdflatex", "tectonic"):
        (tmp_path / engine).write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / engine).chmod(0o755)
    engines = {"PATH": f"{tmp_path}{os.pathsep}{fresh.environment['PATH']}"}
    made = fresh.folder / "dvc.yaml"
    for variables in ({}, engines | other):
        copy = Copy(fresh.folder, fresh.environment | variables)
        done = copy.command("workflow_scripts.write_dvc_yaml", "--config", fresh.folder / "config" / "tiny.yaml")
        assert done.returncode == 0, done.stderr
        found = made.read_text(encoding="utf-8")
        made.unlink()
        if not variables:
            alone = found
    assert found == alone
    assert "results/tiny.pdf" not in found and str(fresh.folder) not in found


@pytest.mark.workflow
def test_a_pdf_is_made_on_demand(done: Copy) -> None:
    assert "typesetting the report" not in done.dry_run("study.yaml")
    asked = done.snakemake("--cores", "1", "--configfile", "config/study.yaml", "--", "render_pdf")
    assert asked.returncode == 0, asked.stderr
    pdf = done.folder / "results" / "plan.pdf"
    assert pdf.is_file()
    pdf.unlink()
    assert "Nothing to be done" in done.dry_run("study.yaml")


def test_a_dry_run_makes_no_files(fresh: Copy) -> None:
    before = sorted(path.name for path in fresh.folder.iterdir() if path.name != ".snakemake")
    fresh.dry_run("tiny.yaml")
    assert sorted(path.name for path in fresh.folder.iterdir() if path.name != ".snakemake") == before


BROKEN = {
    "unknown key": ("train_examples: 96", "trian_examples: 96", "tasks.rotten_tomatoes.trian_examples: unknown key"),
    "threshold": ("tau: [0.55, 0.90]", "tau: [0.55, 1.9]", "systems.eat-6.exits.tau.1: found 1.9"),
    "length": (
        "max_length: 32",
        "max_length: 513",
        "tasks.rotten_tomatoes.max_length: found 513; the backbone minilm-6 has 512 positions",
    ),
    "layer": ("after: [2, 4]", "after: [2, 8]", "systems.eat-6.reducer.after: found layer 8; the model has 6 layers"),
    "circle": ("- epochs: 1", "- {from: student-3, epochs: 1}", "systems depend on each other in a cycle: dense-6"),
    "reference": ("reference: dense-6", "reference: eat-6", "reference 'eat-6' is not dense"),
    "key twice": ("study: tiny", "study: tiny\nstudy: other", "'study' appears twice"),
    "tag": ("reference: dense-6", "reference: !!python/object/apply:os.getcwd []", "not valid JSON or YAML"),
}


def test_a_folder_without_the_files_of_glue_gives_one_line_before_any_job(fresh: Copy) -> None:
    dry = ("-n", "--cores", "1", "--configfile", "config/glue_cpu.yaml")
    done = fresh.snakemake(*dry, "--config", "glue_dir=data/nowhere")
    assert done.returncode != 0
    assert "data/nowhere: no such folder; put GLUE there (SST-2/train.tsv, SST-2/dev.tsv)" in done.stdout + done.stderr
    assert "Job" not in done.stdout
    shutil.copytree(fresh.folder / "data" / "glue", fresh.folder / "data" / "elsewhere")
    assert fresh.snakemake(*dry, "--config", "glue_dir=data/elsewhere").returncode == 0


def test_a_command_that_fails_fails_its_job_even_though_its_output_is_there(tmp_path: Path) -> None:
    copy = copy_project(tmp_path / FOLDER)
    failing = tmp_path / "bin" / "python"
    failing.parent.mkdir()
    failing.write_text("#!/bin/sh\necho a line of the command\nexit 7\n", encoding="utf-8")
    failing.chmod(0o755)
    copy.environment["PATH"] = f"{failing.parent}{os.pathsep}{copy.environment['PATH']}"
    # as one that writes all of its output and then fails
    rules, command = copy.folder / "rules" / "prepare.smk", "python -m workflow_scripts.prepare_backbone"
    text = rules.read_text(encoding="utf-8").replace(command, f"touch {{output:q}}; {command}")
    rules.write_text(text, encoding="utf-8")
    done = copy.snakemake("--cores", "1", "--configfile", "config/tiny.yaml", "--until", "fetch_backbone")
    assert done.returncode != 0
    assert "a line of the command" in done.stdout + done.stderr


@pytest.mark.parametrize("what", BROKEN)
def test_a_bad_configuration_gives_one_line_before_any_job(fresh: Copy, what: str) -> None:
    old, new, line = BROKEN[what]
    text = (fresh.folder / "config" / "tiny.yaml").read_text(encoding="utf-8")
    assert old in text
    (fresh.folder / "config" / "bad.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    done = fresh.snakemake("-n", "--cores", "1", "--configfile", "config/bad.yaml")
    printed = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Job stats" not in printed
    assert "Traceback" not in printed
    assert len([found for found in printed.splitlines() if line in found]) == 1


def test_a_project_in_a_folder_with_braces_gives_one_line_before_any_job(tmp_path: Path) -> None:
    done = copy_project(tmp_path / "a {1} project").snakemake("-n", "--cores", "1", "--configfile", "config/tiny.yaml")
    printed = done.stdout + done.stderr
    assert done.returncode == 1
    assert "a {1} project: a brace in the project's path; rename the folder" in printed
    assert "Traceback" not in printed


def test_lint_finds_nothing(fresh: Copy) -> None:
    done = fresh.snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_formatted() -> None:
    snakefmt = SNAKEMAKE.with_name("snakefmt")
    if not snakefmt.is_file():
        pytest.skip("snakefmt is not installed")
    done = subprocess.run(
        [str(snakefmt), "--check", "Snakefile", "rules"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run: snakefmt Snakefile rules\n{done.stdout}{done.stderr}"


def test_every_input_and_output_of_a_rule_has_a_name() -> None:
    """The rules are formatted, so that each begins a line, four places behind the word above it."""
    files = [*(ROOT / "rules").glob("*.smk")]
    blocks = [
        match
        for file in files
        for match in re.finditer(r"^( +)(?:input|output):\n((?:\1 .*\n)+)", file.read_text(), re.M)
    ]
    assert len(blocks) > 30
    for block in blocks:
        entries = re.findall(rf"^{block[1]}    ([^ #)\]].*)", block[2], re.M)
        assert entries and [entry for entry in entries if not re.match(r"\w+=", entry)] == []


# --- from another folder ------------------------------------------------------------------------------------------

MODULE = """
shell.prefix("set -eu; export OWN=kept; ")

configfile: "config/study.yaml"

module eat:
    snakefile: {snakefile!r}
    config: config

use rule * from eat as eat_*

rule own:
    default_target: True
    input: rules.eat_all.input
    output: "own"
    shell: "echo $OWN > {{output}}"
"""


def _files(folder: Path) -> list[Path]:
    """The files of a project, without Snakemake's records and the modules that Python compiled."""
    return sorted(path for path in folder.rglob("*") if not {".snakemake", "__pycache__"} & {*path.parts})


@pytest.mark.workflow
@pytest.mark.parametrize("how", ["directory", "snakefile", "module"])
def test_the_study_runs_in_another_folder(ready: Copy, tmp_path: Path, how: str) -> None:
    """With its sources exact, with its modules found, and with nothing written into the project."""
    other = tmp_path / "another (folder)"
    (other / "config").mkdir(parents=True)
    shutil.copy(ready.folder / "config" / "study.yaml", other / "config" / "study.yaml")
    (tmp_path / "link").symlink_to(ready.folder)
    snakefile = str((tmp_path / "link" if how == "snakefile" else ready.folder) / "Snakefile")
    if how == "module":
        (other / "Snakefile").write_text(MODULE.format(snakefile=snakefile), encoding="utf-8")
        options = ["--workflow-profile", str(ready.folder / "profiles" / "default")]
    else:
        options = ["--configfile", str(other / "config" / "study.yaml")]
        options += ["--directory", str(other)] if how == "directory" else ["--snakefile", snakefile]
    started_in = Copy(ready.folder if how == "directory" else other, ready.environment)
    before = _files(ready.folder)
    run = started_in.snakemake("--cores", "1", *options)
    assert run.returncode == 0, run.stderr[-3000:]
    assert (other / "results" / "plan" / "records.json").is_file()
    assert _files(ready.folder) == before
    words = (other / "calls").read_text(encoding="utf-8").split("\0")
    templates = {word for flag, word in pairwise(words) if flag == "--templates"}
    assert templates == {os.path.relpath(ready.folder / "report", other)}
    (command,) = {word for flag, word in pairwise(words) if flag == "--command"}
    expected = "snakemake --cores all --snakefile" if how != "module" else "snakemake --cores all --configfile"
    assert command.startswith(expected) and "config/study.yaml" in command
    if how == "module":
        assert (other / "own").read_text(encoding="utf-8") == "kept\n"
    plan = started_in.snakemake("-n", "--cores", "1", *options)
    assert "Nothing to be done" in plan.stdout + plan.stderr
    # a source is compared by content here too
    source = ready.folder / "eat" / "figures" / "frontier.py"
    text = source.read_text(encoding="utf-8")
    try:
        source.write_text(text + "# edited\n", encoding="utf-8")
        plan = started_in.snakemake("-n", "--cores", "1", *options)
    finally:
        source.write_text(text, encoding="utf-8")
    wanted = set(re.findall(r"^ *(?:eat_)?(\w+) +1$", plan.stdout + plan.stderr, re.M)) - {"total", "all", "own"}
    assert wanted == {"plot_figure", "render_report", "record"}
    # the command that is printed where the records are lost works from there too
    shutil.rmtree(other / ".snakemake")
    refused = started_in.snakemake("-n", "--cores", "1", *options)
    repair = re.search(r"PYTHONPATH=.* repair --config(file)? \S+", refused.stdout + refused.stderr)
    assert refused.returncode != 0 and repair is not None
    with_python = os.environ | {"PATH": f"{SNAKEMAKE.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", repair[0]], cwd=other, env=with_python, check=True)
    if how != "module":  # whose rules have other names
        plan = started_in.snakemake("-n", "--cores", "1", *options)
        assert "Nothing to be done" in plan.stdout + plan.stderr


def test_without_a_configuration_of_its_own_a_folder_gets_the_projects_study(fresh: Copy, tmp_path: Path) -> None:
    dry = Copy(tmp_path, fresh.environment).snakemake("-n", "--cores", "1", "-s", str(fresh.folder / "Snakefile"))
    assert dry.returncode == 0, dry.stderr
    assert "results/embedded/summary.csv" in dry.stdout + dry.stderr


def test_a_prefix_of_a_module_is_refused(fresh: Copy, tmp_path: Path) -> None:
    """Snakemake would put it before outputs, and the commands would look for inputs without it, after hours."""
    module = MODULE.format(snakefile=str(fresh.folder / "Snakefile")).replace("    config: config", '    prefix: "sub"')
    (tmp_path / "Snakefile").write_text(
        module.replace('"config/study.yaml"', repr(str(fresh.folder / "config" / "tiny.yaml")))
    )
    dry = Copy(tmp_path, fresh.environment).snakemake("-n", "--cores", "1")
    assert dry.returncode != 0
    assert "leave `prefix` out, and name the study otherwise" in dry.stdout + dry.stderr


def test_a_folder_whose_modules_would_be_run_instead_is_refused(fresh: Copy, tmp_path: Path) -> None:
    (tmp_path / "eat").mkdir()
    (tmp_path / "eat" / "__init__.py").touch()
    dry = Copy(tmp_path, fresh.environment).snakemake("-n", "--cores", "1", "-s", str(fresh.folder / "Snakefile"))
    assert dry.returncode != 0
    assert f"{tmp_path / 'eat' / '__init__.py'} would be imported instead of" in dry.stdout + dry.stderr


# --- a run --------------------------------------------------------------------------------------------------------


def test_after_a_run_there_is_nothing_to_do(done: Copy) -> None:
    assert "Nothing to be done" in done.dry_run("study.yaml")
    assert done.pending() == []


def test_arguments_arrive_as_they_are(done: Copy) -> None:
    """Quoting: a task's name with quotes, a dollar, a backslash and an ampersand is one word of each command."""
    words = (done.folder / "calls").read_text(encoding="utf-8").split("\0")
    assert words.count(ODD_TASK) >= 5
    assert os.environ["HOME"] not in "".join(words)
    assert f"{ODD_TASK}/dense-6/seed1" in words
    assert f"{ODD_TASK}/eat-6-half/seed1" in words
    study = load_study(done.folder / "config" / "study.yaml")
    specs = [json.loads(word) for flag, word in pairwise(words) if flag == "--spec"]
    assert study.training_spec(ODD_TASK, "student-3", "finetune").plain() in specs
    parts = [json.loads(word) for flag, word in pairwise(words) if flag == "--parts"]
    assert study.parts("eat-6-half").plain() in parts
    views = [word for flag, word in pairwise(words) if flag == "--study" and word != study.study]
    assert study.view(keys.TIMING, [ODD_TASK]) in views
    assert all(study_of_json(view) for view in views)


def test_every_command_of_the_run_exists(done: Copy) -> None:
    words = (done.folder / "calls").read_text(encoding="utf-8").split("\0")
    modules = {word for flag, word in pairwise(words) if flag == "-m"}
    assert len(modules) >= 10
    for module in modules:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_a_command_that_fails_ends_the_run_with_its_line(fresh: Copy, tmp_path: Path) -> None:
    command = tmp_path / "python"
    command.write_text("#!/bin/sh\necho 'error: no column urgent' >&2\nexit 1\n", encoding="utf-8")
    command.chmod(0o755)
    failing = Copy(fresh.folder, fresh.environment | {"PATH": f"{tmp_path}{os.pathsep}{fresh.environment['PATH']}"})
    run = failing.snakemake("--cores", "1", "--configfile", "config/tiny.yaml", "--until", "prepare_text")
    assert run.returncode == 1
    assert "error: no column urgent" in run.stdout + run.stderr
    log = fresh.folder / "results" / "tiny" / "logs" / "prepare_text" / "rotten_tomatoes.log"
    assert log.read_text(encoding="utf-8") == "error: no column urgent\n"
    assert not list((fresh.folder / "data").rglob("*.parquet"))
    shutil.rmtree(fresh.folder / "results")


# --- changes of the configuration ---------------------------------------------------------------------------------


def test_a_threshold_trains_and_traces_nothing(done: Copy, every_rule: set[str]) -> None:
    def change(study: dict[str, Any]) -> None:
        study["systems"]["eat-6"]["exits"]["tau"] = [0.55, 0.91]

    plan = done.planned(change)
    steps = ("find_operating_points", "measure_time", "summarize", "plot_study_figure")
    assert rules_of(plan) == below(*steps, of=every_rule)


@pytest.mark.workflow
def test_a_rule_trains_and_traces_nothing(done: Copy, every_rule: set[str]) -> None:
    def change(study: dict[str, Any]) -> None:
        study["systems"]["eat-6"]["exits"]["rule"] = ["entropy"]

    plan = done.planned(change)
    steps = ("find_operating_points", "measure_time", "summarize", "plot_study_figure")
    assert rules_of(plan) == below(*steps, of=every_rule)


@pytest.mark.workflow
def test_a_learning_rate_trains_its_system_and_what_starts_from_it(done: Copy, every_rule: set[str]) -> None:
    def change(study: dict[str, Any]) -> None:
        study["systems"]["eat-6"]["recipe"][0]["learning_rate"] = 5e-5

    plan = done.planned(change)
    assert trained(plan) == {("eat-6", "finetune"), ("eat-6-patience", "patience")}
    below_eat = {"eat-6", "eat-6-patience", "eat-6-half"}
    assert traced(plan) == below_eat
    assert {Path(path).parts[-2] for rule, path in plan if rule == "calibrate"} == below_eat
    steps = ("finetune", "trace", "calibrate", "find_operating_points", "measure_time", "summarize")
    assert rules_of(plan) == below(*steps, of=every_rule)


@pytest.mark.workflow
def test_a_teachers_learning_rate_trains_its_students(done: Copy) -> None:
    def change(study: dict[str, Any]) -> None:
        study["systems"]["dense-6"]["recipe"][0]["learning_rate"] = 5e-5

    plan = done.planned(change)
    assert trained(plan) == {("dense-6", "finetune"), ("student-3", "finetune")}
    assert "trace_teacher" in rules_of(plan)


def test_a_learning_rate_of_a_leaf_trains_it_alone(done: Copy) -> None:
    def change(study: dict[str, Any]) -> None:
        study["systems"]["eat-6-patience"]["recipe"][0]["learning_rate"] = 5e-5

    assert trained(done.planned(change)) == {("eat-6-patience", "patience")}


@pytest.mark.workflow
def test_an_option_of_a_task_trains_for_that_task_alone(done: Copy) -> None:
    def change(study: dict[str, Any]) -> None:
        study["tasks"][ODD_TASK]["learning_rate"] = 5e-5

    plan = done.planned(change)
    assert {Path(path).parts[3] for rule, path in plan if rule == "finetune"} == {ODD_TASK}
    assert {Path(path).stem for rule, path in plan if rule == "measure_time"} == {ODD_TASK}


@pytest.mark.workflow
def test_texts_without_labels_train_those_that_learn_from_them(done: Copy, every_rule: set[str]) -> None:
    def name_texts(study: dict[str, Any]) -> None:
        study["tasks"][ODD_TASK]["unlabelled"] = [{"kind": "packaged", "name": "bbc_news"}]

    def learn(study: dict[str, Any]) -> None:
        name_texts(study)
        study["systems"]["student-3"]["recipe"][0]["texts"] = "all"

    assert done.planned(name_texts) == [], "no stage learns from them"
    plan = done.planned(learn)
    assert trained(plan) == {("student-3", "finetune")}
    assert [Path(path).name for rule, path in plan if rule == "trace_teacher"][:1] == ["unlabelled.parquet"]
    assert {"prepare_unlabelled", "trace_teacher"} < rules_of(plan) and "prepare_text" not in rules_of(plan)


@pytest.mark.workflow
def test_longer_texts_copy_no_weights_again(done: Copy) -> None:
    """They are checked when weights are copied, and the copies do not depend on them."""

    def change(study: dict[str, Any]) -> None:
        study["tasks"][ODD_TASK]["max_length"] = 64

    plan = done.planned(change)
    assert {Path(path).parts[3] for rule, path in plan if rule == "finetune"} == {ODD_TASK}
    assert "fetch_backbone" not in rules_of(plan)


@pytest.mark.workflow
def test_a_new_system_is_trained_alone(done: Copy, every_rule: set[str]) -> None:
    def change(study: dict[str, Any]) -> None:
        study["systems"]["eat-4"] = study["systems"]["eat-6-early"] | {"layers": {"first": 6}}

    plan = done.planned(change)
    assert trained(plan) == {("eat-4", "finetune")}
    assert traced(plan) == {"eat-4"}
    steps = ("finetune", "trace", "calibrate", "find_operating_points", "measure_time", "summarize")
    assert rules_of(plan) == below(*steps, of=every_rule)


RUN_STEPS = ("trace", "calibrate", "find_operating_points", "measure_time", "summarize")


@pytest.mark.workflow
def test_weights_run_otherwise_are_traced_and_not_trained(done: Copy, every_rule: set[str]) -> None:
    def change(study: dict[str, Any]) -> None:
        study["systems"]["eat-6-int8"] = {
            "weights_of": "eat-6", "engine": "onnx", "precision": "int8", "exits": {"tau": [0.8]}
        }  # fmt: skip

    plan = done.planned(change)
    assert trained(plan) == set()
    assert traced(plan) == {"eat-6-int8"}
    assert {Path(path).parts[-2] for rule, path in plan if rule == "calibrate"} == {"eat-6-int8"}
    assert rules_of(plan) == below(*RUN_STEPS, of=every_rule)


@pytest.mark.parametrize(
    "options",
    [{"precision": "float16"}, {"reducer": {"kind": "none"}}, {"attention": {"kind": "dense"}}],
    ids=["precision", "reducer", "attention"],
)
@pytest.mark.workflow
def test_how_weights_are_run_is_traced_again_for_that_system_alone(
    done: Copy, every_rule: set[str], options: dict[str, Any]
) -> None:
    plan = done.planned(lambda study: study["systems"]["eat-6-half"].update(options))
    assert trained(plan) == set()
    assert traced(plan) == {"eat-6-half"}
    assert {Path(path).parts[-2] for rule, path in plan if rule == "calibrate"} == {"eat-6-half"}
    assert rules_of(plan) == below(*RUN_STEPS, of=every_rule)


@pytest.mark.workflow
def test_a_precision_of_a_trained_system_trains_nothing(done: Copy, every_rule: set[str]) -> None:
    plan = done.planned(lambda study: study["systems"]["student-3"].update(precision="bfloat16"))
    assert trained(plan) == set()
    assert traced(plan) == {"student-3"}
    assert rules_of(plan) == below(*RUN_STEPS, of=every_rule)


@pytest.mark.workflow
def test_a_threshold_of_weights_run_otherwise_traces_nothing(done: Copy, every_rule: set[str]) -> None:
    plan = done.planned(lambda study: study["systems"]["eat-6-half"].update(exits={"tau": [0.7]}))
    steps = ("find_operating_points", "measure_time", "summarize", "plot_study_figure")
    assert rules_of(plan) == below(*steps, of=every_rule)


@pytest.mark.workflow
def test_a_new_student_of_an_old_teacher_is_trained_alone(done: Copy) -> None:
    def change(study: dict[str, Any]) -> None:
        study["systems"]["student-2"] = study["systems"]["student-3"] | {"layers": {"every": 3}}

    plan = done.planned(change)
    assert trained(plan) == {("student-2", "finetune")}
    assert traced(plan) == {"student-2"}


@pytest.mark.workflow
def test_a_new_task_and_a_new_seed_leave_the_old_ones(done: Copy) -> None:
    def change(study: dict[str, Any]) -> None:
        study["tasks"]["imdb"] = study["tasks"]["rotten_tomatoes"] | {"source": {"kind": "packaged", "name": "imdb"}}
        study["seeds"] = [1, 2]

    made = [Path(path).parts for rule, path in done.planned(change) if rule == "finetune"]
    assert {(parts[3], parts[5]) for parts in made} == {
        *(("imdb", seed) for seed in ("seed1", "seed2")),
        ("rotten_tomatoes", "seed2"),
        (ODD_TASK, "seed2"),
    }


@pytest.mark.parametrize(
    "options",
    [
        {"texts": 17},
        {"batch_sizes": [1]},
        {"deep_layers": 6},
        {"stock": [{"engine": "onnx", "precision": "int8"}, {"engine": "stock", "precision": "bfloat16"}]},
        {"threads": 1, "repeats": 2},
    ],
    ids=["texts", "batch sizes", "deep layers", "stock precisions", "two values changed round"],
)
@pytest.mark.workflow
def test_an_option_of_the_clock_only_measures_again(done: Copy, every_rule: set[str], options: dict[str, Any]) -> None:
    plan = done.planned(lambda study: study["timing"].update(options))
    assert rules_of(plan) == below("measure_time", "summarize", of=every_rule)


@pytest.mark.workflow
def test_another_device_of_the_clock_traces_there_and_trains_nothing(done: Copy, every_rule: set[str]) -> None:
    plan = done.planned(lambda study: study["timing"].update(device="auto"))
    assert trained(plan) == set()
    assert "trace_teacher" not in rules_of(plan)
    assert rules_of(plan) == below(*RUN_STEPS, of=every_rule)


@pytest.mark.workflow
def test_another_device_of_the_traces_trains_nothing(done: Copy, every_rule: set[str]) -> None:
    plan = done.planned(lambda study: study.update(trace={"device": "auto"}))
    assert rules_of(plan) == below(*RUN_STEPS, of=every_rule) | {"trace"}
    assert done.planned(lambda study: study.update(trace={"device": "cpu"})) == []  # where it is traced anyway


@pytest.mark.workflow
def test_another_device_of_the_training_trains_and_traces_the_teachers(done: Copy) -> None:
    plan = done.planned(lambda study: study["training"].update(device="cpu"))
    assert {"finetune", "trace_teacher", "trace", "measure_time"} <= rules_of(plan)


@pytest.mark.workflow
def test_calibration_starts_from_the_traces(done: Copy, every_rule: set[str]) -> None:
    plan = done.planned(lambda study: study.update(calibration={"mode": "raw"}))
    steps = ("calibrate", "find_operating_points", "measure_time", "summarize")
    assert rules_of(plan) == below(*steps, of=every_rule)


@pytest.mark.workflow
def test_a_budget_only_chooses_again(done: Copy, every_rule: set[str]) -> None:
    plan = done.planned(lambda study: study.update(accuracy_budget=0.02))
    assert rules_of(plan) == below("find_operating_points", "summarize", of=every_rule)


@pytest.mark.workflow
def test_what_means_the_same_plans_nothing(done: Copy) -> None:
    """Comments, the order of keys, a default written out, another way to write a number."""

    def change(study: dict[str, Any]) -> None:
        study["systems"] = dict(sorted(study["systems"].items()))
        study["systems"]["eat-6"]["attention"]["left"] = 16.0
        study["systems"]["dense-6"]["reducer"] = {"kind": "none"}
        study["accuracy_budget"] = 0.01
        study["training"]["learning_rate"] = str(study["training"]["learning_rate"])

    assert done.planned(change) == []


# --- changes of files ---------------------------------------------------------------------------------------------


@contextmanager
def edited(copy: Copy, *paths: str, text: str = "\n# edited\n") -> Iterator[None]:
    """Append text to files of a copy; put them back as they were, with their dates, at the end."""
    before = {path: ((copy.folder / path).read_bytes(), (copy.folder / path).stat()) for path in paths}
    try:
        for path in paths:
            with open(copy.folder / path, "a", encoding="utf-8") as file:
                file.write(text)
        yield
    finally:
        for path, (content, stat) in before.items():
            (copy.folder / path).write_bytes(content)
            os.utime(copy.folder / path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def rules_that_import(copy: Copy, path: str) -> set[str]:
    """The rules whose command imports a file, by what the rules say."""
    found = set()
    for file in (copy.folder / "rules").glob("*.smk"):
        for rule, module in re.findall(
            r'^rule (\w+):.*?sources_of\("([\w.]+)"', file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            if path in sources_of(module):
                found.add(rule)
    return found


@pytest.mark.parametrize(
    "path",
    [
        "eat/figures/canvas.py",
        "eat/finetune/stage.py",
        "eat/model/reducers/merging.py",  # which is reached through the registry of reducers alone
        "eat/results/flops.py",
        "eat/timing/clock.py",
        "workflow_scripts/figures.py",
    ],
)
@pytest.mark.workflow
def test_an_edited_module_plans_the_rules_that_import_it(done: Copy, every_rule: set[str], path: str) -> None:
    importing = rules_that_import(done, path) & every_rule
    downstream = {
        "eat/figures/canvas.py": every_rule - STEPS,
        "eat/finetune/stage.py": every_rule - {"prepare_text", "fetch_backbone"},
        "eat/model/reducers/merging.py": every_rule - {"prepare_text", "fetch_backbone"},
        "eat/results/flops.py": below("calibrate", "find_operating_points", "measure_time", "summarize", of=every_rule),
        "eat/timing/clock.py": below("measure_time", "summarize", of=every_rule),
        "workflow_scripts/figures.py": every_rule - STEPS - {"render_tables"},
    }[path]
    assert importing
    with edited(done, path):
        found = rules_of(done.pending())
    assert importing <= found <= downstream


@pytest.mark.workflow
def test_a_file_that_no_command_imports_plans_nothing(done: Copy) -> None:
    with edited(done, "config/schema.json", "profiles/default/profile.yaml", "workflow_scripts/versioning.py"):
        assert done.pending() == []


def test_a_file_that_is_only_touched_plans_nothing(done: Copy) -> None:
    touched = sorted((done.folder / "eat").rglob("*.py"))
    touched += sorted((done.folder / "data").rglob("*.parquet"))
    assert len(touched) > 20
    for path in touched:
        path.touch()
    assert done.pending() == []


@pytest.mark.workflow
def test_a_lost_result_is_made_again_and_nothing_before_it(done: Copy, every_rule: set[str]) -> None:
    path = done.folder / "results" / "plan" / "metrics.json"
    kept, stat = path.read_bytes(), path.stat()
    path.unlink()
    try:
        assert rules_of(done.pending()) == below("summarize", of=every_rule)
    finally:
        path.write_bytes(kept)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


# --- a lock -------------------------------------------------------------------------------------------------------


@contextmanager
def locked(copy: Copy, *files: str) -> Iterator[None]:
    """Snakemake's lock on some files, as a run leaves it that was killed."""
    lock = copy.folder / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("".join(f"{file}\n" for file in files), encoding="utf-8")
    try:
        yield
    finally:
        shutil.rmtree(lock.parent, ignore_errors=True)


def test_a_lock_that_was_left_is_named_with_the_command_that_removes_it(fresh: Copy) -> None:
    tiny = ("--cores", "1", "--configfile", "config/tiny.yaml")
    with locked(fresh, "results/tiny/summary.csv"):
        refused = fresh.snakemake(*tiny)
        assert refused.returncode != 0
        (line,) = [line for line in refused.stderr.splitlines() if "left Snakemake's lock" in line]
        remedy = line.partition("Remove the lock with ")[2].partition(", then")[0]
        assert remedy == "snakemake --unlock --configfile config/tiny.yaml"
        other = fresh.snakemake("-n", "--cores", "1")  # another study, which the lock does not concern
        assert "left Snakemake's lock" not in other.stderr
        unlocked = fresh.snakemake(*remedy.split()[1:])
        assert unlocked.returncode == 0 and "left Snakemake's lock" not in unlocked.stderr
        assert "left Snakemake's lock" not in fresh.snakemake("-n", *tiny).stderr


def test_a_lock_that_is_held_is_not_to_be_removed(fresh: Copy) -> None:
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)", "snakemake"]
    with locked(fresh, "results/tiny/summary.csv"), subprocess.Popen(sleeping, cwd=fresh.folder) as held:
        try:
            other = fresh.snakemake("-n", "--cores", "1", "--configfile", "config/tiny.yaml")
            assert "left Snakemake's lock" not in other.stderr
        finally:
            held.kill()
