"""The report as people see it: the page in a headless Chromium, the PDF of the LaTeX, alone and within a paper."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import CHROMIUM, Tab, browser
from synthetic_results import DENSE, EAT, STUDENT, Made, write_study
from test_report import ODD_KEY, ODD_SYSTEM, ODD_TASK, TEMPLATES, rendered

from eat.compare.render import compare
from eat.compare.states import read_state
from eat.report import typeset

pytestmark = pytest.mark.report

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
needs_tex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
needs_pdftotext = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two tasks, one of an odd name, with an odd system."""
    root = tmp_path_factory.mktemp("page")
    made = Made(systems=(DENSE, STUDENT, EAT, replace(EAT, name=ODD_SYSTEM)))
    rendered(root, made, {ODD_KEY: ODD_TASK, "rotten_tomatoes": "rotten_tomatoes"}, plotted=True)
    return root / "results" / "synthetic" / "report"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as opened:
        yield opened


def open_parts(tab: Tab) -> None:
    """Press the button that opens all parts."""
    tab.value("document.querySelector('.tools button').click()")


@needs_browser
def test_the_page_begins_with_the_answer_and_opens_a_part_that_a_link_names(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html")
    assert tab.value("document.querySelectorAll('details[open]').length") == 0
    tab.value("location.hash = '#calibration'")
    for _ in range(100):
        if tab.value("document.querySelector('#calibration details').open"):
            break
        time.sleep(0.05)
    assert tab.value("document.querySelectorAll('details[open]').length") == 1
    tab.value("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.value("document.querySelectorAll('details:not([open])').length") == 0
    tab.value("window.dispatchEvent(new Event('afterprint'))")
    assert tab.value("document.querySelectorAll('details[open]').length") == 1


@needs_browser
def test_the_name_of_a_system_opens_its_details(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html")
    link = "[...document.querySelectorAll('#results th a')].find((one) => one.textContent === 'eat-6')"
    details = f"document.getElementById(decodeURIComponent({link}.hash.slice(1)))"
    assert not tab.value(f"{details}.open")
    tab.value(f"{link}.click()")
    for _ in range(100):
        if tab.value(f"{details}.open"):
            break
        time.sleep(0.05)
    assert tab.value(f"{details}.open && document.querySelector('#systems details').open")
    summary = tab.value(f"{details}.querySelector('summary').innerText")
    assert summary.startswith("eat-6") and "the speed of the stock model" in summary


@needs_browser
def test_tables_and_figures_have_names_and_only_frames_that_scroll_are_stops(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html", width=1280)
    open_parts(tab)
    names = tab.value(
        "[...document.querySelectorAll('table')].map((table) =>"
        " document.getElementById(table.getAttribute('aria-labelledby')).innerText)"
    )
    assert all(names) and max(map(len, names)) < 200
    assert tab.value("[...document.querySelectorAll('thead button')].every((one) => one.textContent.trim())")
    heads = tab.value("[...document.querySelector('#results table').tHead.rows[0].cells].map((one) => one.textContent)")
    assert [head.split() for head in heads].count(["Speed-up", "mean"]) == 1
    assert tab.value("[...document.querySelectorAll('.picture svg')].every((one) => one.getAttribute('aria-label'))")
    assert tab.value("document.querySelectorAll('.picture svg > g:not(.values):not([aria-hidden])').length") == 0
    idle = "[...document.querySelectorAll('.scroll[tabindex]')].filter((one) => one.scrollWidth <= one.clientWidth)"
    for _ in range(100):  # the sizes are told after the next layout
        if not tab.value(f"{idle}.length"):
            break
        time.sleep(0.05)
    assert tab.value(f"{idle}.length") == 0
    assert tab.value("document.querySelectorAll('.system .filter').length") == 0


@needs_browser
@needs_pdftotext
def test_on_paper_all_parts_are_open_and_black_on_white(tab: Tab, folder: Path, tmp_path: Path) -> None:
    tab.open(folder / "report.html", dark=True)
    pdf = tab.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"]
    (tmp_path / "page.pdf").write_bytes(base64.b64decode(pdf))
    text = printed(tmp_path / "page.pdf")
    assert "Calibration on rotten_tomatoes" in text and "Temperature" in text and "Rendered with" in text
    assert "Open all parts" not in text and "Filter rows" not in text
    tab.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    ink, paper = (
        tab.value(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
        for name in ("ink", "page")
    )
    tab.call("Emulation.setEmulatedMedia", media="", features=[])
    assert (ink, paper) == ("#1c1c1e", "#ffffff")


@needs_browser
def test_a_long_table_is_filtered_by_words(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html")
    open_parts(tab)
    tab.value(
        "{ const input = document.querySelector('#frontier .filter input'); input.value = 'student-3';"
        " input.dispatchEvent(new Event('input')); }"
    )
    rows = "document.querySelector('#frontier .filter + .scroll').querySelectorAll('tbody tr:not([hidden])')"
    shown = tab.value(f"[...{rows}].filter((row) => !row.querySelector('.group')).map((row) => row.cells[0].innerText)")
    assert shown and all("student-3" in name for name in shown)


@needs_browser
def test_the_arrow_keys_walk_through_the_values_of_a_figure(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html")
    group = "document.querySelector('.first .values')"
    assert tab.value(f"[...{group}.children].filter((one) => one.tabIndex === 0).length") == 1
    tab.value(f"{group}.children[0].focus()")
    assert tab.value("document.querySelector('#value').textContent") == tab.value(f"{group}.children[0].ariaLabel")
    tab.value("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))")
    assert tab.value(f"document.activeElement === {group}.children[1]")
    assert tab.value("document.querySelector('#value').textContent") == tab.value(f"{group}.children[1].ariaLabel")


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False), (360, True)])
def test_the_page_opens_without_errors_or_requests(tab: Tab, folder: Path, width: int, dark: bool) -> None:
    tab.requests.clear()
    tab.errors.clear()
    tab.open(folder / "report.html", width=width, dark=dark)
    assert tab.errors == []
    assert tab.requests == [(folder / "report.html").resolve().as_uri()]
    # text fits the window: only tables and figures scroll, each within its own frame
    assert tab.value("document.documentElement.scrollWidth <= window.innerWidth")
    paper = tab.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(23, 24, 27)" if dark else "rgb(255, 255, 255)")


@needs_browser
def test_names_are_text_in_the_page(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html")
    open_parts(tab)
    assert tab.value("document.querySelectorAll('main b').length") == 0
    text = tab.value("document.body.innerText")
    assert ODD_TASK in text and ODD_SYSTEM in text


@needs_browser
def test_the_main_table_needs_no_scrolling_at_1200_pixels(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html", width=1200)
    open_parts(tab)
    frames = "[...document.querySelectorAll('#results .scroll')]"
    assert tab.value(f"{frames}.length") > 0
    assert tab.value(f"{frames}.every((frame) => frame.scrollWidth <= frame.clientWidth)")


@needs_browser
def test_a_table_sorts_by_the_head_that_is_pressed(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html")
    open_parts(tab)
    table = "document.querySelector('#results table')"
    column = f"[...{table}.tHead.rows[0].cells].findIndex((head) => head.innerText.startsWith('Latency'))"
    body = f"[...{table}.tBodies[0].rows].map((row) => parseFloat(row.cells[{column}].innerText))"
    before = tab.value(body)
    for expected in (sorted(before), sorted(before, reverse=True)):
        tab.value(f"{table}.tHead.rows[0].cells[{column}].querySelector('button').click()")
        assert tab.value(body) == expected
    assert tab.value(f"{table}.tHead.rows[0].cells[{column}].getAttribute('aria-sort')") == "descending"


@needs_browser
def test_dashes_stay_last_when_a_table_sorts(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html")
    open_parts(tab)
    table = "document.querySelector('#results table')"
    stock = f"[...{table}.tBodies[1].rows].filter((row) => row.cells.length > 1)"
    for _ in range(2):
        tab.value(f"{table}.tHead.rows[0].cells[2].querySelector('button').click()")  # accuracy
        assert tab.value(f"{stock}.at(-1).cells[2].innerText") == "–"  # noqa: RUF001
        assert tab.value(f"{stock}[0].cells[2].innerText") != "–"  # noqa: RUF001


@needs_browser
def test_a_figure_shows_its_values_under_the_pointer(tab: Tab, folder: Path) -> None:
    tab.open(folder / "report.html")
    open_parts(tab)
    tab.value("document.querySelector('#frontier svg').scrollIntoView({behavior: 'instant'})")
    place = "[...document.querySelectorAll('#frontier .values > *')].find((one) => one.ariaLabel.startsWith('eat-6, '))"
    sides = (("x", "width"), ("y", "height"))
    x, y = (tab.value(f"((box) => box.{at} + box.{size} / 2)({place}.getBoundingClientRect())") for at, size in sides)
    label = tab.value(f"{place}.ariaLabel")
    assert re.match(r"eat-6, τ = 0\.\d\d: \d\d\.\d %", label)
    for _ in range(100):
        tab.point(x, y)
        # where markers overlap, one of them answers; the scrolling above is told to the page later, and hides it once
        shown = tab.value("document.querySelector('#value').hidden ? '' : document.querySelector('#value').textContent")
        if shown:
            break
        time.sleep(0.05)
    assert re.search(r": \d\d\.\d % \[", shown)
    tab.point(1, 1)
    assert tab.value("document.querySelector('#value').hidden")


@needs_browser
def test_the_page_of_a_comparison_works_as_well(tab: Tab, tmp_path: Path) -> None:
    before, after = (Made(systems=(DENSE, STUDENT, replace(EAT, speedup=ratio))) for ratio in (2.3, 4.0))
    states = [
        read_state(name, write_study(tmp_path / name, made=made)[0]) for name, made in [("a", before), ("b", after)]
    ]
    compare(*states, "dense-6", TEMPLATES, tmp_path / "out")
    tab.errors.clear()
    tab.open(tmp_path / "out" / "diff.html", width=390)
    assert tab.errors == []
    assert tab.value("document.documentElement.scrollWidth <= window.innerWidth")
    assert tab.value("document.querySelectorAll('.values > [aria-label]').length") > 0  # the script has run
    tab.value("document.querySelector('table').tHead.rows[0].cells[0].querySelector('button').click()")
    assert tab.value("document.querySelector('table').tHead.rows[0].cells[0].getAttribute('aria-sort')") == "ascending"


def printed(pdf: Path) -> str:
    command = ["pdftotext", "-layout", str(pdf), "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_tex
@needs_pdftotext
def test_the_section_compiles_within_a_paper_of_two_columns(folder: Path, tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    paper.mkdir()
    (paper / "paper.tex").write_text(
        r"""\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage{array,booktabs,graphicx}
\newcommand{\eatfigures}{"""
        + (folder.parent / "figures").as_posix()
        + r"}\newcommand{\eatreport}{"
        + folder.as_posix()
        + r"""}
\begin{document}
Before.
\input{"""
        + (folder / "results_section.tex").as_posix()
        + r"""}
After.
\end{document}
""",
        encoding="utf-8",
    )
    typeset.render_pdf(paper / "paper.tex", paper / "paper.pdf")
    text = printed(paper / "paper.pdf")
    assert "Before." in text and "After." in text
    assert "Claim" in text and "not reproduced" in text


@needs_tex
def test_nothing_stands_beyond_the_margin(folder: Path, tmp_path: Path) -> None:
    """TeX complains of boxes that are too wide; a table or figure beyond the margin is one of many points."""
    for name in ("results.tex", "results_section.tex"):
        shutil.copyfile(folder / name, tmp_path / name)
    text = (tmp_path / "results_section.tex").read_text(encoding="utf-8")
    place = {r"\eatfigures}{../figures}": rf"\eatfigures}}{{{folder.parent / 'figures'}}}"}
    place |= {r"\eatreport}{.}": rf"\eatreport}}{{{folder}}}"}
    for before, after in place.items():
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "results_section.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-no-shell-escape", "results.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Float too large" not in done.stdout
    too_wide = [float(points) for points in re.findall(r"Overfull \\hbox \((\d+\.\d+)pt too wide\)", done.stdout)]
    assert max(too_wide, default=0.0) < 10.0
