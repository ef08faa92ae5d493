"""Published results and the systems they correspond to: the paper's tables, its authors' logs, other papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self, TypeVar

import yaml
from pydantic import Field, ValidationError

from eat.errors import DamagedFile
from eat.validation import Strict

_Model = TypeVar("_Model", bound=Strict)
Finite = Annotated[float, Field(allow_inf_nan=False)]


class PublishedRow(Strict):
    """A row of a published table: accuracy as a fraction, latency in ms, speed-up against BERT of the same source.

    gflops: 10^9 operations per text. flops_ratio: BERT's divided by the model's.
    """

    tau: Finite | None = None
    latency_ms: Finite | None = None
    accuracy: Finite | None = None
    speedup: Finite | None = None
    depth: Finite | None = None
    retention: Finite | None = None
    gflops: Finite | None = None
    flops_ratio: Finite | None = None


class PublishedSource(Strict):
    """Tables of one source: task -> model -> rows."""

    title: str
    citation: str
    machine: str
    note: str
    tasks: dict[str, dict[str, list[PublishedRow]]]


class Published(Strict):
    """All of `report/published.yaml`.

    task_names: the names that a study may give to a task of the papers. stands_for: the systems of a study that may
    represent a published model; the first one that exists is used, and the reference always represents BERT. sources:
    the paper's tables, then other results of its authors. others: papers on other systems; a report shows those that
    were run.
    """

    task_names: dict[str, list[str]]
    stands_for: dict[str, list[str]]
    sources: list[PublishedSource] = Field(min_length=1)
    others: list[PublishedSource] = Field(default_factory=list)

    def task_of(self, task: str) -> str | None:
        """The name of a study's task in the papers; `None` if no paper has such a task."""
        return next((name for name, others in self.task_names.items() if task in (name, *others)), None)

    def also_called(self, titles: Mapping[str, str]) -> Self:
        """The same for a study with other task names; titles: task -> its name in the study."""
        names = {
            name: [*others, *(titles[task] for task in titles if task in (name, *others))]
            for name, others in self.task_names.items()
        }
        return self.model_copy(update={"task_names": names})

    def beside(self, task: str) -> Mapping[str, Sequence[PublishedRow]] | None:
        """The rows of the paper's table for a study's task, by model; `None` if there is none."""
        name = self.task_of(task)
        return None if name is None else self.sources[0].tasks.get(name)

    def others_on(self, task: str, systems: Sequence[str], reference: str) -> list[PublishedSource]:
        """The other papers' tables for a task that contain a model represented by a system besides the reference."""
        name, played = self.task_of(task), set(self.models(systems, reference).values()) - {"bert"}
        return [source for source in self.others if name in source.tasks and played & set(source.tasks[name])]

    def tables_of(self, citation: str) -> list[PublishedSource]:
        """The tables of a paper, in their order."""
        return [source for source in (*self.sources, *self.others) if source.citation == citation]

    def models(self, systems: Sequence[str], reference: str) -> dict[str, str]:
        """The systems of a study that represent models of the paper: system -> model."""
        found = {reference: "bert"} if reference in systems else {}
        for model, names in self.stands_for.items():
            system = next((name for name in names if name in systems and name not in found), None)
            if system is not None:
                found[system] = model
        return found


def read_published(path: Path | str) -> Published:
    """Read `report/published.yaml`. Raises `DamagedFile` as `read_declared` does."""
    return read_declared(path, Published)


def read_declared(path: Path | str, model: type[_Model]) -> _Model:
    """Read a YAML file of `report/`. Raises `DamagedFile` if it is missing or not valid."""
    try:
        return model.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise DamagedFile(f"{path}: cannot be read ({str(error).splitlines()[0]}); restore it") from None
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise DamagedFile(f"{path}: {key}: {fault['msg'].lower()}; restore it") from None
