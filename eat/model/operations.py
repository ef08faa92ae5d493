"""What a part of a model costs, which it says itself; `eat.results.flops` adds the parts up."""

from __future__ import annotations

from typing import NamedTuple


class Operations(NamedTuple):
    """What a part costs a text of t tokens: fixed + per_token t + per_pair t^2."""

    fixed: float = 0.0
    per_token: float = 0.0
    per_pair: float = 0.0


NO_OPERATIONS = Operations()
