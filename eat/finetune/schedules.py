"""Values that change with each training step: the pruning ratio, and the epoch of a soft reducer.

Both depend only on the global step, so that a resumed run continues where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from eat.model.hugging_face import EatForSequenceClassification
from eat.study.recipes import Annealing


class RisingRatio(TrainerCallback):  # type: ignore[misc]
    """Raises the reducer's pruning ratio from 0 to its full value, a little each step (algorithm 2).

    The ratio depends only on the global step, so that a resumed run continues correctly.
    """

    def __init__(self, model: EatForSequenceClassification, schedule: Annealing | None, steps_an_epoch: int) -> None:
        self.reducer = model.encoder.reducer
        self.scale = annealing(schedule, steps_an_epoch)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the ratio of the step that begins."""
        self.reducer.scale = self.scale(state.global_step)


class Softening(TrainerCallback):  # type: ignore[misc]
    """Sets the epoch of a soft reducer before each step, and clamps its parameters after it.

    The epoch depends only on the global step, so that a resumed run continues correctly.
    """

    def __init__(self, model: EatForSequenceClassification, steps_an_epoch: int) -> None:
        self.reducer = model.encoder.reducer
        self.steps_an_epoch = steps_an_epoch

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the epoch of the step."""
        if self.reducer.soft:
            self.reducer.begin_step(state.global_step / self.steps_an_epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Clamp the parameters, before a checkpoint is written."""
        if self.reducer.soft:
            self.reducer.end_step()


def annealing(schedule: Annealing | None, steps_an_epoch: int) -> Callable[[int], float]:
    """The share of the full pruning ratio at each global step, in [0, 1]."""
    if schedule is None:
        return lambda step: 1.0
    start, end = schedule.start_epoch * steps_an_epoch, schedule.end_epoch * steps_an_epoch

    def scale(step: int) -> float:
        return float(step >= end) if end == start else min(max((step - start) / (end - start), 0.0), 1.0)

    return scale
