"""Record the output of every exit for every text of some splits, and the number of live tokens after every layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.progress import Progress
from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the name of this run in progress lines")
    parser.add_argument(
        "--models", required=True, type=Path, nargs="+", help="the folder of the trained model; for a cascade, several"
    )
    parser.add_argument("--parts", required=True, help="the parts with which its weights are run, as JSON")
    parser.add_argument("--max-length", required=True, type=int)
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or mps")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--splits", required=True, type=Path, nargs="+", help="the splits' Parquet files")
    parser.add_argument("--card", required=True, type=Path, help="the task's card")
    parser.add_argument("--out", required=True, type=Path, help="the folder of the traces: {split}.parquet and .json")
    arguments = parser.parse_args()
    # torch alone may take long to load from a cold disk
    with Progress("loading libraries, model and texts", name=arguments.name):
        trace(arguments)


def trace(arguments: argparse.Namespace) -> None:
    """Trace with the arguments of the command."""
    import torch
    from pydantic import TypeAdapter

    from eat.files import read_json
    from eat.model.options import Parts
    from eat.study.specs.spec import parsed
    from eat.trace.recording import record_trace

    parts = parsed(TypeAdapter(Parts), arguments.parts, "--parts")
    labels = read_json(arguments.card)["labels"]
    torch.set_num_threads(arguments.threads)
    for split in arguments.splits:
        name = f"{arguments.name} {split.stem}"
        found = record_trace(arguments.models, parts, split, labels, arguments.max_length, name, arguments.device)
        found.write(arguments.out / split.name)


if __name__ == "__main__":
    run(main)
