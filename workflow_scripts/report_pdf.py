"""Typeset the report with the TeX engine of this machine; fails if there is none."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tex", type=Path, help="results/{study}/report/results.tex")
    parser.add_argument("pdf", type=Path, help="the PDF to write")
    arguments = parser.parse_args()

    from eat.report.typeset import render_pdf

    print(render_pdf(arguments.tex, arguments.pdf))


if __name__ == "__main__":
    run(main)
