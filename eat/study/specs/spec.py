"""The specification of a job: a small, typed part of a study that determines its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from eat.errors import EatError
from eat.study.messages import lines_of
from eat.validation import Strict, canonical_json

_Value = TypeVar("_Value")


class Spec(Strict):
    """A part of a study that a rule passes to its command as canonical JSON, which Snakemake compares as text."""

    def to_json(self) -> str:
        """In one line, with sorted keys: equal text for equal content."""
        return canonical_json(self.plain())

    @classmethod
    def of_json(cls, text: str, option: str = "--spec") -> Self:
        """What `to_json` wrote. Raises `EatError` as `parsed` does."""
        return parsed(TypeAdapter(cls), text, option)


def parsed(
    adapter: TypeAdapter[_Value], text: str, option: str, key: Sequence[str] = (), context: str | None = None
) -> _Value:
    """Parse an option of a command that contains JSON.

    key: its place in a configuration. context: in which it is validated, if its model asks.

    Raises `EatError` with one line per mistake, which names the option and the key.
    """
    try:
        return adapter.validate_json(text, context=context)
    except ValidationError as error:
        lines = lines_of(error, adapter.json_schema(by_alias=True), key)
        raise EatError("\n".join(f"{option}: {line}" for line in lines)) from None
