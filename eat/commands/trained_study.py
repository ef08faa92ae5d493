"""The arguments of the commands that analyse a trained study."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_trained(parser: argparse.ArgumentParser, default: str) -> None:
    """The study, and what of it is analysed. default: which systems are, if none is named."""
    parser.add_argument("config", metavar="CONFIG", type=Path, help="the study, such as config/config.yaml")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the new folder of the results")
    parser.add_argument("--task", help="of the study; needed if it has several")
    parser.add_argument("--seed", type=int, help="of the models (default: the study's first)")
    parser.add_argument(
        "--system", action="append", default=[], dest="systems", metavar="NAME", help=f"one to analyse; {default}"
    )
