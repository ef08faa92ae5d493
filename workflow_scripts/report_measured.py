"""Insert the results of each system into the page that describes the systems, from a published table.

Below a heading such as ``### PABEE: `pabee-2`, `pabee-3` `` the lines that begin with `* Measured` are replaced by one
for each system that the heading names: the difference in accuracy to the reference in points, and the median speed-up
against the stock model at batch 1, for each task, with intervals.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts._command import run

if TYPE_CHECKING:
    import pandas as pd

HEADING = re.compile(r"^#{2,} .*: (`.*`)$")
MEASURED = "* Measured"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", required=True, type=Path, help="the published table, written by report_publish")
    parser.add_argument("--into", required=True, type=Path, help="the Markdown page")
    arguments = parser.parse_args()

    from eat.errors import EatError
    from eat.files import write_text
    from eat.results.rows import read_rows

    try:
        page = arguments.into.read_text(encoding="utf-8")
    except OSError as error:
        raise EatError(f"{arguments.into}: {error.strerror}; name the page that describes the systems") from None
    write_text(arguments.into, with_measured(page, read_rows(arguments.csv)))


def with_measured(page: str, rows: pd.DataFrame) -> str:
    """The page with its `* Measured` lines anew: one for each system of the section, in the place of the first one.

    Raises `EatError` if a section with such a line names no system or one that the table lacks, and if no section
    has such a line.
    """
    from eat.errors import EatError

    lines: list[str] = []
    due: list[str] = []  # the systems that the section's heading names
    section, found = "", set[str]()
    for line in page.splitlines():
        if line.startswith("#"):
            heading, section = HEADING.match(line), line
            due = re.findall(r"`([^`]+)`", heading[1]) if heading else []
        if not line.startswith(MEASURED):
            lines.append(line)
        elif section not in found:
            if not due:
                raise EatError(
                    f"'{section}' has a line of results but names no system after a colon, as in 'ToMe: `tome`'"
                )
            found.add(section)
            lines += [measured_line(rows, system, named=len(due) > 1) for system in due]
    if not found:
        raise EatError(f"the page has no line that begins with '{MEASURED}'; put one below each system's heading")
    return "\n".join(lines) + "\n"


def measured_line(rows: pd.DataFrame, system: str, named: bool) -> str:
    """One system's results at its chosen threshold at batch 1.

    named: whether the line contains the system's name.
    """
    from eat.errors import EatError
    from eat.report.quantities import DELTA, SPEEDUP
    from eat.rounding import TIMES

    own = rows[(rows["system"] == system) & (rows["batch_size"] == 1) & rows["chosen"]]
    if own.empty:
        raise EatError(f"the table has no row of {system}; it has {', '.join(sorted(set(rows['system'])))}")
    each = []
    for row in own.to_dict("records"):
        delta, speed = DELTA.cell(row), SPEEDUP.cell(row)
        words = (row["task"], delta.text, delta.interval, "at", f"{speed.text}{TIMES}", speed.interval)
        each.append(" ".join(word for word in words if word))  # no interval if all answers are the reference's
    return f"{MEASURED}{f', `{system}`' if named else ''}: {'; '.join(each)}."


if __name__ == "__main__":
    run(main)
