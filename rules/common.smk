"""
The validated study and its paths, and the checks before the first job: records, locks, the machine.

REQUIRED: `config`, as Snakemake read it.
GIVES: STUDY, IS_TAGGING, PATHS, PHASES_OF_STUDY, NEEDS, GLUE_DIR, SOURCE_FILES, UNLABELLED_FILES, CONTENT_OF_TASK,
CONTENT_OF_BACKBONE, from_here, sources_of, code_of, rebuild_command.
"""

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
from eat.errors import EatError
from eat.study.paths import CURVES, TEMPLATES, StudyPaths
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


# the rules that need a device and a precision
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
