"""The phases of the workflow as DVC sees them: a phase is a file of `rules/` and a stage of `dvc.yaml`.

The dependencies of a stage follow from other declarations: its rules and commands from its file, the phases that it
reads from Snakemake's graph of rules, its keys of the configuration from `eat.study.keys`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from eat.figures.registry import FIGURES
from eat.study import keys, tagging_keys
from eat.study.paths import TEMPLATES
from eat.study.study import Study
from eat.study.tagging import TaggingStudy
from workflow_scripts._sources import ROOT, sources_of

CAPTIONS = tuple(f"report/captions/{name}.rst" for name in FIGURES)


@dataclass(frozen=True)
class Phase:
    """A stage of `dvc.yaml`.

    name: of its file in `rules/`. keys: patterns of the configuration keys that its jobs depend on. files: other files
    of the project that they read.
    """

    name: str
    keys: tuple[str, ...]
    files: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of the phase."""
        return tuple(_commands_of(self.name))

    def sources(self) -> set[str]:
        """Every local module that its commands can import."""
        return {file for command in _commands_of(self.name).values() for file in sources_of(command)}


PHASES: Mapping[str, Phase] = {
    phase.name: phase
    for phase in (
        Phase("prepare", keys.PREPARE),
        Phase("finetune", keys.FINETUNE),
        Phase("trace", (*keys.TRACE, *keys.IMPORTANCE)),
        Phase("calibrate", keys.CALIBRATE),
        Phase("timing", keys.TIMING),
        Phase("summarize", keys.SUMMARIZE),
        Phase("figures", keys.FIGURES, CAPTIONS),
        Phase("report", keys.REPORT, (*(f"report/{file}" for file in TEMPLATES), *CAPTIONS)),
        Phase("record", keys.RECORD),
    )
}
"""The phases in the order of the data."""

TAGGING_TEMPLATES = ("tagging.html.jinja", "macros.html.jinja", "report.css", "report.js")

TAGGING_PHASES: Mapping[str, Phase] = {
    phase.name: phase
    for phase in (
        Phase("prepare", tagging_keys.PREPARE),
        Phase("tagging", tagging_keys.TAGGING, tuple(f"report/{file}" for file in TAGGING_TEMPLATES)),
        Phase("record", keys.RECORD),
    )
}
"""Those of a study of sequence labelling: of `prepare` it takes the backbones."""

APART = ("render_pdf", "trace_trial")
"""Rules whose output is not versioned."""


@cache
def _commands_of(phase: str) -> dict[str, str]:
    """The rules of a phase's file -> the module that each runs."""
    text = (ROOT / "rules" / f"{phase}.smk").read_text(encoding="utf-8")
    found = re.findall(r"^rule (\w+):.*?python -m (workflow_scripts\.\w+)", text, flags=re.MULTILINE | re.DOTALL)
    return {rule: command for rule, command in found if rule not in APART}


def phase_of(rule: str) -> str | None:
    """The phase a rule belongs to; `None` for `all` and for rules whose output is not versioned."""
    every = {**TAGGING_PHASES, **PHASES}
    return next((name for name, phase in every.items() if rule in phase.rules), None)


def phases_of(study: Study | TaggingStudy) -> Mapping[str, Phase]:
    """The phases of a study, by the kind of its tasks."""
    return TAGGING_PHASES if isinstance(study, TaggingStudy) else PHASES


def command_of(rule: str) -> str:
    """The module that a rule runs."""
    phase = phase_of(rule)
    assert phase is not None, rule
    return _commands_of(phase)[rule]
