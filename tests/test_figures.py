"""Figures: written whole, the same bytes twice, names drawn as text, roles and colours, the Pareto front."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from synthetic_results import (
    DENSE,
    EAT,
    PATIENCE,
    STUDENT,
    SYSTEMS,
    TASK_FIGURES,
    Made,
    plot,
    shape_of,
    write_study,
)

from eat.errors import EatError
from eat.figures import frontier, labels, overview, reliability, style
from eat.figures.canvas import ratio_axis
from eat.figures.figure import SEVERAL
from eat.figures.registry import FIGURES
from eat.results import picks
from eat.results.rows import rows_of
from eat.study.paths import StudyPaths
from eat.study.study import Study
from workflow_scripts import figures
from workflow_scripts._sources import ROOT

ODD = r"50%_<b>x<b>\input{a}$y$"


def draw(kind: str, results: Path, task: str, reference: str, folder: Path) -> tuple[Path, Path]:
    pdf, svg = folder / f"{kind}.pdf", folder / f"{kind}.svg"
    plot(kind, results, task, reference, pdf, svg)
    return pdf, svg


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASK_FIGURES)
def test_a_figure_is_whole_and_the_same_bytes_on_a_second_run(results: Path, tmp_path: Path, kind: str) -> None:
    first = draw(kind, results, "rotten_tomatoes", "dense-6", tmp_path / "a")
    second = draw(kind, results, "rotten_tomatoes", "dense-6", tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_bytes().startswith(b"%PDF") and first[0].read_bytes().rstrip().endswith(b"%%EOF")
    assert first[1].read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert "<dc:date>" not in first[1].read_text(encoding="utf-8")
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [f"{kind}.pdf", f"{kind}.svg"]


@pytest.mark.parametrize("kind", TASK_FIGURES)
def test_a_name_of_metacharacters_is_drawn_as_text(tmp_path: Path, kind: str) -> None:
    systems = (DENSE, STUDENT, replace(EAT, name=ODD))
    results, _ = write_study(tmp_path, (ODD,), Made(systems=systems))
    _, svg = draw(kind, results, ODD, "dense-6", tmp_path)
    # matplotlib draws text as outlines and names it in a comment; mathtext would name its parts, without the dollars
    comments = "".join(re.findall(r"<!--(.*?)-->", svg.read_text(encoding="utf-8"), flags=re.DOTALL))
    squeezed = re.sub(r"\s", "", comments)
    assert ODD in squeezed.replace("&lt;", "<").replace("&gt;", ">")


# --- what figures declare -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_what_a_figure_declares_is_there(name: str) -> None:
    """Each result has a path, its function takes what it declares, and there is a caption."""
    figure = FIGURES[name]
    assert figure.name == name
    for result in figure.reads:
        assert result in SEVERAL or StudyPaths("tiny").result(result, "task").suffix in (".csv", ".parquet")
    assert set(figure.may_be_empty) <= set(figure.reads)
    assert figure.needs is None or figure.needs in Study.model_fields
    signature(figure.draw).bind(*figure.reads, *figure.takes)
    assert (ROOT / "report" / "captions" / f"{name}.rst").read_text(encoding="utf-8").strip().endswith(".")
    assert Path(ROOT, *figure.module.split(".")).with_suffix(".py").is_file()


def test_no_two_figures_have_one_name() -> None:
    modules = {path.stem for path in (ROOT / "eat" / "figures").glob("*.py") if "FIGURE = " in path.read_text()}
    assert len(modules) == len(FIGURES)


@pytest.mark.parametrize("name", ["pie", "study", "results"])
def test_a_result_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(EatError, match=f"no table '{name}' in the results"):
        StudyPaths("tiny").result(name, "task")


# --- what is drawn ------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("tau", "number"), [(0.9, 40), (None, 16)])
def test_any_number_of_systems_can_be_told_apart(tau: float | None, number: int) -> None:
    """Forty adaptive systems, or sixteen dense ones: no two share both colour and marker."""
    names = [f"s{place}" for place in range(number)]
    columns = {"tau": tau, "avg_retention": 1.0, "gflops": 1.0, "gflops_pattern": 1.0}
    rows = pd.DataFrame(
        [{"system": "dense"} | columns | {"tau": None}] + [{"system": name} | columns for name in names]
    )
    looks = style.looks(rows, "dense")
    assert len({(looks[name].colour, looks[name].marker) for name in names}) == number


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


def test_rows_of_one_system_in_two_calibrations_are_refused(results: Path) -> None:
    summary = pd.read_csv(results / "summary.csv")
    summary.loc[3, "calibration"] = "raw"
    with pytest.raises(EatError, match="rows of eat-6 with calibration fitted, raw in one summary"):
        rows_of(summary, "rotten_tomatoes")


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASK_FIGURES)
def test_systems_of_two_calibrations_stand_in_one_figure(tmp_path: Path, kind: str) -> None:
    systems = (DENSE, EAT, replace(PATIENCE, calibration="raw"))
    results, _ = write_study(tmp_path, made=Made(systems=systems))
    _, svg = draw(kind, results, "rotten_tomatoes", "dense-6", tmp_path)
    assert PATIENCE.name in svg.read_text(encoding="utf-8").replace("&#45;", "-")


def test_an_unknown_task_is_refused_and_nothing_is_written(results: Path, tmp_path: Path) -> None:
    with pytest.raises(EatError, match="no row of task 'mnli'; the table holds rotten_tomatoes"):
        draw("frontier", results, "mnli", "dense-6", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", TASK_FIGURES)
def test_a_study_of_dense_systems_and_batch_1_has_every_figure(tmp_path: Path, kind: str) -> None:
    results, _ = write_study(tmp_path, made=Made(systems=(DENSE, STUDENT), batch_sizes=(1,)))
    pdf, svg = draw(kind, results, "rotten_tomatoes", "dense-6", tmp_path)
    assert pdf.stat().st_size and svg.stat().st_size


def test_pareto_front_of_four_points() -> None:
    """By hand: (3, .8) is slower and worse than (2, .9); of the rest each is faster or more accurate."""
    front = picks.pareto_front(np.array([3.0, 1.0, 2.0, 5.0]), np.array([0.8, 0.7, 0.9, 0.95]))
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

    front = picks.pareto_front(x, accuracy, low_is_good)
    assert {points[i] for i in front} == {points[i] for i in range(len(points)) if not beaten(i)}
    assert len({points[i] for i in front}) == len(front)


def test_what_is_learned_has_no_schedule_in_the_figure(tmp_path: Path) -> None:
    results, _ = write_study(tmp_path / "study")
    curve = pd.read_csv(results / "curves" / "retention.csv")
    learned = curve["system"] == "eat-6"
    assert (curve.loc[learned, "observed"] < 1).any()
    curve.loc[learned, "scheduled"] = float("nan")
    curve.to_csv(results / "curves" / "retention.csv", index=False)
    _, svg = draw("retention", results, "rotten_tomatoes", "dense-6", tmp_path)
    titles = [title.text or "" for title in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}title")]
    own = [title for title in titles if title.startswith("eat-6,")]
    assert own and not any("scheduled" in title for title in own)


def test_a_study_of_texts_of_one_length_gets_its_cost_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, _ = write_study(tmp_path / "study")
    costs = results / "curves" / "cost.csv"
    pd.read_csv(costs).iloc[:0].to_csv(costs, index=False)
    options = {
        "--summary": results / "summary.csv", "--cost": costs, "--task": "rotten_tomatoes", "--reference": "dense-6",
        "--pdf": tmp_path / "cost.pdf", "--svg": tmp_path / "cost.svg",
    }  # fmt: skip
    given = [str(word) for option in options.items() for word in option]
    monkeypatch.setattr(sys, "argv", ["figures", "cost", *given])
    figures.main()
    assert "Too few lengths" in (tmp_path / "cost.svg").read_text(encoding="utf-8")


def test_names_keep_their_order_and_their_distance() -> None:
    assert labels.spread([0.9, 0.5, 0.1], 0.2) == [0.9, 0.5, 0.1]
    assert labels.spread([0.9, 0.9, 0.85], 0.2) == pytest.approx([0.9, 0.7, 0.5])
    assert labels.spread([0.1, 0.1, 0.0], 0.2) == pytest.approx([0.4, 0.2, 0.0])
    assert labels.spread([1.0] * 5, 0.25) == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
    assert labels.spread([], 0.2) == []


@pytest.mark.slow
def test_systems_are_named_beside_the_panel_and_not_in_a_legend(results: Path, tmp_path: Path) -> None:
    for kind in ("buckets", "cost", "flops", "lengths"):
        _, svg = draw(kind, results, "rotten_tomatoes", "dense-6", tmp_path / kind)
        text = svg.read_text(encoding="utf-8")
        assert 'id="legend' not in text
        assert "<!-- eat-6-early -->" in text


@pytest.mark.slow
def test_a_figure_says_what_it_shows_also_to_a_screen_reader(results: Path, tmp_path: Path) -> None:
    """The times of the made-up systems fall less than their FLOPs, and scaling helps the three that adapt."""
    expected = {
        "flops": "Time falls less than FLOPs for 4 of 4 systems at their chosen points",
        "reliability": "Temperature scaling lowers the calibration error of 3 of 3 systems",
        "latency": "The 99th percentile of the calls is 2.70 times the median",
    }
    for kind, message in expected.items():
        _, svg = draw(kind, results, "rotten_tomatoes", "dense-6", tmp_path / kind)
        assert str(ElementTree.parse(svg).getroot().get("aria-label")).startswith(message)


def test_systems_without_fitted_temperatures_are_not_counted_as_calibrated(tmp_path: Path) -> None:
    rows = [("eat-6", "fitted", 0.06, 0.02), ("adapt-6", "raw", 0.06, 0.06)]
    summary = pd.DataFrame(rows, columns=["system", "calibration", "ece_raw", "ece_calibrated"]).assign(chosen=True)
    counted = "Temperature scaling lowers the calibration error of 1 of 1 systems"
    assert reliability._title(summary, {"eat-6", "adapt-6"}) == counted
    assert reliability._title(summary, {"adapt-6"}) == "No temperature is fitted"


@pytest.mark.slow
def test_the_values_of_a_figure_are_under_the_pointer(results: Path, tmp_path: Path) -> None:
    _, svg = draw("frontier", results, "rotten_tomatoes", "dense-6", tmp_path)
    titles = [title.text for title in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}title")]
    summary = pd.read_csv(results / "summary.csv")
    drawn = summary[summary.accuracy.notna() & (summary.system != "hf-dense-again")]
    assert len(titles) == len(drawn) + sum(drawn.batch_size == 1)  # FLOPs are drawn once, of the rows at batch 1
    row = drawn[(drawn.system == "eat-6") & (drawn.tau == 0.9) & (drawn.batch_size == 1)].iloc[0]
    expected = f"eat-6, τ = 0.90: {100 * row.accuracy:.1f} % "
    found = [str(title) for title in titles if str(title).startswith(expected)]
    assert len(found) == 3  # batch 1, batch 32, FLOPs
    assert found[2].endswith(f", {row.gflops:.3f} GFLOPs, {1 / row.flops_ratio:.2f} of dense-6's")


def test_a_point_of_the_frontier_stands_at_one_height_by_the_clock_and_by_flops(tmp_path: Path) -> None:
    """So that a reader sees across where the two disagree: here FLOPs rank two systems the other way round."""
    results, _ = write_study(tmp_path, made=Made(systems=(DENSE, STUDENT, EAT)))
    summary = pd.read_csv(results / "summary.csv")
    summary.loc[summary.system == "student-3", "gflops"] = 0.6  # fast for its FLOPs
    summary.to_csv(results / "summary.csv", index=False)
    _, svg = draw("frontier", results, "rotten_tomatoes", "dense-6", tmp_path)
    places: dict[str, list[tuple[float, float]]] = {}
    for circle in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}circle"):
        name = str(circle[0].text).split(":")[0]
        places.setdefault(name, []).append((float(str(circle.get("cx"))), float(str(circle.get("cy")))))
    student, adaptive = places["student-3"], places["eat-6, τ = 0.95"]
    assert len({y for _, y in student}) == len({y for _, y in adaptive}) == 1
    latency, _, flops = range(3)
    assert student[latency][0] < adaptive[latency][0] and student[flops][0] > adaptive[flops][0]


@pytest.mark.parametrize(
    ("ends", "numbers"),
    [((1.0, 10.0), [1, 2, 3, 5, 10]), ((4.0, 8.0), [4, 5, 6, 7, 8]), ((0.1, 100.0), [0.1, 1, 10, 100])],
)
def test_numbers_of_a_logarithmic_axis_are_as_dense_as_there_is_room(
    ends: tuple[float, float], numbers: list[float]
) -> None:
    axes = Figure().subplots()
    ratio_axis(axes, most=6)
    axes.set_xlim(*ends)
    low, high = ends
    assert [round(tick, 6) for tick in axes.get_xticks() if low * 0.999 <= tick <= high * 1.001] == numbers


def test_a_spot_lies_where_its_point_is_drawn(tmp_path: Path) -> None:
    """Axes over the whole figure of 2 x 1 inches: data (0.25, 0.75) is at 36 points across, 18 points down."""
    figure = Figure(figsize=(2.0, 1.0))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    style.save(figure, tmp_path / "a.pdf", tmp_path / "a.svg", [style.Spot(axes, 0.25, 0.75, "a < b")])
    circle = ElementTree.parse(tmp_path / "a.svg").find(".//{http://www.w3.org/2000/svg}circle")
    assert circle is not None and (circle.get("cx"), circle.get("cy")) == ("36.0", "18.0")
    assert circle[0].text == "a < b"


@pytest.mark.slow
def test_the_frontier_puts_other_precisions_below(tmp_path: Path) -> None:
    eight = replace(EAT, name="eat-6-int8")
    results, _ = write_study(tmp_path, made=Made(systems=(DENSE, EAT, eight)))
    summary = pd.read_csv(results / "summary.csv")
    summary.loc[summary.system == "eat-6-int8", "dtype"] = "int8"
    summary.to_csv(results / "summary.csv", index=False)
    _, svg = draw("frontier", results, "rotten_tomatoes", "dense-6", tmp_path)
    places: dict[str, set[float]] = {}
    for circle in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}circle"):
        places.setdefault(str(circle[0].text).split(",")[0].split(":")[0], set()).add(float(str(circle.get("cy"))))
    assert min(places["eat-6-int8"]) > max(places["eat-6"])
    # the same weights exit after the same layers: the figures of behaviour show the reference's precision
    _, svg = draw("exits", results, "rotten_tomatoes", "dense-6", tmp_path)
    assert "eat-6-int8" not in svg.read_text(encoding="utf-8")
    # in any engine
    summary.loc[summary.system == "eat-6", "engine"] = "onnx"
    summary.to_csv(results / "summary.csv", index=False)
    _, svg = draw("exits", results, "rotten_tomatoes", "dense-6", tmp_path)
    assert "eat-6" in svg.read_text(encoding="utf-8")


def test_a_point_far_below_stands_at_the_lower_edge_of_the_frontier_with_its_accuracy(tmp_path: Path) -> None:
    """At 49 % it would squeeze the others into a corner: they keep the places that they have without it."""
    heights = []
    for broken in (False, True):
        results, _ = write_study(tmp_path / str(broken), made=Made(systems=(DENSE, STUDENT, EAT)))
        summary = pd.read_csv(results / "summary.csv")
        columns = ["accuracy", "accuracy_low", "accuracy_high"]
        summary.loc[summary.system == "student-3", columns] = (
            [0.49, 0.47, 0.51] if broken else summary.loc[summary.system == "dense-6", columns].iloc[0].to_list()
        )
        summary.to_csv(results / "summary.csv", index=False)
        _, svg = draw("frontier", results, "rotten_tomatoes", "dense-6", tmp_path / str(broken))
        circles = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}circle")
        heights.append({str(one[0].text).split(":")[0]: float(str(one.get("cy"))) for one in circles})
    whole, cut = heights
    assert cut.pop("student-3") >= max(cut.values())
    assert "49.0\N{DOWNWARDS ARROW}" in frontier._label(pd.Series({"below": True, "accuracy": 0.49, "tau": None}))
    assert cut == pytest.approx({name: height for name, height in whole.items() if name != "student-3"}, abs=1.0)


def test_systems_built_alike_are_drawn_once(tmp_path: Path) -> None:
    shape = shape_of(EAT)
    systems = [
        overview.Drawn("eat-6", shape, ["confidence"], [0.8, 0.9]),
        overview.Drawn("eat-6-int8", shape | {"precision": "int8"}, ["confidence"], [0.8, 0.9]),
        overview.Drawn("eat-6-other", shape, ["entropy"], [0.8]),
    ]
    assert [drawn.name for drawn in overview.alike(systems)] == ["eat-6, eat-6-int8", "eat-6-other"]
    style.write(lambda: overview.plot_overview(systems), tmp_path / "a.pdf", tmp_path / "a.svg")
    titles = "".join(ElementTree.parse(tmp_path / "a.svg").getroot().itertext())
    assert "eat-6, eat-6-int8: layer 2, window attention, then norm: 30 % removed" in titles
    assert "eat-6-other: layer 4, window attention, then norm: 30 % removed, a head at which texts may exit" in titles
