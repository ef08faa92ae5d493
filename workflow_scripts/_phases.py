"""The phases of the workflow as DVC sees them: which rules each holds, and which keys of a configuration it reads.

A phase is a file of `rules/` and a stage of `dvc.yaml`. The keys are written down here because DVC compares parameters
key by key; `tests/workflow` holds them against what Snakemake reruns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

STUDY = ("study", "seeds")
SYSTEM = tuple(
    f"systems.*.{key}"
    for key in ("backbone", "layers", "reducer", "attention", "exits.after", "exits.read", "last_head")
)
RULE = ("systems.*.exits.rule", "systems.*.exits.tau")


@dataclass(frozen=True)
class Phase:
    """rules: the rules whose outputs a stage holds. keys: patterns of the configuration keys it depends on."""

    rules: tuple[str, ...]
    keys: tuple[str, ...]


PHASES: Mapping[str, Phase] = {
    "prepare": Phase(("prepare_text", "fetch_backbone"), ("study", "tasks", "backbones")),
    # a student's teacher is traced between two trainings
    "finetune": Phase(
        ("finetune", "trace_teacher"),
        (*STUDY, "tasks.*.max_length", "tasks.*.learning_rate", *SYSTEM, "systems.*.recipe", "training"),
    ),
    "trace": Phase(("trace",), (*STUDY, "tasks.*.max_length")),
    "calibrate": Phase(
        ("calibrate", "find_operating_points"),
        (*STUDY, "tasks", *SYSTEM, *RULE, "reference", "calibration", "accuracy_budget", "backbones"),
    ),
    "time": Phase(("measure_time",), (*STUDY, "tasks", *SYSTEM, *RULE, "reference", "timing", "backbones")),
    "summarize": Phase(
        ("summarize",),
        (*STUDY, "tasks", *SYSTEM, *RULE, "reference", "calibration", "accuracy_budget", "timing", "backbones"),
    ),
    "plot": Phase(("plot_frontier", "plot_curve"), ("study", "reference")),
    "report": Phase(
        ("render_tables", "render_report", "render_pdf"),
        (*STUDY, "tasks", *SYSTEM, *RULE, "reference", "calibration", "accuracy_budget", "timing", "backbones"),
    ),
    "record": Phase(("record",), ("study",)),
}
"""In the order data takes."""


def phase_of(rule: str) -> str | None:
    """The phase a rule belongs to; `None` for `all`."""
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
