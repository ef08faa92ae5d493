"""
The validated study, its paths, and functions that several phases share.

REQUIRED: `config`, as Snakemake read it.
GIVES: STUDY, IS_TAGGING, PATHS, PHASES_OF_STUDY, NEEDS, GLUE_DIR, SOURCE_FILES, UNLABELLED_FILES, OF_UNLABELLED, CONTENT_OF_TASK, CONTENT_OF_BACKBONE,
from_here, sources_of, code_of, and the functions from wildcards to input files.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path

from snakemake.exceptions import WorkflowError

if not workflow.current_basedir.is_local:
    raise WorkflowError("this workflow imports its own library: clone the repository, and name the clone's Snakefile")

# not workflow.basedir, which differs if this project is a module of another workflow
sys.path.insert(0, os.path.dirname(workflow.current_basedir.get_path_or_uri(secret_free=True)))

from eat.validation import canonical_json
from eat.study.kinds import load_any_study
from eat.study.loading import read_mapping
from eat.study import keys
from eat.study.depths import check_depths
from eat.engines.registry import MODULES, PACKAGE
from eat.errors import EatError
from eat.figures.figure import option_of
from eat.figures.registry import FIGURES
from eat.study.paths import BACKBONE_FILES, CURVES, TABLES, TEMPLATES, StudyPaths
from eat.study.tagging import TaggingStudy
from eat.study.tagging_paths import TaggingPaths
from eat.prepare.backbones import given_files, known_depths
from eat.prepare.sources.registry import reader_of
from eat.prepare.suitability import check_lengths, needs_of
from eat.prepare.unlabelled import unlabelled_files
from eat.tagging.checks import check_tagging, files_of_task
from eat.tune.paths import trial_trace
from workflow_scripts import _sources
from workflow_scripts._command import WORKFLOW
from workflow_scripts._content import content_of
from workflow_scripts._phases import phases_of
from workflow_scripts._records import (
    distrust_damaged_records,
    files_of,
    is_left_locked,
    note_contents,
    records_may_be_lost,
    refusal,
    without_record,
)
from workflow_scripts._sources import ROOT, code_of

try:
    for file in workflow.configfiles:
        read_mapping(file)  # Snakemake would take the last of two equal keys in silence
    STUDY = load_any_study(config)
    # whether words are tagged; else texts are classified
    IS_TAGGING = isinstance(STUDY, TaggingStudy)
    if IS_TAGGING:
        check_tagging(STUDY)
        SOURCE_FILES = {name: files_of_task(name, task) for name, task in STUDY.tasks.items()}
        UNLABELLED_FILES, GLUE_DIR = {}, None
    else:
        check_depths(STUDY, known_depths(STUDY.backbones))
        check_lengths(STUDY)
        SOURCE_FILES = {name: reader_of(task.source, STUDY.glue_dir).files() for name, task in STUDY.tasks.items()}
        UNLABELLED_FILES = {
            name: [*chain.from_iterable(map(unlabelled_files, task.unlabelled))] for name, task in STUDY.tasks.items()
        }
        GLUE_DIR = STUDY.glue_dir
    CONTENT_OF_TASK = {name: content_of(files) for name, files in SOURCE_FILES.items()}
    CONTENT_OF_BACKBONE = {name: content_of(given_files(backbone)) for name, backbone in STUDY.backbones.items()}
except EatError as error:
    raise WorkflowError(str(error)) from None

if set("{}") & set(workflow.basedir):
    # Snakemake expands wildcards in the path of an environment and has no escape
    raise WorkflowError(f"{workflow.basedir}: a brace in the project's path; rename the folder, or go there by a link")

PATHS = (TaggingPaths if IS_TAGGING else StudyPaths)(STUDY.study)
PHASES_OF_STUDY = phases_of(STUDY)

# the texts' requirements on a backbone, as options of `fetch_backbone`
if IS_TAGGING:
    longest, pairs = max(task.max_length for task in STUDY.tasks.values()), False
else:
    longest, pairs = needs_of(STUDY)
NEEDS = f"--max-length {longest}" + (" --pairs" if pairs else "")

if workflow.modifier.modify_path(str(PATHS.results)) != str(PATHS.results):
    raise WorkflowError("the commands find files by the study's name: leave `prefix` out, and name the study otherwise")
if not ROOT.samefile(sys.path[0]):
    raise WorkflowError(f"one run can use one copy of this project; that of {ROOT} is loaded already")
for package in () if ROOT.samefile(".") else ("eat", "workflow_scripts"):
    for file in (f"{package}.py", f"{package}/__init__.py"):
        if Path(file).exists():
            raise WorkflowError(f"{Path(file).resolve()} would be imported instead of {ROOT / package}; rename it")

# a job ends by itself once this Snakemake has died: bash is the job's parent, and Snakemake that of bash. Its
# command is a module of this project, whichever folder it works in. A prefix replaces the one before, which may be that
# of the workflow this is a module of, or Snakemake's own, by which a command that fails before `| tee` fails its job
EXPORTS = f"export {WORKFLOW}=$PPID PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}; "
before = shell._process_prefix or "set -euo pipefail; "
if EXPORTS not in before:
    shell.prefix((before + EXPORTS).replace("{", "{{").replace("}", "}}"))

if workflow.is_main_process and not records_may_be_lost():
    # for example after a power loss
    for result in distrust_damaged_records():
        print(f"{result}: its record is damaged; it is made again", file=sys.stderr)


def require_records():
    """Refuse to run if a result has no record, since Snakemake would then not notice a changed parameter."""
    # a remaining lock would block the repair
    if not workflow.is_main_process or records_may_be_lost() or "--unlock" in sys.argv:
        return
    outputs = [output for rule in workflow.rules for output in rule.output]
    made = [file for file in files_of(PATHS) if any(output.match(file) for output in outputs)]
    lost = without_record(PATHS, made)
    if lost:
        raise WorkflowError(refusal(PATHS, lost, given_configuration()))


def given_configuration():
    """The options that configure this study, for a command that makes or repairs it."""
    # those of the command line, or else that of the Snakefile, which may be another one than ours
    files = [os.path.relpath(file) for file in workflow.config_settings.configfiles or workflow.configfiles]
    overrides = workflow.config_settings.config_args or []
    if files == ["config/config.yaml"]:
        files = []
    return [*(["--configfile", *files] if files else []), *(["--config", *overrides] if overrides else [])]


if workflow.is_main_process and threading.current_thread() is threading.main_thread():
    # Snakemake removes its lock when it gets Ctrl-C, and SIGTERM once jobs run; before, and when the terminal is
    # closed, it would leave the lock behind
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def from_here(file):
    """The path of a project file from the working folder; in the project's folder it is independent of the machine."""
    return os.path.relpath(ROOT / file)


