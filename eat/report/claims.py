"""The paper's claims, as `report/claims.yaml` holds them: what is claimed, where, and which test decides it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from eat.errors import DamagedFile
from eat.report.claim_tests import Entry, Test
from eat.report.evidence import Model


class PublishedFigure(Entry):
    """A field of a model's rows in the published tables."""

    model: Model
    column: Literal["accuracy", "speedup", "depth", "retention"]
    tau: float | None = None


class Claim(Entry):
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


def read_claims(path: Path | str) -> list[Claim]:
    """Read `report/claims.yaml`. Raises `DamagedFile` if the file is missing or not valid."""
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return [Claim.model_validate(claim) for claim in value["claims"]]
    except (OSError, yaml.YAMLError) as error:
        raise DamagedFile(f"{path}: cannot be read ({str(error).splitlines()[0]}); restore it") from None
    except (TypeError, KeyError):
        raise DamagedFile(f"{path}: has no list `claims`; restore the file") from None
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise DamagedFile(f"{path}: {key}: {fault['msg'].lower()}; restore it") from None
