"""Snakemake's records (`.snakemake/metadata/`): one for each output, with the parameters and inputs it was made from.

Without them Snakemake would miss a changed parameter in silence, so they travel with the results in one JSON file.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eat.files import read_json, write_text

METADATA = Path(".snakemake/metadata")
NAME_MAX = 255


def read_records(study: str) -> dict[str, dict[str, Any]]:
    """The records of a study's outputs that Snakemake has now: output -> record."""
    found = {_output_of(path): path for path in METADATA.rglob("*") if path.is_file()}
    roots = (f"data/{study}/", f"results/{study}/")
    return {output: read_json(found[output]) for output in sorted(found) if output.startswith(roots)}


def restore_records(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Put records back where Snakemake looks for them."""
    for output, record in records.items():
        write_text(_record_path(output), json.dumps(record))


def _record_path(output: str) -> Path:
    """Where Snakemake keeps the record of an output: its name in base64, cut where a file name would be too long."""
    name = urlsafe_b64encode(output.encode()).decode()
    parts = [name[start : start + NAME_MAX - 1] for start in range(0, len(name), NAME_MAX - 1)]
    return METADATA.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def _output_of(path: Path) -> str:
    parts = path.relative_to(METADATA).parts
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in parts)).decode()
