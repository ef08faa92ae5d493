"""Messages about a refused configuration: the key, what was found, what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from eat.errors import listed

Schema = Mapping[str, Any]

_UNQUOTED = "without quotes YAML reads yes, no, on and off as truth values, and numbers, dates and null as themselves"


def lines_of(error: ValidationError, schema: Schema, within: Sequence[str] = ()) -> Iterator[str]:
    """A line for each mistake in a value that a model refused.

    schema: the model's JSON schema. within: the key of the value in a study.
    """
    for fault in error.errors(include_url=False):
        location, known = _followed(schema, fault["loc"])
        key = joined([*within, *location]) or "study"
        found = fault.get("input")
        if fault["type"] == "extra_forbidden":
            yield f"{key}: unknown key; known here: {listed(known)}"
        elif fault["type"] == "missing":
            yield f"{key}: missing"
        elif fault["type"] == "value_error":
            text = str(fault["ctx"]["error"])
            yield text if key == "study" or text.startswith(key) else f"{key}: {text}"
        else:
            shown = "NaN" if isinstance(found, float) and math.isnan(found) else repr(found)
            text = fault["msg"] if fault["msg"].isprintable() else repr(fault["msg"])[1:-1]
            if fault["type"] == "string_type" and not isinstance(found, list | dict):
                text += f"; put quotes around it: {_UNQUOTED}"
            yield f"{key}: found {shown[:80]}; {text[:1].lower()}{text[1:]}"


def joined(location: Iterable[Any]) -> str:
    """A key as text for a message, always in one line."""
    parts = (str(part) for part in location if part != "[key]")
    return ".".join(part if part.isprintable() else repr(part) for part in parts)


def _followed(schema: Schema, location: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """A location without pydantic's tags of unions, and the known keys at the level of its last part."""

    def resolved(node: Schema) -> Schema:
        """Resolve a reference, or a choice between a node and null."""
        while "$ref" in node or "anyOf" in node:
            choices = [choice for choice in node.get("anyOf", []) if choice.get("type") != "null"]
            node = choices[0] if choices else schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        return node

    followed: list[Any] = []
    node, known = resolved(schema), [*schema.get("properties", {})]
    for part in location:
        kinds = node.get("discriminator", {}).get("mapping", {})
        if part in kinds:
            node = resolved({"$ref": kinds[part]})
            continue
        followed.append(part)
        known = [*node.get("properties", {})]
        # else an entry of a mapping with free names, or of a list
        entries = [
            node.get("properties", {}).get(part),
            *node.get("patternProperties", {}).values(),
            node.get("additionalProperties"),
            node.get("items"),
        ]
        node = resolved(next((entry for entry in entries if isinstance(entry, dict)), {}))
    return followed, known
