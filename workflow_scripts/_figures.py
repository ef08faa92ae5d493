"""What the commands that draw a figure of one task ask for alike.

Each figure keeps a command of its own, so that an edited figure is drawn again and no other.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def figure_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the task, the reference, the summary, and the two files of the figure."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--task", required=True)
    parser.add_argument("--reference", required=True, help="the dense system that all are compared with")
    parser.add_argument("--summary", required=True, type=Path)
    parser.add_argument("--pdf", required=True, type=Path)
    parser.add_argument("--svg", required=True, type=Path)
    return parser
