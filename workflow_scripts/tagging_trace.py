"""Tag the sentences of some splits at every operating point of a system, and record answers and work."""

from __future__ import annotations

import argparse
from pathlib import Path

from eat.progress import Progress
from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the name of this run in progress lines")
    parser.add_argument("--model", required=True, type=Path, help="the folder of the tagger")
    parser.add_argument("--exits", required=True, help="the exits of the system, as JSON")
    parser.add_argument("--splits", required=True, type=Path, nargs="+", help="the splits of the sentences")
    parser.add_argument("--threads", required=True, type=int, help="those of the timing, so that answers round alike")
    parser.add_argument("--out", required=True, type=Path, nargs="+", help="the trace of each split")
    arguments = parser.parse_args()
    with Progress("loading libraries, model and sentences", name=arguments.name):
        import torch
        from pydantic import TypeAdapter

        from eat.study.specs.spec import parsed
        from eat.study.tagging import TaggingExits
        from eat.tagging.trace import record_trace, write_trace

        exits = parsed(TypeAdapter(TaggingExits), arguments.exits, "--exits")
        torch.set_num_threads(arguments.threads)
        for split, out in zip(arguments.splits, arguments.out, strict=True):
            write_trace(out, *record_trace(arguments.model, exits, split, f"{arguments.name} {out.stem}"))


if __name__ == "__main__":
    run(main)
