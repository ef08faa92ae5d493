"""The paper's claims, as `report/claims.yaml` holds them: what is claimed, where, and which test decides it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from eat.report.claim_tests import Test
from eat.report.evidence import Model
from eat.report.published import read_declared
from eat.validation import Strict


class PublishedFigure(Strict):
    """A field of a model's rows in the published tables."""

    model: Model
    column: Literal["accuracy", "speedup", "depth", "retention"]
    tau: float | None = None


class Claim(Strict):
    """A claim of the paper.

    task: the paper's task that the claim is about; empty for all tasks. published: the figure that the paper prints,
    from the published tables: the model, the field, and the threshold if only one counts. stated: the same as text, if
    the figure is only in the paper's prose.
    """

    claim: str
    where: str
    task: str = ""
    published: list[PublishedFigure] = Field(default_factory=list)
    stated: str = ""
    test: Test


class _Claims(Strict):
    claims: list[Claim]


def read_claims(path: Path | str) -> list[Claim]:
    """Read `report/claims.yaml`. Raises `DamagedFile` as `read_declared` does."""
    return read_declared(path, _Claims).claims