def sources_of(module, part=None, within=None):
    """The files of a command's module and of all local modules it can import; `part` and `within` leave some out."""
    return [from_here(file) for file in _sources.sources_of(module, part, within)]


def engine_module(wildcards):
    """The module of the system's engine: other engines are not sources of its traces."""
    return MODULES[STUDY.parts(wildcards.system).engine]


# the rules that need a device and a precision
OF_UNLABELLED = {"unlabelled", "unlabelled_examples"}
"""The keys of a task on which its labelled text does not depend."""

COMPUTING = {"finetune", "trace", "trace_teacher", "trace_trial", "compare_importance", "measure_time"}


onstart:
    # before hours of training, and not when a trace finds it. On a cluster other machines compute, and with software
    # environments for each job another PyTorch; there the jobs say it
    local = workflow.local_exec and not workflow.touch and not workflow.deployment_settings.deployment_method
    if local and COMPUTING & {job.rule.name for job in workflow.dag.needrun_jobs()}:
        given = canonical_json(STUDY.model_dump(mode="json", by_alias=True))
        tried = ["python", "-m", "workflow_scripts.check_machine", "--study", given]
        found = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        if subprocess.run(tried, check=False, env=os.environ | {"PYTHONPATH": found}).returncode != 0:
            raise WorkflowError("this machine cannot run the study as it stands; no job was started")


def one_of(names):
    """A wildcard constraint that matches only these names."""
    return "|".join(re.escape(str(name)) for name in sorted(set(names)))


wildcard_constraints:
    task=one_of(STUDY.tasks),
    system=one_of(STUDY.systems),
    stage=one_of(stage for system in STUDY.systems for stage in STUDY.stage_names(system)),
    seed=one_of(STUDY.seeds),
    backbone=one_of(STUDY.backbones),


