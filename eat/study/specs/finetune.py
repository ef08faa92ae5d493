"""What determines the weights of a stage, besides its data, its parent and its seed."""

from __future__ import annotations

from eat.model.options import Attention, Heads, LastHead, Layers
from eat.model.reducers.registry import AnyReducer
from eat.study.recipes import Stage
from eat.study.specs.spec import Spec
from eat.study.training import Optimization


class TrainingSpec(Spec):
    """Thresholds and exit rules are not in it, so changing them trains nothing again.

    max_length: tokens of a text at most. layers: those taken of the parent. stage: with the task's epochs.
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
