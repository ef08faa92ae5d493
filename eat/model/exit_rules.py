"""The rules by which a text may leave early, by name: what a configuration and an operating point may ask for."""

from __future__ import annotations

from typing import Literal, get_args

Rule = Literal["confidence", "entropy", "agreement"]

RULES: tuple[str, ...] = get_args(Rule)

WITH_THRESHOLD = ("confidence", "entropy")
"""The rules that compare with a threshold; without one of these there is nothing to compare."""
