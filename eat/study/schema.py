"""The JSON schema of a study for editors: `python -m eat.study.schema` prints `config/schema.json`."""

from __future__ import annotations

import json

from eat.study.study import Study


def schema_text() -> str:
    """The JSON schema of a study, the content of `config/schema.json`."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Study.model_json_schema(by_alias=True)}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
