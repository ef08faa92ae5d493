"""Figures: written whole, the same bytes twice, names drawn as text, roles and colours, the Pareto front."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_results import DENSE, EAT, STUDENT, SYSTEMS, Made, write_study

from eat import figures, style
from eat.errors import EatError
from eat.paths import FIGURES
from eat.rows import rows_of

ODD = r"50%_<b>x<b>\input{a}$y$"
CURVES = ("retention", "lengths", "exits", "reliability")


def tables_of(results: Path) -> dict[str, pd.DataFrame]:
    return {"summary": pd.read_csv(results / "summary.csv")} | {
        name: pd.read_csv(results / "curves" / f"{name}.csv") for name in CURVES
    }


def draw(kind: str, tables: dict[str, pd.DataFrame], task: str, reference: str, folder: Path) -> tuple[Path, Path]:
    pdf, svg = folder / f"{kind}.pdf", folder / f"{kind}.svg"
    curve = [] if kind == "frontier" else [tables[kind]]
    getattr(figures, f"plot_{kind}")(tables["summary"], *curve, task, reference, out_pdf=pdf, out_svg=svg)
    return pdf, svg


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))[0]


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_is_whole_and_the_same_bytes_on_a_second_run(results: Path, tmp_path: Path, kind: str) -> None:
    tables = tables_of(results)
    first = draw(kind, tables, "rotten_tomatoes", "dense-6", tmp_path / "a")
    second = draw(kind, tables, "rotten_tomatoes", "dense-6", tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_bytes().startswith(b"%PDF") and first[0].read_bytes().rstrip().endswith(b"%%EOF")
    assert first[1].read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert "<dc:date>" not in first[1].read_text(encoding="utf-8")
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [f"{kind}.pdf", f"{kind}.svg"]


@pytest.mark.parametrize("kind", FIGURES)
def test_a_name_of_metacharacters_is_drawn_as_text(tmp_path: Path, kind: str) -> None:
    systems = (DENSE, STUDENT, replace(EAT, name=ODD))
    results, _ = write_study(tmp_path, (ODD,), Made(systems=systems))
    _, svg = draw(kind, tables_of(results), ODD, "dense-6", tmp_path)
    # matplotlib draws text as outlines and names it in a comment; mathtext would name its parts, without the dollars
    comments = "".join(re.findall(r"<!--(.*?)-->", svg.read_text(encoding="utf-8"), flags=re.DOTALL))
    squeezed = re.sub(r"\s", "", comments)
    assert ODD in squeezed.replace("&lt;", "<").replace("&gt;", ">")


def test_a_character_the_font_lacks_is_spelt_out() -> None:
    assert style.drawable("tau τ, 中") == "tau τ, [U+4E2D]"


def test_colours_follow_the_roles_and_the_order(results: Path) -> None:
    summary = pd.read_csv(results / "summary.csv")
    looks = style.looks(summary, "dense-6")
    assert looks["dense-6"].colour == "#000000"
    assert [looks[name].role for name in ("hf-dense", "student-3", "eat-6")] == ["stock", "dense", "adaptive"]
    adaptive = [looks[row.name].colour for row in SYSTEMS if looks[row.name].role == "adaptive"]
    assert len(set(adaptive)) == len(adaptive) == 3
    assert adaptive[0] == "#E69F00"


def test_any_number_of_systems_can_be_told_apart() -> None:
    """Forty adaptive systems: no two share both colour and marker."""
    names = [f"s{number}" for number in range(40)]
    columns = {"tau": 0.9, "avg_retention": 1.0, "gflops": 1.0, "gflops_pattern": 1.0}
    rows = pd.DataFrame(
        [{"system": "dense"} | columns | {"tau": None}] + [{"system": name} | columns for name in names]
    )
    looks = style.looks(rows, "dense")
    assert len({(looks[name].colour, looks[name].marker) for name in names}) == 40


def test_a_reference_without_a_row_is_refused(results: Path) -> None:
    with pytest.raises(EatError, match=r"'bert' has no row.*dense-6"):
        style.looks(pd.read_csv(results / "summary.csv"), "bert")


@pytest.mark.parametrize(("column", "value"), [("device", "cuda"), ("threads", 4)])
def test_rows_of_two_settings_are_refused(results: Path, column: str, value: object) -> None:
    summary = pd.read_csv(results / "summary.csv")
    summary[column] = summary[column].astype(object)
    summary.loc[3, column] = value
    with pytest.raises(EatError, match=f"rows of {column}"):
        rows_of(summary, "rotten_tomatoes")


def test_rows_of_two_calibrations_are_refused(results: Path) -> None:
    summary = pd.read_csv(results / "summary.csv")
    summary.loc[3, "calibration"] = "raw"
    with pytest.raises(EatError, match="calibration fitted, raw"):
        rows_of(summary, "rotten_tomatoes")


def test_an_unknown_task_is_refused_and_nothing_is_written(results: Path, tmp_path: Path) -> None:
    with pytest.raises(EatError, match="no row of task 'mnli'; the table holds rotten_tomatoes"):
        draw("frontier", tables_of(results), "mnli", "dense-6", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", FIGURES)
def test_a_study_of_dense_systems_and_batch_1_has_every_figure(tmp_path: Path, kind: str) -> None:
    results, _ = write_study(tmp_path, made=Made(systems=(DENSE, STUDENT), batch_sizes=(1,)))
    pdf, svg = draw(kind, tables_of(results), "rotten_tomatoes", "dense-6", tmp_path)
    assert pdf.stat().st_size and svg.stat().st_size


def test_pareto_front_of_four_points() -> None:
    """By hand: (3, .8) is slower and worse than (2, .9); of the rest each is faster or more accurate."""
    front = figures.pareto_front(np.array([3.0, 1.0, 2.0, 5.0]), np.array([0.8, 0.7, 0.9, 0.95]))
    assert front == [1, 2, 3]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30), st.booleans())
def test_pareto_front_is_what_its_definition_says(points: list[tuple[int, int]], low_is_good: bool) -> None:
    x = np.array([float(point[0]) for point in points])
    accuracy = np.array([float(point[1]) for point in points])
    cost = x if low_is_good else -x

    def beaten(i: int) -> bool:
        as_good = (cost <= cost[i]) & (accuracy >= accuracy[i])
        return bool((as_good & ((cost < cost[i]) | (accuracy > accuracy[i]))).any())

    front = figures.pareto_front(x, accuracy, low_is_good)
    assert {points[i] for i in front} == {points[i] for i in range(len(points)) if not beaten(i)}
    assert len({points[i] for i in front}) == len(front)
