"""What CONTRIBUTING.md says is enough to add something: each recipe is followed in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
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


# --- exit rules, reducers, engines, phases ------------------------------------------------------------------------


def followed(title: str, folder: Path, places: dict[str, tuple[str, str]]) -> Copy:
    """A copy in which a recipe was followed: new files are written; in others text goes before a mark.

    places: file -> the mark before which the recipe's text stands, and what is put in the place of the mark itself.
    """
    copy = copy_project(folder / FOLDER)
    for path, text in recipe(title).items():
        file = copy.folder / path
        if path in places:
            mark, instead = places[path]
            before, last, after = file.read_text(encoding="utf-8").partition(mark)
            assert last, (path, mark)
            file.write_text(before + text + instead + after, encoding="utf-8")
        else:
            assert not file.exists(), path
            file.write_text(text, encoding="utf-8")
    return copy


def printed(copy: Copy, code: str) -> str:
    """What a program prints in the copy."""
    program = [sys.executable, "-c", textwrap.dedent(code)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(program, cwd=copy.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_added_rule_is_found_by_its_name_everywhere(tmp_path: Path) -> None:
    rules = "eat/model/exit_rules.py"
    assert recipe("Add an exit rule").keys() == {rules}
    mark = "RULES: Mapping[str, ExitRule] = {rule.name: rule for rule in (Confidence(), Entropy(), Agreement())}"
    instead = "\n\n" + mark.replace("Agreement()", "Agreement(), Gap()")
    copy = followed("Add an exit rule", tmp_path, {rules: (mark, instead)})
    found = printed(
        copy,
        """
        import json, tiny, torch
        from eat.model.exit_policy import ExitPolicy
        from eat.study.loading import load_study, read_mapping
        from eat.study.schema import schema_text
        policy = ExitPolicy.of({"rule": ["gap"], "tau": 0.5}, [2, 4])
        probabilities = torch.tensor([[0.8, 0.2], [0.7, 0.3]])
        study = read_mapping("config/tiny.yaml")
        study["systems"]["eat-6"]["exits"] |= {"rule": ["gap"], "tau": [0.5]}
        model = tiny.model(exits=[2])
        model.set_operating_point(["gap"], 1e-6)
        print(json.dumps([
            policy.fires({2: probabilities}).tolist(),
            [round(value, 3) for value in policy.margin(probabilities).tolist()],
            load_study(study).systems["eat-6"].exits.rule,
            '"gap"' in schema_text(),
            model.run(tiny.batch([7, 9])).depth,
        ]))
        """,
    )
    assert json.loads(found) == [[True, False], [0.1, 0.1], ["gap"], True, [2, 2]]


def test_an_added_reducer_runs_and_an_edit_of_it_trains_again(tmp_path: Path) -> None:
    registry = "eat/model/reducers/registry.py"
    assert recipe("Add a reducer").keys() == {"eat/model/reducers/first.py", registry}
    copy = followed("Add a reducer", tmp_path, {registry: ("AnyReducer = Annotated[", "\n\nAnyReducer = Annotated[")})
    file = copy.folder / registry
    file.write_text(file.read_text().replace("| TokenMerging,", "| TokenMerging | FirstTokens,"), encoding="utf-8")
    found = printed(
        copy,
        """
        import json, tiny
        from eat.study.loading import load_study, read_mapping
        from workflow_scripts._sources import sources_of
        study = read_mapping("config/tiny.yaml")
        study["systems"]["eat-6"]["reducer"] = {"kind": "first", "after": [2]}
        options = load_study(study).systems["eat-6"].reducer.plain()
        model = tiny.model(reducer=options)
        work = model.encoder(tiny.batch([11])).work
        # ceil(0.7 x 10) of the 10 tokens beside [CLS] stay
        part = "eat/model/reducers/first.py"
        commands = [part in sources_of(f"workflow_scripts.{name}") for name in ("finetune", "trace", "prepare_text")]
        print(json.dumps([options["ratio"], [layer.fed[0] for layer in work], commands]))
        """,
    )
    assert json.loads(found) == [0.3, [11, 11, 8, 8], [True, True, False]]


def test_an_added_engine_traces_and_is_timed(tmp_path: Path) -> None:
    registry = "eat/engines/registry.py"
    assert recipe("Add an engine").keys() == {"eat/engines/echo.py", registry}
    mark = '    raise EatError(f"engine'
    copy = followed("Add an engine", tmp_path, {registry: (mark, mark)})
    options = copy.folder / "eat" / "model" / "options.py"
    options.write_text(options.read_text().replace('Literal["torch"]', 'Literal["torch", "echo"]'), encoding="utf-8")
    found = printed(
        copy,
        """
        import json, tempfile, pathlib, tiny
        from eat.model.options import Attention, Parts
        from eat.trace.recording import record_trace
        folder = pathlib.Path(tempfile.mkdtemp())
        tiny.model().save_pretrained(folder / "model")
        tiny.save_tokenizer(folder / "model")
        tiny.split(folder / "dev.parquet", rows=8)
        traces = [
            record_trace([folder / "model"], Parts(attention=Attention(), engine=name), folder / "dev.parquet",
                         tiny.UNNAMED, 32, "tiny")
            for name in ("torch", "echo")
        ]
        print(json.dumps(bool((traces[0].logits[4] == traces[1].logits[4]).all())))
        """,
    )
    assert json.loads(found) is True


def test_an_added_phase_is_planned_and_becomes_a_stage(tmp_path: Path) -> None:
    steps = {"rules/counting.smk", "Snakefile", "workflow_scripts/counting.py", "workflow_scripts/_phases.py"}
    assert recipe("Add a phase").keys() == steps
    places = {
        "Snakefile": ('include: "rules/record.smk"', 'include: "rules/record.smk"'),
        "workflow_scripts/_phases.py": ('        Phase("record"', '        Phase("record"'),
    }
    copy = followed("Add a phase", tmp_path, places)
    target = "results/tiny/counting/rotten_tomatoes.json"
    done = copy.snakemake("-n", "--cores", "1", "--configfile", "config/tiny.yaml", "--", target)
    assert done.returncode == 0, done.stderr
    assert "rule count_calls:" in done.stdout
    found = printed(copy, "from workflow_scripts._phases import PHASES; print(PHASES['counting'].rules)")
    assert found == "('count_calls',)"
