"""The claims of a paper, from a file of `report/claims/`: what is claimed, where, and which test decides it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from eat.report.claim_tests import Test
from eat.report.evidence import Evidence, Model
from eat.report.published import read_declared
from eat.validation import Strict


class PublishedFigure(Strict):
    """A field of a model's rows in a published table.

    tau: only the row of this threshold. table: the title of the table. Default: the first one of the paper.
    """

    model: Model
    column: Literal["accuracy", "speedup", "depth", "retention", "flops_ratio"]
    tau: float | None = None
    table: str = ""


class Claim(Strict):
    """A claim of a paper.

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


class Paper(Strict):
    """A paper and its claims.

    name: its name in the report. citation: as in `report/published.yaml`. models: the models that it proposes. A report
    tests the claims if one of them is represented by a system of the study.
    """

    name: str
    citation: str
    models: list[Model] = Field(min_length=1)
    claims: list[Claim]

    def concerns(self, evidence: Iterable[Evidence]) -> bool:
        """Whether a study has a system that represents one of its models."""
        return any(set(self.models) & set(seen.systems) for seen in evidence)


def read_paper(path: Path | str) -> Paper:
    """Read a file of `report/claims/`. Raises `DamagedFile` as `read_declared` does."""
    return read_declared(path, Paper)
