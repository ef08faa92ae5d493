"""The phases of the workflow as DVC sees them: which rules each holds, and which keys of a configuration it reads.

A phase is a file of `rules/` and a stage of `dvc.yaml`. The keys are written down here because DVC compares parameters
key by key; `tests/test_versioning.py` holds them against what Snakemake reruns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from eat.figures.registry import FIGURES
from eat.study.paths import TEMPLATES
from workflow_scripts._sources import sources_of

STUDY = ("study", "seeds")
TASK = ("tasks.*.max_length", "tasks.*.models_of")
TRAINED = tuple(f"tasks.*.{key}" for key in ("learning_rate", "batch_size", "epochs", "epochs_scale"))
SYSTEM = tuple(
    f"systems.*.{key}"
    for key in ("backbone", "layers", "reducer", "attention", "exits.after", "exits.read", "exits.head", "last_head")
)
PARTS = ("systems.*.weights_of", "systems.*.cascade", "systems.*.precision")
TRAINING = tuple(
    f"training.{key}"
    for key in (
        "batch_size", "learning_rate", "weight_decay", "warmup", "max_grad_norm", "attention_dropout", "precision",
        "device",
    )
)  # fmt: skip
RULE = tuple(f"systems.*.exits.{key}" for key in ("rule", "tau", "patience", "promise"))
CALIBRATION = ("calibration", "systems.*.calibration")

CAPTIONS = tuple(f"report/captions/{name}.rst" for name in FIGURES)


COMMANDS = {
    "fetch_backbone": "prepare_backbone",
    "trace_teacher": "trace",
    "compare_importance": "trace_importance",
    "find_operating_points": "calibrate_points",
    "measure_time": "timing",
    "plot_figure": "figures",
    "plot_study_figure": "figures",
    "render_tables": "report_tables",
    "render_report": "report_page",
}
"""Rule -> command of `workflow_scripts`, if the names differ. A command is named by its phase, a rule by a verb."""


def command_of(rule: str) -> str:
    """The module that a rule runs."""
    return f"workflow_scripts.{COMMANDS.get(rule, rule)}"


@dataclass(frozen=True)
class Phase:
    """A stage of `dvc.yaml`.

    rules: the rules whose outputs it holds. reads: the phases whose outputs it reads. keys: patterns of the
    configuration keys it depends on. files: others.
    """

    rules: tuple[str, ...]
    reads: tuple[str, ...]
    keys: tuple[str, ...]
    files: tuple[str, ...] = ()

    def sources(self) -> set[str]:
        """Every local module that its commands can import."""
        return {file for rule in self.rules for file in sources_of(command_of(rule))}


POINTS = (*STUDY, "tasks", "backbones", "reference", *SYSTEM, *PARTS, *RULE)

PHASES: Mapping[str, Phase] = {
    "prepare": Phase(
        ("prepare_text", "fetch_backbone"),
        (),
        ("study", "tasks", "backbones", "glue_dir"),
    ),
    # a student's teacher is traced between two trainings
    "finetune": Phase(
        ("finetune", "trace_teacher"),
        ("prepare",),
        (*STUDY, *TASK, *TRAINED, *SYSTEM, "systems.*.recipe", *TRAINING),
    ),
    "trace": Phase(
        ("trace", "compare_importance"),
        ("prepare", "finetune"),
        (*STUDY, *TASK, *SYSTEM, *PARTS, "trace", "timing.device", "reference", "importance_texts"),
    ),
    "calibrate": Phase(
        ("calibrate", "find_operating_points"),
        ("trace",),
        (*POINTS, *CALIBRATION, "accuracy_budget"),
    ),
    "timing": Phase(("measure_time",), ("prepare", "finetune", "trace", "calibrate"), (*POINTS, "timing")),
    "summarize": Phase(
        ("summarize",),
        ("trace", "calibrate", "timing"),
        (*POINTS, *CALIBRATION, "accuracy_budget", "timing", "ablation"),
    ),
    "figures": Phase(
        ("plot_figure", "plot_study_figure"),
        ("trace", "timing", "summarize"),
        ("study", "seeds", "reference", *RULE, "ablation"),
        files=CAPTIONS,
    ),
    "report": Phase(
        ("render_tables", "render_report"),
        ("prepare", "trace", "timing", "summarize", "figures"),
        (*POINTS, *CALIBRATION, "accuracy_budget", "timing", "ablation", "importance_texts"),
        files=tuple(f"report/{file}" for file in TEMPLATES) + CAPTIONS,
    ),
    "record": Phase(
        ("record",),
        ("prepare", "finetune", "trace", "calibrate", "timing", "summarize", "figures", "report"),
        ("study",),
    ),
}
"""In the order data takes."""


def phase_of(rule: str) -> str | None:
    """The phase a rule belongs to; `None` for `all` and for `render_pdf`, whose output is not versioned."""
    return next((name for name, phase in PHASES.items() if rule in phase.rules), None)


def keys_of(config: Mapping[str, Any], patterns: tuple[str, ...]) -> list[str]:
    """The keys present in a configuration that match a pattern, each as high in the tree as a pattern names it."""
    return sorted(set(_matching(config, patterns, ())))


def _matching(value: Any, patterns: tuple[str, ...], path: tuple[str, ...]) -> Iterator[str]:
    if path and any(_matches(path, pattern) for pattern in patterns):
        yield ".".join(path)
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _matching(below, patterns, (*path, str(key)))


def _matches(path: tuple[str, ...], pattern: str) -> bool:
    parts = pattern.split(".")
    return len(parts) == len(path) and all(map(fnmatchcase, path, parts))
