"""Check that timed answers agree with the trace, so that the reported accuracy is that of the timed model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from eat.errors import EatError, listed
from eat.model.exit_policy import ExitPolicy
from eat.results.replay import Replay, replay
from eat.results.trace import Trace
from eat.timing.entry import Entry, Expected

ALLOWED_SHARE = {"float32": 0.005, "float16": 0.005, "bfloat16": 0.02, "int8": 0.005}
"""The share of texts that may be answered differently from the trace, each at a tie that rounding can change.

bfloat16 has 8 bits of precision: of 1,000 texts of a tiny random model with removals, 7 were answered differently
in another batch.
"""

ALLOWED_MARGIN = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2, "int8": 1e-2}
"""The largest distance from a tie (of threshold, classes, or a reducer's cut) at which answers may differ.

In int8 a rounding error of float32 can move an activation by one step of 1/127.
"""


def require_same_setting(name: str, trace: Trace, device: torch.device, precision: str) -> None:
    """Refuse to time a system on another device or in another precision than it was traced in.

    name: of the system, in the message. Raises `EatError` in one line that names both.
    """
    traced, timed = (trace.shape.get("device"), trace.shape.get("precision")), (device.type, precision)
    if traced != timed:
        raise EatError(
            f"{name}: traced on {traced[0]} in {traced[1]}, but timed on {timed[0]} in {timed[1]}; a trace and its "
            "clock need one device and one precision: set trace.device and timing.device alike, and trace again"
        )


def expected_of(trace: Trace, policy: ExitPolicy) -> Expected:
    """The answers of the policy on the trace, and the distance of each from a tie."""
    played = replay(trace, policy)
    layers = np.arange(trace.fed.shape[1])
    tokens = np.where(layers < played.depth[:, None], trace.fed, 0).sum(axis=1)
    return Expected(
        played, tokens, tie_margin(trace, policy, played), {str(text): row for row, text in enumerate(trace.ids)}
    )


def tie_margin(trace: Trace, policy: ExitPolicy, played: Replay) -> np.ndarray:
    """The distance of each text from another answer, the smallest of: threshold, best two classes, reducer's cut; (N,).

    At the exits a text passed, the distance of the certainty to tau and of the two best probabilities counts; the
    latter at its last exit too. Cuts count by their relative gap, up to the layer after which the text exited.
    """
    layers = np.arange(trace.cut_margin.shape[1])
    margin: np.ndarray = np.where(layers < played.depth[:, None], trace.cut_margin, np.inf).min(axis=1)
    for depth, logits in trace.logits.items():
        probabilities = policy.probabilities(depth, torch.from_numpy(logits))
        best = probabilities.topk(2, dim=-1).values.numpy()
        here = best[:, 0] - best[:, 1]
        if depth < max(trace.logits):
            here = np.minimum(here, policy.margin(depth, probabilities).numpy())
        used = (depth <= played.depth) & (policy.may_exit or depth == max(trace.logits))
        margin = np.where(used, np.minimum(margin, here), margin)
    return margin


def compare(entry: Entry, answers: Mapping[str, set[tuple[int, int, int]]], batch_size: int) -> dict[str, Any]:
    """Compare the timed answers with the trace, text by text.

    answers: text id -> every answer given to it: class, executed depth, tokens that entered its feed-forward parts.
    Raises `EatError` if a text far from a tie differs, or more than one text and more than `ALLOWED_SHARE` do.
    """
    expected = entry.expected
    assert expected is not None
    different: list[str] = []
    unexplained: list[str] = []
    for text, given in answers.items():
        row = expected.row[text]
        wanted = (int(expected.replay.predictions[row]), int(expected.replay.depth[row]), int(expected.tokens[row]))
        if given != {wanted}:
            different.append(text)
            if expected.margin[row] >= ALLOWED_MARGIN[entry.precision]:
                unexplained.append(f"{text}: timed {listed(sorted(given - {wanted}))}, traced {wanted}")
    allowed = max(int(np.floor(ALLOWED_SHARE[entry.precision] * len(answers))), 1)
    point = f"{entry.system}{'' if entry.tau is None else f' at tau {entry.tau:g}'}, batch {batch_size}"
    if unexplained or len(different) > allowed:
        raise EatError(
            f"{point}: {len(different)} of {len(answers)} texts were answered differently in timing and in the trace "
            f"(class, depth, tokens; {'; '.join(unexplained[:3]) or 'each at a tie'}); {allowed} may differ, and only "
            "at a tie; the trace was not made with this model: make both again"
        )
    return {
        "system": entry.system,
        "seed": entry.seed,
        "tau": entry.tau,
        "batch_size": batch_size,
        "compared": len(answers),
        "different": len(different),
        "allowed": allowed,
    }
