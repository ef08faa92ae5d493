"""The layers after which a system may exit early, and the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from eat.errors import listed
from eat.model.exit_rules import RULES
from eat.model.options import Heads
from eat.validation import Distinct, Fraction, Strict

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

    by: Literal["accuracy", "disagreement"] = Field(
        "accuracy",
        description="accuracy: the threshold of `tau` with the fewest FLOPs whose accuracy is within "
        "`accuracy_budget`, which needs labels. disagreement: the lowest thresholds whose answers differ from those at "
        "full depth for at most `epsilon` of the texts, with probability 1 - `delta`; they are an operating point of "
        "their own beside those of `tau`, and need no labels.",
    )
    epsilon: Fraction = Field(0.02, description="by disagreement: the upper bound of the disagreement.")
    delta: Fraction = Field(0.05, description="by disagreement: the probability that the bound is broken.")
    thresholds: Literal["one", "per_exit"] = Field(
        "one",
        description="by disagreement: one threshold for all exits, or one for each. For the latter, candidates are "
        "learned on one half of the texts and tested on the other.",
    )

    @model_validator(mode="after")
    def _options_belong(self) -> Self:
        given = sorted(self.model_fields_set & {"epsilon", "delta", "thresholds"})
        changed = [name for name in given if getattr(self, name) != type(self).model_fields[name].default]
        if self.by == "accuracy" and changed:
            raise ValueError(f"{listed(changed)} with by: accuracy; they belong to by: disagreement")
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
        "patience).",
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
        finds_tau = self.choose.by == "disagreement"
        if finds_tau and self.rule != ["confidence"]:
            raise ValueError(f"choose by disagreement with the rule [{listed(self.rule)}]; it needs rule: [confidence]")
        if needs_tau != bool(self.tau) and not finds_tau:
            raise ValueError(
                f"rule [{listed(self.rule)}] with tau [{listed(self.tau)}]; confidence, entropy and risk_controlled "
                "need tau, and no other rule uses it"
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
            raise ValueError(
                f"rule agreement with exits after [{listed(self.after)}]; it compares an exit with the previous one, "
                f"so name at least {'two' if self.patience == 1 else self.patience + 1} layers"
            )
        return self
