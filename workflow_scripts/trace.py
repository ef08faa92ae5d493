"""Record what every exit says of every text of a split, and how many tokens live after every layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="what the progress lines call this run")
    parser.add_argument("--model", required=True, type=Path, help="the folder of the trained model")
    parser.add_argument("--split", required=True, type=Path, help="the split's Parquet file")
    parser.add_argument("--max-length", required=True, type=int)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--out", required=True, type=Path, help="the trace's Parquet file; its JSON is put beside it")
    arguments = parser.parse_args()

    import torch

    from eat.recording import record_trace

    torch.set_num_threads(arguments.threads)
    record_trace(arguments.model, arguments.split, arguments.max_length, arguments.name).write(arguments.out)


if __name__ == "__main__":
    run(main)