def runs():
    """Every trained model of a task: (system, seed)."""
    return [(system, seed) for system in STUDY.systems for seed in STUDY.seeds]


def model_folders(wildcards):
    """The models whose weights a system runs: one, or for a cascade one per member."""
    return [
        PATHS.model(STUDY.trained_task(wildcards.task), trained, wildcards.seed, stage)
        for trained, stage in STUDY.models_of(wildcards.system)
    ]


def model_files(wildcards):
    """Their files."""
    return [folder / file for folder in model_folders(wildcards) for file in BACKBONE_FILES]


def dev_traces(wildcards):
    """The dev traces of all models of a task."""
    return [PATHS.trace(wildcards.task, *run, "dev") for run in runs()]


def calibrations(wildcards):
    """The temperatures of all models of a task."""
    return [PATHS.calibration(wildcards.task, *run) for run in runs()]


def all_cores(wildcards):
    """All cores of this machine, so that no other job runs during timing; on a cluster the profile ensures this."""
    return workflow.cores if workflow.local_exec else STUDY.timing.threads


def gpus(device, number=1):
    """The GPUs of a job, as the resource `gpu`: some if the configuration names CUDA. A cluster's profile maps it."""
    return number if device == "cuda" else 0


def parent_folder(wildcards):
    """The model, or the backbone, that a stage starts from."""
    parent = STUDY.parent_of(wildcards.system, wildcards.stage)
    if parent is None:
        return PATHS.backbone(STUDY.systems[wildcards.system].backbone)
    return PATHS.model(wildcards.task, parent[0], wildcards.seed, parent[1])


def parent_files(wildcards):
    """Its files."""
    return [parent_folder(wildcards) / file for file in BACKBONE_FILES]


def training_texts(wildcards):
    """The texts of a stage: the training split, and the unlabelled texts if it learns from them, too."""
    splits = STUDY.training_splits(wildcards.task, STUDY.stage(wildcards.system, wildcards.stage))
    return [PATHS.split(wildcards.task, split) for split in splits]


def teacher_traces(wildcards):
    """The teacher's traces of these texts, if a stage learns from the logits of another system."""
    stage = STUDY.stage(wildcards.system, wildcards.stage)
    splits = STUDY.training_splits(wildcards.task, stage) if stage.logits_of else []
    return [PATHS.trace(wildcards.task, stage.logits_of, wildcards.seed, split) for split in splits]


def teacher_model_files(wildcards):
    """The files of the teacher's model, if a stage learns from the layers of another system."""
    teacher = STUDY.stage(wildcards.system, wildcards.stage).layers_of
    if teacher is None:
        return []
    folder = PATHS.model(wildcards.task, teacher, wildcards.seed, STUDY.stage_names(teacher)[-1])
    return [folder / file for file in BACKBONE_FILES]


def teacher_options(wildcards, input):
    """The options of a stage with what it learns from."""
    traces = ["--teacher", *input.teacher] if input.teacher else []
    model = ["--teacher-model", os.path.dirname(input.teacher_model[0])] if input.teacher_model else []
    return [*traces, *model]


def rebuild_command():
    """The command that rebuilds this study, for the report."""
    return shlex.join(["snakemake", "--cores", "all", *given_snakefile(), *given_configuration()])


def given_snakefile():
    """The option that names the Snakefile, unless Snakemake finds it from the working folder."""
    main = os.path.relpath(workflow.main_snakefile)
    return [] if main in ("Snakefile", "workflow/Snakefile") else ["--snakefile", main]


if workflow.is_main_process and "--unlock" not in sys.argv and is_left_locked(PATHS):
    print(
        f"a run of {PATHS.results} was killed and left Snakemake's lock; no Snakemake of this machine runs here. "
        f"Remove the lock with {shlex.join(['snakemake', '--unlock', *given_snakefile(), *given_configuration()])}, "
        "then run the same command again",
        file=sys.stderr,
    )


def first_task():
    """The task from whose traces the shapes of systems are read, which are the same for all tasks."""
    return next(iter(STUDY.tasks))


def is_drawn(figure):
    """Whether this study has a figure."""
    return figure.needs is None or bool(getattr(STUDY, figure.needs, None))


