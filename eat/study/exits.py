"""The layers after which a system may exit early, and the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from eat.errors import listed
from eat.model.exit_rules import RULES
from eat.model.options import Heads
from eat.validation import Distinct, Fraction, NonNegative, Strict

RISK_CONTROLLED = "risk_controlled"
"""Confidence with the fastest threshold that keeps a promise: a rule of a study, not of a model."""

if TYPE_CHECKING:
    RuleName = str
else:
    RuleName = Literal[*RULES, RISK_CONTROLLED]


class Promise(Strict):
    """The promise of a risk-controlled exit: with probability 1 - delta its risk is at most epsilon."""

    epsilon: Fraction = Field(description="The upper bound of the risk.")
    delta: Fraction = Field(0.1, description="The probability that the promise is broken.")
    risk: Literal["disagreement", "accuracy"] = Field(
        "disagreement",
        description="disagreement: the share of texts answered differently from the same system without early exits; "
        "accuracy: the share that it answers correctly and the early exit incorrectly.",
    )


class Choice(Strict):
    """How the operating point of a system is chosen on calibration texts."""

    by: Literal["accuracy", "disagreement", "cost"] = Field(
        "accuracy",
        description="accuracy: the threshold of `tau` with the fewest FLOPs whose accuracy is within "
        "`accuracy_budget`, which needs labels. disagreement: the lowest thresholds whose answers differ from those at "
        "full depth for at most `epsilon` of the texts, with probability 1 - `delta`; they are an operating point of "
        "their own beside those of `tau`, and need no labels. cost: the thresholds with the fewest layers at which the "
        "task's mistakes (`triage.costs`) cost at most 1 + `loss` times as much as at full depth; also a point of "
        "their own, which needs labels.",
    )
    epsilon: Fraction = Field(0.02, description="by disagreement: the upper bound of the disagreement.")
    delta: Fraction = Field(0.05, description="by disagreement: the probability that the bound is broken.")
    thresholds: Literal["one", "per_exit", "per_class"] = Field(
        "one",
        description="one: for all exits. per_exit: by disagreement, one for each exit; candidates are learned on one "
        "half of the texts and tested on the other. per_class: by cost, one for each class of the answer.",
    )
    loss: NonNegative = Field(
        0.1, description="by cost: the largest rise of the cost on the calibration texts, as a share of it."
    )

    @property
    def finds_thresholds(self) -> bool:
        """Whether calibration finds thresholds beside those of `tau`."""
        return self.by != "accuracy"

    @model_validator(mode="after")
    def _options_belong(self) -> Self:
        own = {"accuracy": {}, "disagreement": {"epsilon", "delta", "thresholds"}, "cost": {"loss", "thresholds"}}
        given = sorted(self.model_fields_set - {"by"} - set(own[self.by]))
        changed = [name for name in given if getattr(self, name) != type(self).model_fields[name].default]
        if changed:
            ways = [way for way, names in own.items() if set(changed) & set(names)]
            raise ValueError(f"{listed(changed)} with by: {self.by}; they belong to by: {listed(ways)}")
        other = {"disagreement": "per_class", "cost": "per_exit"}.get(self.by)
        if self.thresholds == other:
            raise ValueError(f"thresholds: {other} with by: {self.by}; give another choice, or other thresholds")
        return self


class Exits(Heads):
    """The heads after which a text may exit early, and the rule."""

    rule: Distinct[RuleName] = Field(
        default=[],
        description="A text exits early if all rules hold. Empty: no early exits. risk_controlled is confidence with "
        "the fastest threshold of `tau` that keeps `promise`.",
    )
    patience: int = Field(
        1,
        ge=1,
        description="Rule agreement: the number of consecutive exits that must agree with the previous one (PABEE's "
        "patience). Rule margin: the number of exits before that must have the margin, too.",
    )
    promise: Promise | None = Field(None, description="The promise that the rule risk_controlled keeps.")
    choose: Choice = Choice()
    tau: Distinct[Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]] = Field(
        default=[], description="Thresholds on certainty; each is an operating point. At 1 no text exits early."
    )

    @property
    def promises(self) -> bool:
        """Whether a threshold is found on the calibration texts that keeps a promise."""
        return self.promise is not None or self.choose.by == "disagreement"

    @model_validator(mode="after")
    def _rule_and_thresholds(self) -> Self:
        needs_tau = any(name == RISK_CONTROLLED or RULES[name].needs_tau for name in self.rule)
        finds_tau = self.choose.finds_thresholds
        if self.choose.by == "cost" and not (needs_tau and self.promise is None):
            raise ValueError(
                f"choose by cost with the rule [{listed(self.rule)}]; it needs a rule with a threshold: "
                "confidence, entropy or margin"
            )
        if self.choose.by == "disagreement" and self.rule != ["confidence"]:
            raise ValueError(f"choose by disagreement with the rule [{listed(self.rule)}]; it needs rule: [confidence]")
        if needs_tau != bool(self.tau) and not finds_tau:
            raise ValueError(
                f"rule [{listed(self.rule)}] with tau [{listed(self.tau)}]; confidence, entropy, margin and "
                "risk_controlled need tau, and no other rule uses it"
            )
        if (RISK_CONTROLLED in self.rule) != (self.promise is not None):
            raise ValueError(
                f"rule [{listed(self.rule)}] {'without' if self.promise is None else 'with'} a promise; "
                "risk_controlled needs `promise`, and no other rule uses it"
            )
        if self.promise is not None and {"confidence", "entropy"} & set(self.rule):
            raise ValueError(
                f"rule [{listed(self.rule)}]: risk_controlled determines the threshold itself; omit the other rules"
            )
        if self.rule and not self.after:
            raise ValueError("a rule without `after`; name the layers after which a text may exit")
        needed = max((RULES[name].exits_needed(self.patience) for name in self.rule if name in RULES), default=0)
        if len(self.after) < needed:
            comparing = [name for name in self.rule if name in RULES and RULES[name].exits_needed(1) > 1]
            raise ValueError(
                f"rule {listed(comparing)} with exits after [{listed(self.after)}]; it compares an exit with the "
                "previous one, "
                f"so name at least {'two' if self.patience == 1 else self.patience + 1} layers"
            )
        return self
