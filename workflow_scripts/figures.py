"""Draw one figure of a study from its results; `FIGURE --help` names the results that it needs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from workflow_scripts._command import run


def main() -> None:
    from eat.figures.figure import SEVERAL, option_of
    from eat.figures.registry import FIGURES

    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="figure", metavar="FIGURE", required=True, help=", ".join(FIGURES))
    for figure in FIGURES.values():
        options = kinds.add_parser(figure.name)
        for value in figure.takes:
            options.add_argument(option_of(value), dest=value, required=True, help=HELP[value])
        for result in figure.reads:
            files = "+" if result in SEVERAL else None
            options.add_argument(option_of(result), dest=result, required=True, nargs=files, type=Path)
        options.add_argument("--pdf", required=True, type=Path)
        options.add_argument("--svg", required=True, type=Path)
    arguments = vars(parser.parse_args())

    from eat.files import read_json
    from eat.results.rows import read_rows

    figure = FIGURES[arguments["figure"]]
    given: list[Any] = []
    for result in figure.reads:
        if result in SEVERAL:
            given.append([read_json(path) for path in arguments[result]])
        else:
            given.append(read_rows(arguments[result], may_be_empty=result in figure.may_be_empty))
    given += [json.loads(arguments[value]) if value in AS_JSON else arguments[value] for value in figure.takes]
    figure.write(*given, out_pdf=arguments["pdf"], out_svg=arguments["svg"])


HELP = {
    "task": "the name of the task in the results",
    "reference": "the dense system that the others are compared with",
    "exit_rules": "system -> the rule of its exits and their thresholds, as JSON, in the order of the shapes",
}
AS_JSON = ("exit_rules",)


if __name__ == "__main__":
    run(main)
