"""The JSON schemas of studies for editors.

`python -m eat.study.schema` prints `config/schema.json`, and `python -m eat.study.schema tagging` the schema of studies
of sequence labelling, `config/tagging_schema.json`."""

from __future__ import annotations

import json
import sys

from eat.study.study import Study
from eat.study.tagging import TaggingStudy


def schema_text(model: type[Study | TaggingStudy] = Study) -> str:
    """The JSON schema of a study, the content of `config/schema.json`."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(TaggingStudy if sys.argv[1:] == ["tagging"] else Study), end="")
