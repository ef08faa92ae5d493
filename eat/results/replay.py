"""The result of an operating point for every text of a trace, without running the model again.

A trace contains the output of every exit for every text. `replay` lets a text exit at the first exit at which the rule
of the engine would have fired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from eat.errors import EatError
from eat.model.exit_policy import ExitPolicy
from eat.results.calibrated import Promised
from eat.results.flops import flops
from eat.results.trace import Trace
from eat.study.exits import RISK_CONTROLLED
from eat.study.specs.calibrate import ExitSpec


@dataclass(frozen=True)
class Replay:
    """The result of an operating point for each text of a trace.

    predictions: class answered, int64 (N,). depth: executed layers, int64 (N,). retention: tokens that the answering
    head was computed from, which are those fed to the layer of the exit, over tokens at input, float64 (N,). flops and
    pattern_flops: operations, counting pairs computed or pairs of the pattern, float64 (N,). probability: calibrated
    probability of the answer, float64 (N,).
    """

    predictions: npt.NDArray[np.int64]
    depth: npt.NDArray[np.int64]
    retention: npt.NDArray[np.float64]
    flops: npt.NDArray[np.float64]
    pattern_flops: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]


def replay(trace: Trace, policy: ExitPolicy, name: str = "the trace") -> Replay:
    """Let each text exit at the first head whose rule holds, and at the last layer if none does.

    name: the trace's name in messages. Raises `EatError` if a logit is NaN or infinite.
    """
    require_finite_logits(trace, name)
    last = trace.shape["layers"]
    heads = [depth for depth in trace.logits if policy.may_exit or depth == last]
    depth = np.full(len(trace.labels), last, dtype=np.int64)
    predictions = np.empty(len(trace.labels), dtype=np.int64)
    probability = np.empty(len(trace.labels))
    running = np.ones(len(trace.labels), dtype=bool)
    seen: dict[int, torch.Tensor] = {}
    for head in heads:
        # the engine evaluates only live rows; evaluating all gives the same, since a rule decides for each row
        # separately
        seen[head] = policy.probabilities(head, torch.tensor(trace.logits[head]))
        exiting = running & (policy.fires(seen).numpy() | (head == last))
        depth[exiting] = head
        predictions[exiting] = trace.logits[head].argmax(axis=1)[exiting]
        probability[exiting] = seen[head].amax(dim=-1).numpy()[exiting]
        running &= ~exiting
    return Replay(
        predictions,
        depth,
        trace.fed[np.arange(len(depth)), depth - 1] / trace.lengths,
        flops(trace, depth, heads),
        flops(trace, depth, heads, pattern=True),
        probability,
    )


def policies(
    spec: ExitSpec, temperatures: Mapping[int, float], promised: Promised | None = None
) -> dict[float | None, ExitPolicy]:
    """The operating points of a specification: threshold -> policy, ascending.

    A system without thresholds has one point, `None`. So has one with a promise: confidence at the thresholds
    `promised` that calibration found, which differ between seeds. A system whose point is chosen by disagreement or by
    cost has that point as `None` before those of its thresholds.
    """
    if spec.promise is not None:
        rule = tuple("confidence" if name == RISK_CONTROLLED else name for name in spec.rule)
        return {None: ExitPolicy(rule, promised, temperatures, spec.patience)}
    rule = tuple(spec.rule)
    chosen = {None: ExitPolicy(rule, promised, temperatures, spec.patience)} if spec.choose.finds_thresholds else {}
    taus: Sequence[float | None] = sorted(spec.tau) or ([] if chosen else [None])
    return chosen | {tau: ExitPolicy(rule, tau, temperatures, spec.patience) for tau in taus}


def bad_texts(trace: Trace, spec: ExitSpec, tau: Promised | None) -> npt.NDArray[np.bool_]:
    """Which texts the promise counts as bad at a threshold; bool (N,).

    disagreement: answered differently from the last exit. accuracy: answered correctly by the last exit and
    incorrectly before; the loss of accuracy is at most this share.
    """
    answered = replay(trace, policies(spec, {}, tau)[None]).predictions
    full = trace.logits[trace.shape["layers"]].argmax(axis=1)
    changed: npt.NDArray[np.bool_] = answered != full
    counts_all = spec.promise is None or spec.promise.risk == "disagreement"
    return changed if counts_all else changed & (full == trace.labels)


def require_finite_logits(trace: Trace, name: str) -> None:
    """Raise `EatError` that names the trace and the exit if a logit is NaN or infinite."""
    for depth, logits in trace.logits.items():
        broken = int(np.sum(~np.isfinite(logits).all(axis=1)))
        if broken:
            raise EatError(
                f"{name}: the logits of exit {depth} are NaN or infinite for {broken} of {len(logits)} texts; "
                "train the system again with a lower learning rate"
            )
