"""The configuration keys on which each job of a tagging study depends; they are listed only here.

Patterns as in `eat.study.keys`.
"""

from __future__ import annotations

STUDY = ("study", "seeds")
REQUIRED = ("reference", "backbones", "tasks.*.kind", "tasks.*.source", "tasks.*.metric", "systems.*.backbone")
"""The required keys of a study."""
SYSTEM = ("systems.*.weights_of", "systems.*.exits")

PREPARE = ("study", "backbones", "tasks")
POINTS = (*STUDY, *REQUIRED, *SYSTEM, "score_budget")
TIMING = (*STUDY, *REQUIRED, *SYSTEM, "tasks.*.max_length", "timing")
SUMMARIZE = (*POINTS, "timing")
REPORT = (*SUMMARIZE, "tasks.*.title")
TAGGING = (*REPORT, "training", "systems.*.epochs", "systems.*.learning_rate", "tasks")
"""All keys of the phase `tagging`, which DVC sees as one."""
