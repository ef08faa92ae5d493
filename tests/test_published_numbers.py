"""Numbers with intervals in README and docs are those of a run: of a published CSV file, or of a generated table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eat import rounding

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"

SIGNED = rf"([{rounding.MINUS}+-]?\d+(?:\.\d+)?)"
WITH_INTERVAL = re.compile(rf"{SIGNED} ?(?:[x{rounding.TIMES}%]|points?)? \[{SIGNED}, {SIGNED}\]")
GENERATED = re.compile(r"<!-- results:(\S+) -->.*?<!-- /results:\1 -->", re.DOTALL)
VALUE_OF = {"speedup": "speedup_vs_dense", "delta": "delta_accuracy"}
"""The value of an interval whose columns do not begin with its name."""

OWN_RUNS = {
    "adapt.md": 2,  # eat adapt on two models, which no study has
    "monitoring.md": 4,  # resamples of eat monitor
    "negation.md": 23,  # the tables that eat negation printed
    "shift.md": 108,  # the tables that eat shift printed
    "train.md": 4,  # the lines that eat train printed
    "versioning.md": 4,  # an example of eat diff, of an earlier state
}
"""Pages with output of commands that publish no file, with the most such numbers."""

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(RESULTS.glob("*.md"))]

Number = tuple[str, str, str]
"""A value and its interval, as text without a plus sign."""


def plain(text: str) -> str:
    return text.replace(rounding.MINUS, "-").replace("+", "")


def numbers_of(text: str) -> list[Number]:
    return [(plain(one[1]), plain(one[2]), plain(one[3])) for one in WITH_INTERVAL.finditer(text)]


def rows_of(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


@pytest.fixture(scope="module")
def held() -> set[Number]:
    """Every number with an interval that a run has, at one to three decimals; shares in per cent too."""
    found: set[Number] = set()
    for page in (RESULTS / "bench").glob("*.md"):  # written by eat bench
        found.update(numbers_of(page.read_text(encoding="utf-8")))
    for page in PAGES:
        for block in GENERATED.finditer(page.read_text(encoding="utf-8")):
            found.update(numbers_of(block[0]))
    for file in RESULTS.rglob("*.csv"):
        for row in rows_of(file):
            found.update(numbers_of_row(row))
    return found


def numbers_of_row(row: dict[str, str]) -> Iterator[Number]:
    for low in [column for column in row if column.endswith("_low")]:
        name = low.removesuffix("_low")
        columns = (VALUE_OF.get(name, name), low, f"{name}_high")
        if not all(row.get(column) for column in columns):
            continue
        values = [float(row[column]) for column in columns]
        if name == "delta":  # a text may call it a loss
            value, start, end = values
            yield f"{-100 * value:.1f}", f"{-100 * end:.1f}", f"{-100 * start:.1f}"
        for factor in (1, 100):
            for decimals in (1, 2, 3):
                value_text, start_text, end_text = (f"{factor * one:.{decimals}f}" for one in values)
                yield value_text, start_text, end_text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_number_with_an_interval_is_of_a_run(page: Path, held: set[Number]) -> None:
    written = numbers_of(GENERATED.sub("", page.read_text(encoding="utf-8")))
    missing = [one for one in written if one not in held]
    assert len(missing) <= OWN_RUNS.get(page.name, 0), f"{page.name}: no published run has {missing}"


def test_a_number_that_no_run_has_is_found(held: set[Number]) -> None:
    text = "it is 2.81 [2.51, 3.33] times as fast, at -0.4 points [-1.5, +0.7], 1.5x [1.4, 1.6], and 81 % [79, 83]"
    assert numbers_of(text.replace(" -", f" {rounding.MINUS}")) == [
        ("2.81", "2.51", "3.33"),
        ("-0.4", "-1.5", "0.7"),
        ("1.5", "1.4", "1.6"),
        ("81", "79", "83"),
    ]
    rows = rows_of(RESULTS / "adapt.csv")
    assert {number for row in rows for number in numbers_of_row(row)} <= held
    assert ("2.81", "2.51", "99.99") not in held


def test_the_table_of_the_readme_is_that_of_the_published_run() -> None:
    chosen = {
        (row["system"], row["batch_size"]): row
        for row in rows_of(RESULTS / "embedded.csv")
        if row["chosen"] == "True" or row["system"].startswith("hf-")
    }
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if re.match(r"\| [a-z0-9-]+ \(", line)]
    assert len(lines) == 6
    for line in lines:
        name, accuracy, latency, one, many = (cell.strip() for cell in line.strip("|").split("|"))
        system = name.split()[0]
        single, batch = chosen[system, "1"], chosen[system, "32"]
        assert accuracy == rounding.percent(float(single["accuracy"])), line
        assert latency == rounding.milliseconds(float(single["latency_ms_p50"])), line
        for cell, row in ((one, single), (many, batch)):
            value, low, high = (
                rounding.speedup(float(row[column])) for column in ("speedup_vs_dense", "speedup_low", "speedup_high")
            )
            assert cell == f"{value} [{low}, {high}]", line
