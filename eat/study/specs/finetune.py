"""The specification of a stage: everything that determines its weights besides data, parent and seed."""

from __future__ import annotations

from eat.model.options import Attention, Heads, LastHead, Layers
from eat.model.reducers.registry import AnyReducer
from eat.study.recipes import Stage
from eat.study.specs.spec import Spec
from eat.study.training import Optimization


class TrainingSpec(Spec):
    """Thresholds and exit rules are not included, so changing them does not repeat the training.

    max_length: the most tokens of a text. layers: those taken from the parent. stage: with the task's epochs.
    training: with the learning rate and the batch size of the task.
    """

    max_length: int
    layers: Layers
    reducer: AnyReducer
    attention: Attention
    exits: Heads
    last_head: LastHead
    stage: Stage
    training: Optimization
