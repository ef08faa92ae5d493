"""Exit rules as ONNX nodes; the sibling of `exit_rules.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import numpy as np

from eat.errors import EatError, listed
from eat.model.exit_policy import ExitPolicy
from eat.model.exit_rules import RULES
from eat.model.graph_onnx import OMITTED, Graph, Value

Fires = Callable[[Graph, Sequence[Value], Value, int], Value]
"""Appends the nodes of a rule and returns whether the text may exit; bool (1,).

The arguments: the graph; the probabilities (1, C) of the heads up to this one; the thresholds of this exit by class
(C,), above 1 where no text exits; the patience.
"""


def _confidence(graph: Graph, probabilities: Sequence[Value], thresholds: Value, patience: int) -> Value:
    certainty = graph.op("ReduceMax", probabilities[-1], axes=[1], keepdims=0)
    return _reaches(graph, certainty, probabilities[-1], thresholds)


def _entropy(graph: Graph, probabilities: Sequence[Value], thresholds: Value, patience: int) -> Value:
    current = probabilities[-1]
    # 0 log 0 is 0: the logarithm is taken of a number that is never 0
    logarithm = graph.op("Log", graph.op("Max", current, graph.number(1e-38)))
    negative = graph.op("ReduceSum", graph.op("Mul", current, logarithm), graph.whole(1), keepdims=0)
    classes = graph.op("Cast", graph.op("Shape", thresholds), to=1)
    certainty = graph.op("Add", graph.number(1.0), graph.op("Div", negative, graph.op("Log", classes)))
    return _reaches(graph, certainty, current, thresholds)


def _agreement(graph: Graph, probabilities: Sequence[Value], thresholds: Value, patience: int) -> Value:
    # NaN has an argmax, too
    highest = graph.op("ReduceMax", probabilities[-1], axes=[1], keepdims=0)
    finite = graph.op("GreaterOrEqual", highest, graph.number(0.0))
    agree = _same_class(graph, probabilities[-patience - 1 :])
    return reduce(lambda left, right: graph.op("And", left, right), agree, finite)


def _margin(graph: Graph, probabilities: Sequence[Value], thresholds: Value, patience: int) -> Value:
    heads = probabilities[-patience - 1 :]
    threshold = graph.op("Gather", thresholds, _best(graph, probabilities[-1]))
    clear = [graph.op("GreaterOrEqual", _lead(graph, values), threshold) for values in heads]
    return reduce(lambda left, right: graph.op("And", left, right), [*clear, *_same_class(graph, heads)])


def threshold_table(policy: ExitPolicy, exits: Sequence[int], classes: int) -> np.ndarray:
    """The thresholds of an operating point by exit and class, float32 (E, C)."""
    rows = [np.broadcast_to(np.asarray(policy.threshold(depth), np.float32), (classes,)) for depth in exits]
    return np.stack(rows)


FIRES: Mapping[str, Fires] = {
    "confidence": _confidence,
    "entropy": _entropy,
    "agreement": _agreement,
    "margin": _margin,
}
"""Name of a rule -> its nodes."""


def fires(graph: Graph, rule: Sequence[str], probabilities: Sequence[Value], thresholds: Value, patience: int) -> Value:
    """Whether all rules hold; bool (1,), omitted if no text can exit here, since too few heads precede.

    Raises `EatError` for a rule without an ONNX form.
    """
    unknown = [name for name in rule if name not in FIRES]
    if unknown:
        raise EatError(f"the rule {listed(unknown)} has no ONNX form; rules with one: {listed(FIRES)}")
    if any(RULES[name].exits_needed(patience) > len(probabilities) for name in rule):
        return OMITTED  # not a constant `If`, which crashes the optimizer of ONNX Runtime 1.31
    held = [FIRES[name](graph, probabilities, thresholds, patience) for name in rule]
    return reduce(lambda left, right: graph.op("And", left, right), held)


def needs_thresholds(rule: Sequence[str]) -> bool:
    """Whether a rule compares with a threshold."""
    return any(RULES[name].needs_tau for name in rule)


def _best(graph: Graph, probabilities: Value) -> Value:
    """The most probable class; (1, C) to int64 (1,)."""
    return graph.op("ArgMax", probabilities, axis=1, keepdims=0)


def _same_class(graph: Graph, probabilities: Sequence[Value]) -> list[Value]:
    """Whether each head but the last has the most probable class of the last; bool (1,) each."""
    *before, current = (_best(graph, values) for values in probabilities)
    return [graph.op("Equal", current, earlier) for earlier in before]


def _lead(graph: Graph, probabilities: Value) -> Value:
    """(1 + the best probability - the second best) / 2; (1, C) to (1,)."""
    best, _ = graph.ops("TopK", 2, probabilities, graph.whole(2), axis=1)
    first, second = (graph.op("Gather", best, graph.constant(place, np.int64), axis=1) for place in (0, 1))
    return graph.op("Div", graph.op("Add", graph.op("Sub", first, second), graph.number(1.0)), graph.number(2.0))


def _reaches(graph: Graph, certainty: Value, probabilities: Value, thresholds: Value) -> Value:
    """Whether the certainty (1,) is at least the threshold of the most probable class."""
    return graph.op("GreaterOrEqual", certainty, graph.op("Gather", thresholds, _best(graph, probabilities)))
