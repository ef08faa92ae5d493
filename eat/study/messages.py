"""What a person reads about a configuration that is refused: the key, what was found, what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from eat.errors import listed

_UNQUOTED = "without them YAML takes yes, no, on and off for truth values, and a number, a date or null for itself"


def lines_of(error: ValidationError, within: tuple[str, ...] = ()) -> Iterator[str]:
    """A line for each mistake. within: the key at which that which was validated stands in a study."""
    for fault in error.errors(include_url=False):
        location = within + fault["loc"]
        key = joined(_without_tag(location)) or "study"
        found = fault.get("input")
        if fault["type"] == "extra_forbidden":
            yield f"{key}: unknown key; {_known_keys(location)}"
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


def joined(location: Sequence[Any]) -> str:
    """A key as it stands in a message, in one line whatever it is made of."""
    parts = (str(part) for part in location if part != "[key]")
    return ".".join(part if part.isprintable() else repr(part) for part in parts)


def _without_tag(location: tuple[Any, ...]) -> tuple[Any, ...]:
    """A location without the kind that pydantic puts behind that of a backbone, a task's source, or a reducer."""
    kind = {"backbones": 2, "tasks": 3, "systems": 3}.get(location[0]) if location else None
    is_tag = kind == 2 or (kind == 3 and location[2:3] in (("source",), ("reducer",)))
    return location[:kind] + location[kind + 1 :] if kind and is_tag else location


def _known_keys(location: tuple[Any, ...]) -> str:
    """The keys allowed where an unknown one was found, by walking the exported schema along `location`."""
    from eat.study.study import Study  # which imports this module

    schema = Study.model_json_schema(by_alias=True)

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        """The node that is meant by a reference, or by a choice between one and null."""
        while "$ref" in node or "anyOf" in node:
            choices = [choice for choice in node.get("anyOf", []) if choice.get("type") != "null"]
            node = choices[0] if choices else schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        return node

    node: dict[str, Any] = schema
    for part in location[:-1]:
        node = resolved(node)
        below = node.get("properties", {}) | node.get("discriminator", {}).get("mapping", {})
        if part in below:
            node = {"$ref": below[part]} if isinstance(below[part], str) else below[part]
        else:  # an entry of a mapping with free names, or of a list
            entries = [*node.get("patternProperties", {}).values(), node.get("additionalProperties"), node.get("items")]
            node = next((entry for entry in entries if isinstance(entry, dict)), {})
    return f"known here: {listed(resolved(node).get('properties', {}))}"
