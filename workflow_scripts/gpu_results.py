"""Turn the result files of `eat gpu` into the page docs/results/gpu.md and the table gpu.csv."""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run
from workflow_scripts._sources import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results/gpu"), help="the folder of the result files")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="the folder of the page")
    arguments = parser.parse_args()

    from eat.bench.gpu_results import gpu_page, gpu_table
    from eat.errors import EatError
    from eat.files import write_table, write_text

    table = gpu_table(arguments.results)
    if set(table["device"]) != {"cuda"} and arguments.out.resolve() == (ROOT / "docs" / "results").resolve():
        raise EatError(f"{arguments.results}: not measured on a GPU, so it is not published; give another --out")
    write_table(arguments.out / "gpu.csv", table)
    write_text(arguments.out / "gpu.md", gpu_page(table))
    print(f"Written: {arguments.out / 'gpu.md'} and gpu.csv.")


if __name__ == "__main__":
    run(main)
