"""The section `ablation` of a study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from eat.validation import Distinct, Name, Strict


class Ablation(Strict):
    """Systems that lack a part of a complete system. They are only in the table and the figure of the ablation."""

    kind: Literal["switched_off", "retrained"] = Field(
        description="switched_off: parts of the trained system are disabled, without retraining; retrained: each "
        "variant is trained."
    )
    base: Name = Field(description="The system with all its parts.")
    variants: Distinct[Name] = Field(min_length=1, description="The systems that lack one of its parts.")
