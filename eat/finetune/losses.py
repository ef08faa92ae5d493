"""The training loss: equations 1 to 3 of the paper, which cover every recipe here.

    L = labels x sum over exits l of lambda_l CE(P_l, y)  +  mu T^2 KL(P_teacher^(T) || P_L^(T))

Plain fine-tuning has one exit; distillation adds the second term, at the last exit as in the paper or, weighted by its
lambda, at every exit; heads trained on a frozen encoder have only the terms of these heads. The teacher is another
system, or the last exit itself, which is then not trained by the second term: with `labels` 0, mu and T 1, and every
lambda 1 that is FastBERT's loss, the sum of the divergences of all other exits from the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from eat.errors import EatError, listed
from eat.study.recipes import SELF, Stage


@dataclass(frozen=True)
class JointLoss:
    """lambda of each exit (`weights`: layer -> lambda); mu, T and the exits of distillation (layer -> weight).

    `distilled` is by default the last exit with weight 1, which is equation 2. labels: weight of equation 1. itself:
    whether the last exit is the teacher. divergence: `forward` is KL(teacher || student), `reverse` the other.
    """

    weights: Mapping[int, float]
    mu: float = 0.0
    temperature: float = 1.0
    distilled: Mapping[int, float] | None = None
    labels: float = 1.0
    itself: bool = False
    divergence: Literal["forward", "reverse"] = "forward"

    def of_last(self) -> JointLoss:
        """The terms of the last exit alone; it does not teach itself."""
        last = max(self.weights)
        distilled = None if self.distilled is None else {last: self.distilled[last]}
        mu = 0.0 if self.itself else self.mu
        return replace(self, weights={last: self.weights[last]}, distilled=distilled, mu=mu)

    @property
    def teaches(self) -> bool:
        """Whether any term has a weight above 0."""
        return bool(self.labels and any(self.weights.values())) or bool(self.mu)

    def __call__(self, exits: Mapping[int, Tensor], labels: Tensor, teacher: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted parts of the loss, whose sum is the loss.

        exits: layer -> logits (B, C). labels: int64 (B,), negative for texts without one. teacher: its logits (B, C),
        where mu > 0 and the teacher is another system. The parts are named `exit_{layer}` and `distillation`, each a
        scalar averaged over the batch, those of the labels over the labelled texts.
        """
        parts = {
            f"exit_{depth}": self.labels * weight * _cross_entropy(exits[depth].float(), labels)
            for depth, weight in self.weights.items()
            if weight and self.labels
        }
        if self.mu:
            last = max(exits)
            teacher = exits[last].detach() if self.itself else teacher
            assert teacher is not None
            target = torch.log_softmax(teacher.float() / self.temperature, dim=-1)
            distilled = {last: 1.0} if self.distilled is None else self.distilled
            divergences = [
                weight * self._divergence(exits[depth], target)
                for depth, weight in distilled.items()
                if not (self.itself and depth == last)
            ]
            parts["distillation"] = self.mu * self.temperature**2 * torch.stack(divergences).sum()
        return parts

    def _divergence(self, logits: Tensor, target: Tensor) -> Tensor:
        """The divergence at temperature T, averaged over the batch; `target` holds the teacher's log-probabilities."""
        student = torch.log_softmax(logits.float() / self.temperature, dim=-1)
        first, second = (student, target) if self.divergence == "forward" else (target, student)
        return F.kl_div(first, second, reduction="batchmean", log_target=True)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over the texts with a label; 0 if there are none."""
    labelled = labels >= 0
    if bool(labelled.all()):
        return F.cross_entropy(logits, labels)
    return F.cross_entropy(logits[labelled], labels[labelled], reduction="sum") / labelled.sum().clamp(min=1)


def exit_weights(given: Mapping[int, float], exits: list[int], trained: list[int] | None) -> dict[int, float]:
    """lambda for each exit that is trained: as given, else 1.0 for the last and 0.3 for every other (the paper).

    exits: all layers with a head, ascending. trained: the only heads to train, or `None` for all; each of these has
    weight 1.0 unless given, since no other term competes on a frozen encoder.
    """
    if trained is not None:
        return {depth: given.get(depth, 1.0) for depth in trained}
    return {depth: given.get(depth, 1.0 if depth == exits[-1] else 0.3) for depth in exits}


def build_loss(stage: Stage, exits: list[int]) -> JointLoss:
    """The loss of a stage of a model with these exits.

    Raises `EatError` if a key names a layer without a head, and if all weights are 0.
    """
    trained = stage.train_heads
    given = stage.exit_weights
    _check_heads(exits, trained or [], given)
    weights = exit_weights(given, exits, trained)
    distill = stage.distill
    loss = JointLoss(weights)
    if distill is not None:
        loss = JointLoss(
            weights,
            distill.mu,
            distill.temperature,
            distilled=weights if distill.onto == "all" else None,
            labels=distill.labels,
            itself=distill.teacher == SELF,
            divergence=distill.divergence,
        )
    if not loss.teaches and stage.layers_of is None:
        raise EatError(
            "exit_weights is 0 for every trained exit, without distillation; give at least one a weight above 0"
        )
    if stage.steps == "alternating" and not loss.of_last().teaches:
        raise EatError(
            f"steps: alternating trains the last exit alone in every other step, but its weight is 0; give layer "
            f"{exits[-1]} a weight above 0 in exit_weights, or use steps: joint"
        )
    if loss.itself and not any(weight for depth, weight in weights.items() if depth != exits[-1]):
        raise EatError(
            f"teacher: self, but of the heads {listed(exits)} only the last is trained; it must have heads to teach"
        )
    return loss


def _check_heads(exits: list[int], trained: list[int], weights: Mapping[int, float]) -> None:
    for key, depths in (("train_heads", trained), ("exit_weights", list(weights))):
        unknown = [depth for depth in depths if depth not in exits]
        if unknown:
            raise EatError(f"{key} names layer {listed(unknown)}, which has no head; heads are after: {listed(exits)}")
