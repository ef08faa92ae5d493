"""
The functions from wildcards to the input files and options of rules, in the order of the phases.

REQUIRED: `rules/common.smk`.
GIVES: the functions, OF_UNLABELLED, TASK_FIGURES, STUDY_FIGURES, TRIAGE_TABLES, and MORE_RESULTS, to which a phase may add.
"""

import json

from eat.engines.registry import MODULES, PACKAGE
from eat.figures.figure import option_of
from eat.figures.registry import FIGURES
from eat.study.paths import BACKBONE_FILES, TABLES

OF_UNLABELLED = {"unlabelled", "unlabelled_examples"}
"""The keys of a task on which its labelled text does not depend."""


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


def engine_module(wildcards):
    """The module of the system's engine: other engines are not sources of its traces."""
    return MODULES[STUDY.parts(wildcards.system).engine]


def dev_traces(wildcards):
    """The dev traces of all models of a task."""
    return [PATHS.trace(wildcards.task, *run, "dev") for run in runs()]


def calibrations(wildcards):
    """The temperatures of all models of a task."""
    return [PATHS.calibration(wildcards.task, *run) for run in runs()]


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
