"""Types of validated values, such as names, paths and fractions, and a model that refuses unknown keys."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from eat.errors import listed

_Item = TypeVar("_Item")


def _differ(values: list[_Item]) -> list[_Item]:
    if len(set(values)) != len(values):
        raise ValueError(f"contains duplicates: {listed(values)}")
    return values


Distinct = Annotated[list[_Item], AfterValidator(_differ)]
"""A list without duplicates."""


def _fits_a_path(name: str) -> str:
    if not name.isprintable() or set("/{}") & set(name) or name.startswith("-") or not name.strip("."):
        raise ValueError(
            f"{name!r} cannot be part of a path; it must not contain a slash, brace or line break, begin with a dash, "
            "or be `..`"
        )
    return name


Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_fits_a_path)]
"""A name that becomes part of a path, of a rule's pattern (hence no braces) and of a command (no dash in front)."""


def _holds_no_wildcard(path: str) -> str:
    if set("{}") & set(path):
        raise ValueError(
            f"{path!r} contains a brace, which Snakemake reads as a wildcard; rename it, or give a link to it"
        )
    return path


OutsidePath = Annotated[str, Field(min_length=1), AfterValidator(_holds_no_wildcard)]
"""A path of the user, which becomes an input of a rule; Snakemake would expand wildcards in it."""


def _stands_in_a_line(title: str) -> str:
    if not title.isprintable() or not title.strip():
        raise ValueError(f"{title!r} cannot be printed in one line; use printable characters without line breaks")
    return title


Title = Annotated[str, Field(max_length=80), AfterValidator(_stands_in_a_line)]
"""A name that is only printed, so that it may contain any character."""

Fraction = Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Layer = Annotated[int, Field(ge=1, description="A layer's number, counted from 1.")]


class Strict(BaseModel):
    """A model that refuses unknown keys and cannot be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def plain(self) -> dict[str, Any]:
        """Its fields as JSON values, under the names of the configuration."""
        return self.model_dump(mode="json", by_alias=True)


class Grown(Strict):
    """A model with keys that were added after results of it were published.

    added: those keys. While one of them has its default it is left out of the JSON, by which rules compare their
    parameters: what was trained before the key existed is then not trained again because of it.
    """

    added: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_defaults_of_added(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        unset = {name for name in self.added if getattr(self, name) == fields[name].default}
        return {name: value for name, value in handler(self).items() if name not in unset}


def canonical_json(value: Any) -> str:
    """JSON in one line with sorted keys: equal text for equal content, for use as a rule's parameter."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
