"""How often a promise on disagreement is broken: thresholds chosen on one half of a trace and judged on the other.

It is not part of the study: nothing else reads its result. The judging half is finite, and is above epsilon by chance,
too. So two rates are printed: how often it is above epsilon, and how often an exact test at 5 % says that the true
disagreement is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts._command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", required=True, nargs="+", type=Path, help="traces of one system, of any splits")
    parser.add_argument("--epsilon", type=float, default=0.02, help="the promised disagreement with full depth")
    parser.add_argument("--delta", type=float, default=0.1, help="the probability that the promise is broken")
    parser.add_argument("--resplits", type=int, default=1000)
    parser.add_argument("--vector", action="store_true", help="a threshold for each exit")
    arguments = parser.parse_args()

    from eat.calibrate.disagreement import answers_of
    from eat.calibrate.resplits import resplit
    from eat.results.trace import Trace

    answers = answers_of([Trace.read(path) for path in arguments.traces])
    found = resplit(answers, arguments.epsilon, arguments.delta, arguments.resplits, arguments.vector)
    print(
        f"{len(answers)} texts, {arguments.resplits} resplits: the judging half was above {arguments.epsilon:g} in "
        f"{100 * found.above:.1f} %, above it beyond chance in {100 * found.broken:.1f} % (delta "
        f"{100 * arguments.delta:g} %); {found.depth:.2f} layers per text"
    )


if __name__ == "__main__":
    run(main)
