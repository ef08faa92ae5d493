"""The losses of a token policy (TR-BERT, arXiv:2105.11618), over the layers after which it acts.

    imitation:  - sum over layers of ln pi(a)                          a: the heuristic's actions
    reinforce:  - (R - b) sum over layers of ln pi(a)                  a: drawn

    R = ln P(y) - cost x kept         the reward: P(y) of the label at full depth, kept the share of the text's tokens
                                      that remain after a layer, averaged over the layers
    b: the mean reward of the `samples` draws for the same text, which are trained on together

Both are averaged over the texts and draws of a batch; ln pi(a) is defined in `eat.model.reducers.policy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eat.model.reducers.policy import Actions, PolicyReducer
from eat.study.recipes import PolicyTraining


class PolicyLoss:
    """The loss of a stage that trains the policy of a reducer."""

    def __init__(self, options: PolicyTraining, reducer: PolicyReducer) -> None:
        self.options = options
        self.reducer = reducer

    def repeated(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """A batch, as the collator makes it, with each text as often as there are draws; the copies are adjacent."""
        times = self.options.draws
        lengths = inputs["lengths"]
        packed = {
            name: torch.cat([text for text in torch.split(inputs[name], lengths) for _ in range(times)])
            for name in ("ids", "types")
        }
        of_texts = {
            name: None if inputs[name] is None else inputs[name].repeat_interleave(times, dim=0)
            for name in ("labels", "teacher")
        }
        lists = {name: [value for value in inputs[name] for _ in range(times)] for name in ("lengths", "rows")}
        return {**inputs, **packed, **of_texts, **lists}

    def __call__(self, logits: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The part `policy` of the loss of a forward pass, and measures for the log: the mean `reward` and `kept`.

        logits: of the last exit (B, C), for B texts and draws. labels: (B,).
        """
        actions = self.reducer.take_actions()
        with torch.no_grad():
            kept = kept_share(actions)
            of_label = torch.log_softmax(logits.float(), dim=-1).gather(1, labels[:, None])[:, 0]
            reward = of_label - self.options.cost * kept
        weight = torch.ones_like(reward) if self.options.by == "imitation" else advantage(reward, self.options.draws)
        chosen = torch.stack([each.log_probability for each in actions]).sum(dim=0)
        return {"policy": -(weight * chosen).mean()}, {"reward": reward.mean(), "kept": kept.mean()}


def kept_share(actions: Sequence[Actions]) -> Tensor:
    """The share of each text's tokens that remain after a layer, averaged over the layers; (B,)."""
    return torch.stack([each.kept for each in actions]).mean(dim=0)


def advantage(reward: Tensor, draws: int) -> Tensor:
    """The rewards (B,) less the mean of those of the same text, whose draws are adjacent; (B,)."""
    of_texts = reward.view(-1, draws)
    return (of_texts - of_texts.mean(dim=1, keepdim=True)).flatten()
