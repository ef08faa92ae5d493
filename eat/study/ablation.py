"""The section `ablation` of a study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from eat.validation import Distinct, Name, Strict


class Ablation(Strict):
    """Systems that differ by a part from one that has them all; in a table and a figure of their own, and no other."""

    kind: Literal["switched_off", "retrained"] = Field(
        description="switched_off: the trained system with parts off, and no retraining; retrained: each is trained."
    )
    base: Name = Field(description="The system with all its parts.")
    variants: Distinct[Name] = Field(min_length=1, description="The systems that differ from it by a part.")
