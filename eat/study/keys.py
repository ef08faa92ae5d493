"""The configuration keys on which each job depends; they are listed only here.

A key is a path with dots in which `*` matches any name or number. `Study.view` keeps these keys and sets all others to
their defaults, so that a change of another key does not change a job's parameters. `matching` lists the keys that are
in a configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

STUDY = ("study", "seeds")
TASK = ("tasks.*.max_length", "tasks.*.models_of")
SYSTEM = tuple(
    f"systems.*.{key}"
    for key in ("backbone", "layers", "reducer", "attention", "exits.after", "exits.read", "exits.head", "last_head")
)
PARTS = tuple(f"systems.*.{key}" for key in ("weights_of", "cascade", "precision", "engine", "width"))
STAGES = ("systems.*.recipe.*.name",)
RULE = tuple(f"systems.*.exits.{key}" for key in ("rule", "tau", "patience", "promise", "choose"))
CALIBRATION = ("calibration", "systems.*.calibration")
REQUIRED = ("reference", "backbones", "tasks.*.source")
"""The required keys of a study."""
POINTS = (*STUDY, *TASK, *SYSTEM, *PARTS, *STAGES, *RULE, *REQUIRED)
"""The keys that determine operating points."""

PREPARE = ("study", "tasks", "backbones", "glue_dir")
FINETUNE = (
    *STUDY,
    *TASK,
    *SYSTEM,
    "systems.*.recipe",
    *(f"tasks.*.{key}" for key in ("learning_rate", "batch_size", "epochs", "epochs_scale")),
    *(
        f"training.{key}"
        for key in (
            "batch_size", "learning_rate", "weight_decay", "warmup", "max_grad_norm", "attention_dropout", "precision",
            "device", "gpus",
        )
    ),
)  # fmt: skip
TRACE = (*STUDY, *TASK, *SYSTEM, *PARTS, "trace", "timing.device")
IMPORTANCE = (*STUDY, *TASK, *SYSTEM, *PARTS, *STAGES, *REQUIRED, "importance_texts", "trace", "timing.device")
CALIBRATE = (*POINTS, *CALIBRATION, "accuracy_budget", "tasks.*.triage")
TIMING = (*POINTS, "timing")
SUMMARIZE = (*CALIBRATE, "timing", "ablation")
FIGURES = ("study", "seeds", "reference", *RULE, "ablation")
REPORT = (*SUMMARIZE, "tasks.*.title", "importance_texts")
RECORD = ("study",)


def matching(value: Any, patterns: Sequence[str], path: tuple[str, ...] = ()) -> Iterator[str]:
    """The keys of a configuration that match a pattern, each at the level of its pattern."""
    if path and _matches(path, patterns):
        yield ".".join(path)
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from matching(below, patterns, (*path, str(key)))


def kept(value: Any, patterns: Sequence[str], path: tuple[str, ...] = ()) -> Any:
    """A configuration with only the keys that match a pattern; `None` if it is empty."""
    if path and _matches(path, patterns):
        return value
    if isinstance(value, Mapping):
        found = {key: kept(below, patterns, (*path, str(key))) for key, below in value.items()}
        return {key: below for key, below in found.items() if below is not None} or None
    if isinstance(value, list):
        items = [kept(below, patterns, (*path, str(number))) for number, below in enumerate(value)]
        return [item for item in items if item is not None] or None
    return None


def _matches(path: tuple[str, ...], patterns: Sequence[str]) -> bool:
    split = (pattern.split(".") for pattern in patterns)
    return any(len(parts) == len(path) and all(map(fnmatchcase, path, parts)) for parts in split)