# name -> figure: those of each task, and those of the whole study
TASK_FIGURES = {name: figure for name, figure in FIGURES.items() if figure.of == "task" and is_drawn(figure)}
STUDY_FIGURES = {name: figure for name, figure in FIGURES.items() if figure.of == "study" and is_drawn(figure)}


def captions(names):
    """The files of the captions of figures, as paths in the project."""
    return [f"report/captions/{name}.rst" for name in names]


def figure_files(wildcards):
    """Every figure of the study."""
    endings = ("pdf", "svg")
    return [
        *(PATHS.study_figure(name, ending) for name in STUDY_FIGURES for ending in endings),
        *(PATHS.figure(name, task, ending) for task in STUDY.tasks for name in TASK_FIGURES for ending in endings),
    ]


def figure_results_by_name(wildcards):
    """The files that a figure reads, by their declared names."""
    task = wildcards.get("task", first_task())
    shapes = [PATHS.trace(task, system, STUDY.seeds[0], "dev").with_suffix(".json") for system in STUDY.systems]
    return {
        name: shapes if name == "shapes" else [PATHS.result(name, task)] for name in FIGURES[wildcards.figure].reads
    }


def figure_results(wildcards):
    """The files that a figure reads."""
    return [file for files in figure_results_by_name(wildcards).values() for file in files]


def figure_options(wildcards):
    """The command-line options with the inputs of a figure."""
    exits = {name: {"rule": row.exits.rule, "tau": row.exits.tau} for name, row in STUDY.systems.items()}
    values = {
        "task": wildcards.get("task"),
        "reference": STUDY.reference,
        "exit_rules": json.dumps(exits, ensure_ascii=False),
    }
    given = {name: [values[name]] for name in FIGURES[wildcards.figure].takes} | figure_results_by_name(wildcards)
    return [str(word) for name, words in given.items() for word in (option_of(name), *words)]


def figure_part(wildcards):
    """The arguments that exclude the other figures from the sources of this one."""
    return {"part": FIGURES[wildcards.figure].module, "within": "eat.figures"}


def figure_caption(wildcards):
    """The text of a figure's caption."""
    (caption,) = captions([wildcards.figure])
    return (ROOT / caption).read_text(encoding="utf-8").strip()


def ablation_tables(wildcards):
    """The study's ablation for each task, if it has one."""
    return [PATHS.ablation_summary(task) for task in STUDY.tasks if STUDY.ablation]


def importance_tables(wildcards):
    """The comparison of token scores with saliency for each task, if the study has one."""
    return [PATHS.importance(task) for task in STUDY.tasks if STUDY.importance_texts]


# what mistakes cost, where a task says it
TRIAGE_TABLES = [PATHS.triage] if not IS_TAGGING and STUDY.has_triage else []


def report_files(wildcards):
    """The report as LaTeX and as a page, and its tables."""
    return [PATHS.report / "results.tex", PATHS.report / "report.html", *table_files(wildcards)]


# results that no other phase reads; the file of their rules adds them
MORE_RESULTS = []


def everything_else(wildcards):
    """All results except the records."""
    if IS_TAGGING:
        return MORE_RESULTS
    return [
        PATHS.summary,
        PATHS.metrics,
        *report_files(wildcards),
        *figure_files(wildcards),
        *ablation_tables(wildcards),
        *MORE_RESULTS,
    ]


def table_files(wildcards):
    """The LaTeX tables of all tasks."""
    return [PATHS.table(kind, task) for task in STUDY.tasks for kind in TABLES]


def tagger_folder(wildcards):
    """The folder of the weights that a system runs."""
    return PATHS.tagger(wildcards.task, STUDY.trained_of(wildcards.system), wildcards.seed)


def taggers(wildcards):
    """The weights of all taggers of a task."""
    trained = dict.fromkeys(STUDY.trained_of(system) for system in STUDY.systems)
    return [
        PATHS.tagger(wildcards.task, system, seed) / "model.safetensors" for seed in STUDY.seeds for system in trained
    ]


def tagging_traces(wildcards, split="dev"):
    """The traces of all systems of a task over a split, each with its shape."""
    found = [PATHS.trace(wildcards.task, *run, split) for run in runs()]
    return [*found, *(trace.with_suffix(".json") for trace in found)]
