"""The first screen of the report: its sentence is true for odd results too, and it stays short."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from synthetic_results import DENSE, EAT, Made, Row, write_study
from test_report import SMALL, Page, rendered

from eat.figures import batch_1
from eat.report.first_screen import MOST_ROWS, answer, first_screen, lead, short_rows
from eat.report.results import TaskFiles, read_tasks
from eat.results.picks import LOSS_BOUND, is_choice, picks_of

INT8 = "the dense model in int8 in ONNX Runtime"
ALIKE = Row("alike", 4.0, 0.002)
FAST = Row("fast", 6.0, 0.002)
NEAR = Row("near", 8.0, -0.006)
WORSE = Row("worse", 12.0, -0.03)
SLOW = Row("slow", 2.0, 0.002)


def task_of(folder: Path, made: Made) -> TaskFiles:
    results, data = write_study(folder, made=made)
    (task,) = read_tasks("synthetic", {"rotten_tomatoes": "rotten_tomatoes"}, results, data)
    return task


def said(folder: Path, *systems: Row, int8: float | None = 4.0, half: float = 0.04) -> str:
    """The answer about made-up systems. The interval of each difference is 0.9 points wide on either side."""
    task = task_of(folder, Made(systems=(DENSE, *systems), int8=int8, half_width=half))
    return answer(picks_of(task.summary, "dense-6"), "dense-6")


def test_a_system_without_a_loss_and_one_within_a_point_are_both_named(tmp_path: Path) -> None:
    sentence = said(tmp_path, FAST, NEAR, WORSE)
    # 6 and 8 times as fast as the stock model, which the int8 model beats 4 times
    assert re.match(rf"fast is 1\.\d\d \[.*\] times as fast as {INT8}, and a loss of more than one point", sentence)
    assert re.search(
        r"near is faster still, (1\.9|2\.0)\d \[.*\] times, but such a loss is not excluded for it", sentence
    )
    assert "worse" not in sentence
    unclear = said(tmp_path / "unclear", FAST, replace(NEAR, speedup=6.1))
    assert re.search(
        r"near, 1\.\d\d \[.*\] times as fast, is not shown to be faster than fast, and such a loss", unclear
    )


def test_without_the_int8_model_the_stock_model_is_what_a_user_would_take(tmp_path: Path) -> None:
    sentence = said(tmp_path, FAST, int8=None)
    assert re.match(r"fast is (5\.9|6\.0)\d \[.*\] times as fast as the stock dense model", sentence)
    assert sentence.endswith("It is also the fastest of those measured at most one point below.")


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        ((SLOW,), rf"^No system .* is shown to be faster than {INT8}: the fastest, slow, has 0\.\d\d \[.*\] times its"),
        ((ALIKE,), rf"is shown to be faster than {INT8}: alike is not shown to differ from it in speed, [01]\.\d\d "),
        (
            (NEAR,),
            r"^For no system is a loss of more than one point of accuracy excluded\. Of those .* near is the fastest: ",
        ),
        ((WORSE,), r"^For no system is a loss .* excluded\. None is measured at most one point below the dense"),
        ((replace(SLOW, delta=-0.006),), r"none is shown to be faster either; slow is 0\.\d\d"),
        ((), rf"^No system was timed against {INT8}\.$"),
    ],
)
def test_the_sentence_claims_no_more_than_the_intervals(
    tmp_path: Path, systems: tuple[Row, ...], expected: str
) -> None:
    assert re.search(expected, said(tmp_path, *systems))


def test_a_faster_one_that_is_shown_comes_before_one_that_may_be_faster(tmp_path: Path) -> None:
    task = task_of(tmp_path, Made(systems=(DENSE, FAST, replace(FAST, name="unsure", speedup=7.0)), int8=4.0))
    rows = task.summary.copy()
    rows.loc[rows["system"] == "unsure", "speedup_vs_int8_low"] = 0.5
    picks = picks_of(rows, "dense-6")
    assert picks.no_loss is not None and picks.no_loss["system"] == "fast"
    assert picks.candidates == 2


def test_a_noisy_clock_shows_nothing(tmp_path: Path) -> None:
    made = Made(systems=(DENSE, replace(FAST, speedup=1.2)), noise=(1.0, 0.7, 1.4))
    task = task_of(tmp_path, made)
    assert "is not shown to differ from it in speed" in answer(picks_of(task.summary, "dense-6"), "dense-6")
    facts = dict(first_screen(task, "dense-6").facts)
    assert facts["Noise floor"] == "speed-ups within [0.70, 1.43] show no difference (a model timed against itself)"
    assert "Promises" not in facts


def test_the_bound_of_a_loss_is_a_point() -> None:
    assert LOSS_BOUND == 0.01


def test_several_tasks_are_counted(tmp_path: Path) -> None:
    better, worse = (
        first_screen(task_of(tmp_path / name, Made(systems=(DENSE, row), int8=4.0)), "dense-6")
        for name, row in (("a", FAST), ("b", NEAR))
    )
    assert lead([better]) == ""
    sentence = lead([better, worse, worse])
    assert sentence.startswith(f"On 1 of 3 tasks a system is shown to be faster than {INT8} with a loss of more than")
    assert sentence.endswith("; on 3, with a measured loss of at most one point.")


def test_the_short_table_has_its_rows_by_rule(tmp_path: Path) -> None:
    many = [Row(f"system-{number}", 2.0 + number, 0.03 - 0.004 * number) for number in range(12)]
    rows = short_rows(task_of(tmp_path, Made(systems=(DENSE, *many), int8=4.0)), "dense-6")
    assert len(rows) == MOST_ROWS
    why = {row["why"]: row["system"] for row in rows}
    assert why["stock model"] == "hf-dense" and why["baseline of speed"] == "hf-dense-onnx-int8"
    assert why["reference of accuracy"] == "dense-6" and {"loss of 1 pp excluded", "on the Pareto front"} <= set(why)
    times = [row["latency_ms_p50"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert not {"hf-dense-again", "hf-dense-sorted", "hf-dense-12"} & {row["system"] for row in rows}


@pytest.mark.parametrize("tasks", [("rotten_tomatoes",), ("imdb", "rotten_tomatoes")])
def test_at_most_120_words_stand_before_the_frontier(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    page = rendered(tmp_path, Made(systems=(DENSE, FAST, NEAR), int8=4.0), tasks)["report.html"]
    before = Page(page.split("<body>")[1].split('<figure class="picture">')[0]).text.split()
    assert 20 < len(before) <= 120


def test_provenance_is_the_last_part_and_parts_are_open_without_a_script(tmp_path: Path) -> None:
    page = rendered(tmp_path, SMALL)["report.html"]
    parts = re.findall(r"<summary><h2>(.*?)</h2>", page)
    assert parts[0] == "Results of all systems" and parts[-1] == "What was run, and provenance"
    assert page.count("<details") == len(re.findall(r"<details[^>]* open>", page))


@pytest.mark.parametrize(
    ("tau", "thresholds", "chosen", "expected"),
    [
        (0.9, None, True, True),
        (0.9, None, False, False),
        (float("nan"), '{"1": 0.95}', True, True),  # a promise has a threshold for each exit
        (float("nan"), float("nan"), True, False),  # a dense system has no choice
        (None, None, "True", False),
    ],
)
def test_a_promised_point_is_a_choice(tau: object, thresholds: object, chosen: object, expected: bool) -> None:
    assert is_choice({"tau": tau, "thresholds": thresholds, "chosen": chosen}) is expected


def test_the_title_of_the_figure_follows_the_numbers(tmp_path: Path) -> None:
    for name, row, expected in (
        ("a", FAST, r"^fast: 1\.[45]\d× the speed of hf-dense-onnx-int8, .*a loss of more than one point is excluded"),  # noqa: RUF001
        ("b", NEAR, r"points from dense-6 \(measured\)$"),
        ("c", SLOW, r"^No system within one point of accuracy is shown to be faster than hf-dense-onnx-int8$"),
    ):
        task = task_of(tmp_path / name, Made(systems=(DENSE, row), int8=4.0))
        assert re.search(expected, batch_1.title(picks_of(task.summary, "dense-6"), "dense-6"))


def test_every_system_of_a_small_figure_has_its_name(tmp_path: Path) -> None:
    summary = task_of(tmp_path, Made(systems=(DENSE, EAT, FAST), int8=4.0)).summary
    figure, spots = batch_1.plot_batch_1(summary, "rotten_tomatoes", "dense-6")
    names = {text.get_text() for text in figure.axes[0].texts}
    assert {"dense-6", "eat-6", "fast", "hf-dense", "hf-dense-onnx-int8"} <= names
    assert any(re.match(r"fast: 85\.5 % \(\+0\.2 points \[.*\]\), \d\.\d\d ms, ", spot.text) for spot in spots)
    assert pd.notna(summary["accuracy"]).any()
