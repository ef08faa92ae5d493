"""Draw what the systems of a study are: their layers, removals, attention and exits."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exits", required=True, help="system -> the rule and thresholds of its exits, as JSON")
    parser.add_argument("--shapes", required=True, nargs="+", type=Path, help="what each is built of, in that order")
    parser.add_argument("--pdf", required=True, type=Path)
    parser.add_argument("--svg", required=True, type=Path)
    arguments = parser.parse_args()

    from eat.figures.overview import Drawn, plot_overview
    from eat.files import read_json

    exits = json.loads(arguments.exits)
    systems = [
        Drawn(name, read_json(shape), spec["rule"], spec["tau"])
        for (name, spec), shape in zip(exits.items(), arguments.shapes, strict=True)
    ]
    plot_overview(systems, out_pdf=arguments.pdf, out_svg=arguments.svg)


if __name__ == "__main__":
    run(main)
