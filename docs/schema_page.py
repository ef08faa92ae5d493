"""The page of the configuration's keys, from `config/schema.json`; `docs/conf.py` writes it at each build.

A section for the study and one for each part of it, with a table: key, type, default, what it means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

HEAD = """# Configuration

A study is a YAML file. `config/config.yaml` is the default one, and `python -m workflow_scripts.check_study FILE`
checks another. This page is made from `config/schema.json`, with which an editor completes and checks the keys: the
first line of a file in `config/` is then `# yaml-language-server: $schema=schema.json`.

Keys without a default are required. Unknown keys are refused.
"""

LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


def page(schema: Schema) -> str:
    """The page as Markdown, in the order in which the parts are named."""
    sections = [HEAD, _section("Study", schema, "study")]
    sections += [_section(_title(name), schema["$defs"][name], _anchor(name)) for name in _in_order(schema)]
    return "\n".join(sections)


def _in_order(schema: Schema) -> list[str]:
    """The names of all parts, each after the part that names it first, its own parts following it."""
    found: dict[str, None] = {}

    def visit(part: Schema) -> None:
        for name in _references(part):
            if name not in found:
                found[name] = None
                visit(schema["$defs"][name])

    visit(schema["properties"])
    return list(found)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for key, below in value.items():
            if key != "discriminator":
                yield from _references(below)
    elif isinstance(value, list):
        for below in value:
            yield from _references(below)


def _section(title: str, part: Schema, anchor: str) -> str:
    required = part.get("required", ())
    rows = [
        f"| `{key}` | {_type(value)} | {_default(value, key in required)} | {_cell(value.get('description', ''))} |"
        for key, value in part["properties"].items()
    ]
    table = "\n".join(["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows])
    return f"({anchor})=\n\n## {title}\n\n{part.get('description', '')}\n\n{table}\n"


def _type(value: Schema) -> str:
    """What a key holds, with links to the parts of the page."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{_title(name)}](#{_anchor(name)})"
    members = value.get("oneOf") or value.get("anyOf")
    if members:
        return " or ".join(_type(member) for member in members if member.get("type") != "null")
    allowed = value.get("enum") or [value[key] for key in ("const",) if key in value]
    if allowed:
        return ", ".join(map(_code, allowed))
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}"
    if value.get("type") == "object":
        return f"name → {_type(value['additionalProperties'])}"
    limits = [text.format(value[key]) for key, text in LIMITS.items() if key in value]
    return " ".join([str(value["type"]), ", ".join(limits)]).rstrip()


def _default(value: Schema, required: bool) -> str:
    if required:
        return ""
    # a part has its defaults in its own section
    if "$ref" in value or "discriminator" in value:
        return "those of the part"
    return "none" if value.get("default") is None else _code(json.dumps(value["default"], ensure_ascii=False))


def _code(value: object) -> str:
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _title(name: str) -> str:
    """`LearnedThreshold` as `Learned threshold`."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return words.capitalize()


def _anchor(name: str) -> str:
    return f"key-{name.lower()}"
