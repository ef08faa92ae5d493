"""Estimate what a planned study takes, in jobs, hours and disk, from Snakemake's plan and a finished study."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

from eat.errors import EatError
from workflow_scripts._command import run
from workflow_scripts._records import snakemake


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, type=Path, help="the planned study")
    parser.add_argument("--finished", type=Path, default=Path("config/config.yaml"), help="a study with results")
    parser.add_argument("--overhead", type=float, default=5.0, help="seconds that a cluster needs to start a job")
    arguments = parser.parse_args()

    from eat.planned_cost import (
        ASSUMPTIONS,
        OVERHEAD,
        Finished,
        checkpoint_bytes,
        costs,
        sizes,
        timing_memory_bytes,
        totals,
    )
    from eat.study.loading import load_study

    study, finished = load_study(arguments.config), Finished(load_study(arguments.finished))
    started = time.perf_counter()
    planned = jobs_of(arguments.config)
    seconds = time.perf_counter() - started
    rows = costs(study, finished, planned, arguments.overhead)
    total = totals(rows)
    print(
        f"{study.study}: {len(study.tasks)} tasks x {len(study.systems)} systems x {len(study.seeds)} seeds, "
        f"at the pace of {finished.study.study}; the dry run took {seconds:.1f} s\n"
    )
    print(f"{'rule':<22}{'jobs':>6}{'hours':>9}{'core hours':>12}{'longest job (h)':>17}")
    for row in [*rows, total]:
        print(f"{row.rule:<22}{row.jobs:>6}{row.hours:>9.2f}{row.core_hours:>12.2f}{row.longest_hours:>17.2f}")
    print()
    kept = sizes(study, finished, total.jobs)
    for size in kept:
        print(f"{size.what:<36}{size.size / 1e9:>8.2f} GB")
    print(f"{'disk in total':<36}{sum(size.size for size in kept) / 1e9:>8.2f} GB")
    print(f"{'more during a training':<36}{checkpoint_bytes(study, finished) / 1e9:>8.2f} GB at most")
    print(f"{'weights of a timing job, in memory':<36}{timing_memory_bytes(study, finished) / 1e9:>8.2f} GB")
    print("\nAssumed:")
    for sentence in (*ASSUMPTIONS, OVERHEAD.format(seconds=arguments.overhead)):
        print(f"- {sentence}")


def jobs_of(config: Path) -> dict[str, int]:
    """The jobs of each rule that Snakemake would run for the whole study, by its own dry run."""
    # jobs are counted, whatever results there are
    printed = snakemake("--dry-run", "--forceall", "--cores", "1", "--quiet", "rules", "--configfile", str(config))
    found = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)^total ", "".join(printed), re.M | re.S)
    if found is None:
        raise EatError(f"snakemake --dry-run printed no number of jobs: {' '.join(''.join(printed).split()[-60:])}")
    counts = dict(line.split() for line in found[1].splitlines())
    return {rule: int(count) for rule, count in counts.items() if rule != "all"}


if __name__ == "__main__":
    run(main)
