"""What CONTRIBUTING.md says is enough to add something: each recipe is followed in a copy of the project."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import yaml
from project_copy import FOLDER, ROOT, SNAKEMAKE, Copy, copy_project, stand_in
from synthetic_results import Made, write_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SNAKEMAKE.is_file(), reason="snakemake is not installed beside python"),
]


def recipe(title: str) -> dict[str, str]:
    """The files that a recipe names at the start of its steps, with the text that it puts into them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text.split(f"## {title}\n")[1], flags=re.MULTILINE)[0]
    steps = re.findall(r"^\d\. `([^`]+)`(.*?)(?=^\d\. |\Z)", section, flags=re.MULTILINE | re.DOTALL)
    blocks = {path: re.search(r"^ +```\w+\n(.*?)^ +```$", step, re.MULTILINE | re.DOTALL) for path, step in steps}
    return {path: textwrap.dedent(block[1]) for path, block in blocks.items() if block}


@pytest.fixture(scope="module")
def with_figure(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy to which the recipe added a figure, in which a study of two systems was then run by the stand-in."""
    copy = copy_project(tmp_path_factory.mktemp("figure") / FOLDER)
    for path, text in recipe("Add a figure").items():
        file = copy.folder / path
        if file.is_file():
            before, last, after = file.read_text(encoding="utf-8").partition("from eat.figures.exits ")
            assert last
            file.write_text(before + text + last + after, encoding="utf-8")
        else:
            file.write_text(text, encoding="utf-8")
    study = yaml.safe_load((copy.folder / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    study["study"] = "plan"
    study["systems"] = {name: study["systems"][name] for name in ("dense-6", "eat-6")}
    (copy.folder / "config" / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    stand_in(copy)
    run = copy.snakemake("--cores", "1", "--configfile", "config/study.yaml")
    assert run.returncode == 0, run.stderr[-3000:]
    return copy


def drawn(plan: list[tuple[str, str]]) -> set[str]:
    """The figures that a plan would draw."""
    return {Path(path).stem for rule, path in plan if rule in ("plot_figure", "plot_study_figure")}


def test_a_figure_takes_three_files_beside_its_test() -> None:
    files = {"eat/figures/depth.py", "eat/figures/registry.py", "report/captions/depth.rst"}
    assert recipe("Add a figure").keys() == files
    assert recipe("Add a figure")["eat/figures/registry.py"].count("\n") == 1


def test_an_added_figure_has_a_job_and_a_place_in_the_report(with_figure: Copy) -> None:
    assert (with_figure.folder / "results" / "plan" / "figures" / "depth_rotten_tomatoes.svg").is_file()
    calls = (with_figure.folder / "calls").read_text(encoding="utf-8").split("\n\0")
    (drawing,) = [call for call in calls if "workflow_scripts.figures\0depth\0" in call]
    assert "--summary\0results/plan/summary.csv" in drawing and "--reference\0dense-6" in drawing
    (report,) = [call for call in calls if "workflow_scripts.report_page\0" in call]
    assert '{"name":"depth","of":"task","place":"adaptive"}' in report
    assert with_figure.pending() == []


def test_an_added_figure_is_drawn_by_the_command(with_figure: Copy, tmp_path: Path) -> None:
    results, _ = write_study(tmp_path, made=Made())
    for ending in ("a", "b"):
        done = with_figure.command(
            *("workflow_scripts.figures", "depth", "--task", "rotten_tomatoes", "--reference", "dense-6"),
            *("--summary", results / "summary.csv"),
            *("--pdf", tmp_path / f"{ending}.pdf", "--svg", tmp_path / f"{ending}.svg"),
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert "eat-6, τ = 0.90" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", ["depth", "frontier"])
def test_an_edited_figure_is_drawn_again_and_no_other(with_figure: Copy, name: str) -> None:
    module = with_figure.folder / "eat" / "figures" / f"{name}.py"
    text = module.read_text(encoding="utf-8")
    try:
        module.write_text(f"{text}\n# edited\n", encoding="utf-8")
        plan = with_figure.pending()
    finally:
        module.write_text(text, encoding="utf-8")
    assert drawn(plan) == {f"{name}_rotten_tomatoes"}
    assert {rule for rule, _ in plan} == {"plot_figure", "render_report", "record"}


def test_the_caption_of_a_figure_is_its_own(with_figure: Copy) -> None:
    caption = with_figure.folder / "report" / "captions" / "depth.rst"
    text = caption.read_text(encoding="utf-8")
    try:
        caption.write_text("Another sentence.\n", encoding="utf-8")
        plan = with_figure.pending()
    finally:
        caption.write_text(text, encoding="utf-8")
    assert drawn(plan) == {"depth_rotten_tomatoes"}
