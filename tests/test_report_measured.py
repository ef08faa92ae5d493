"""The lines of results in the page that describes the systems are those of a published table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from eat.errors import EatError
from workflow_scripts import report_measured

ROOT = Path(__file__).parents[1]
PAGE = """# Systems

### One: `a`

* first
* Measured: old

### Two: `b`, `c`

* Measured, `b`: old
* Measured, `c`: old
* Measured, `gone`: old

### None

text
"""


def row(system: str, delta: float, speed: float, **others: object) -> dict[str, object]:
    """A row of a published table with intervals of 0.01 around the difference and of 0.1 around the speed-up."""
    return {
        "task": "movies", "system": system, "batch_size": 1, "chosen": True, "delta_accuracy": delta,
        "delta_low": delta - 0.01, "delta_high": delta + 0.01, "speedup_vs_dense": speed, "speedup_low": speed - 0.1,
        "speedup_high": speed + 0.1,
    } | others  # fmt: skip


ROWS = pd.DataFrame(
    [
        row("a", -0.02, 1.5),
        row("a", -0.5, 9.0, chosen=False),
        row("a", -0.02, 7.0, batch_size=32),
        row("a", 0.0, 2.0, task="books"),
        row("b", -0.03, 3.0),
        row("c", 0.0, 1.0, delta_low=0.0, delta_high=0.0),
    ]
)


def test_each_system_of_a_section_has_a_line_of_its_chosen_rows_at_batch_1() -> None:
    page = report_measured.with_measured(PAGE, ROWS)
    assert page.split("\n\n")[2].splitlines() == [
        "* first",
        "* Measured: movies −2.0 [−3.0, −1.0] at 1.50× [1.40, 1.60]; books 0.0 [−1.0, +1.0] at 2.00× [1.90, 2.10].",  # noqa: RUF001
    ]
    assert page.split("\n\n")[4].splitlines() == [
        "* Measured, `b`: movies −3.0 [−4.0, −2.0] at 3.00× [2.90, 3.10].",  # noqa: RUF001
        "* Measured, `c`: movies 0.0 at 1.00× [0.90, 1.10].",  # noqa: RUF001
    ]
    assert page.endswith("### None\n\ntext\n")
    assert report_measured.with_measured(page, ROWS) == page


def test_a_system_without_a_row_a_line_without_a_system_and_a_page_without_lines_are_refused() -> None:
    with pytest.raises(EatError, match="has no row of c; it has a, b"):
        report_measured.with_measured(PAGE, ROWS[ROWS["system"] != "c"])
    with pytest.raises(EatError, match="'### None' has a line of results but names no system"):
        report_measured.with_measured(PAGE + "* Measured: x\n", ROWS)
    with pytest.raises(EatError, match="no line that begins with"):
        report_measured.with_measured("# Systems\n", ROWS)


def test_the_page_of_the_systems_tells_what_the_published_table_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "systems.md"
    page.write_text((ROOT / "docs/systems.md").read_text(encoding="utf-8"), encoding="utf-8")
    table = str(ROOT / "docs/results/systems.csv")
    monkeypatch.setattr("sys.argv", ["report_measured", "--csv", table, "--into", str(page)])
    report_measured.main()
    assert page.read_text(encoding="utf-8") == (ROOT / "docs/systems.md").read_text(encoding="utf-8")
