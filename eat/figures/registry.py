"""All figures: one line here adds a figure. Figures in the same place of the report have the order of these lines."""

# the order has a meaning, and `FIGURES` uses every import
# ruff: noqa: F401, I001

from __future__ import annotations

from collections.abc import Mapping

from eat.figures.figure import Figure
from eat.figures.overview import FIGURE as overview
from eat.figures.batch_1 import FIGURE as batch_1
from eat.figures.frontier import FIGURE as frontier
from eat.figures.latency import FIGURE as latency
from eat.figures.retention import FIGURE as retention
from eat.figures.lengths import FIGURE as lengths
from eat.figures.exits import FIGURE as exits
from eat.figures.reliability import FIGURE as reliability
from eat.figures.buckets import FIGURE as buckets
from eat.figures.cost import FIGURE as cost
from eat.figures.flops import FIGURE as flops
from eat.figures.ablation import FIGURE as ablation

FIGURES: Mapping[str, Figure] = {value.name: value for value in list(vars().values()) if isinstance(value, Figure)}
"""Name -> figure, in the order of the imports."""
