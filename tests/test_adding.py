"""What CONTRIBUTING.md says is enough to add something: each recipe is followed in a copy of the project."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import yaml
from project_copy import FOLDER, ROOT, SNAKEMAKE, Copy, copy_project, stand_in
from synthetic_results import Made, write_study
from synthetic_traces import make_trace

from eat.files import read_json, sha256_of, write_json

pytestmark = [
    pytest.mark.workflow,
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


# --- a source of text ---------------------------------------------------------------------------------------------


def insert(file: Path, text: str, before: str) -> None:
    """Put a text into a file, in front of the first place that reads so."""
    start, mark, rest = file.read_text(encoding="utf-8").partition(before)
    assert mark, f"{file}: no {before!r}"
    file.write_text(f"{start}{text}{mark}{rest}", encoding="utf-8")


@pytest.fixture(scope="module")
def with_source(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy to which the recipe added a source of text, with a study of such a text."""
    copy = copy_project(tmp_path_factory.mktemp("source") / FOLDER)
    source = recipe("Add a source of text")
    (copy.folder / "eat/prepare/sources/by_label.py").write_text(source.pop("eat/prepare/sources/by_label.py"))
    tasks = copy.folder / "eat/study/tasks.py"
    insert(tasks, source.pop("eat/study/tasks.py") + "\n\n", before="Source = Annotated")
    insert(tasks, " | ByLabelSource", before=', Field(discriminator="kind")]')
    registry = copy.folder / "eat/prepare/sources/registry.py"
    insert(registry, source.pop("eat/prepare/sources/registry.py"), before="from eat.prepare.sources.file ")
    insert(registry, '    "by_label": ByLabelReader,\n', before='}\n"""Kind -> its reader')
    assert source == {}
    study = yaml.safe_load((copy.folder / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    study["tasks"] = {"own": {"source": {"kind": "by_label", "path": "own.json"}}}
    (copy.folder / "config" / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    texts = {label: [f"{label} text {number}" for number in range(90)] for label in ("good", "bad")}
    write_json(copy.folder / "own.json", texts)
    return copy


def test_an_added_source_is_checked_and_prepared(with_source: Copy) -> None:
    done = with_source.command("workflow_scripts.check_study", "config/study.yaml", "--elsewhere")
    assert done.returncode == 0, done.stderr
    spec = '{"source": {"kind": "by_label", "path": "own.json"}}'
    done = with_source.command("workflow_scripts.prepare_text", "--task", "own", "--spec", spec, "--out", "data")
    assert done.returncode == 0, done.stderr
    card = read_json(with_source.folder / "data" / "card.json")
    assert card["labels"] == ["good", "bad"] and card["rows"]["read"] == 180
    assert card["source"] == {
        "kind": "by_label",
        "path": "own.json",
        "sha256": sha256_of(with_source.folder / "own.json"),
    }
    assert '"const": "by_label"' in with_source.command("eat.study.schema").stdout


def test_the_file_of_an_added_source_is_an_input_of_preparation(with_source: Copy) -> None:
    done = with_source.command("workflow_scripts.write_dvc_yaml", "--config", "config/study.yaml")
    assert done.returncode == 0, done.stderr
    stages = yaml.safe_load((with_source.folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for file in ("own.json", "eat/prepare/sources/by_label.py"):
        assert [name for name, stage in stages.items() if file in stage["deps"]] == ["prepare"]


# --- a reducer, an exit rule, a head, an engine -------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_parts(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy to which the recipes added a reducer, an exit rule, a reader of heads and an engine."""
    copy = copy_project(tmp_path_factory.mktemp("parts") / FOLDER)
    for name in ("tiny.py", "test_reducers.py"):
        shutil.copy(ROOT / "tests" / name, copy.folder)

    reducer = recipe("Add a token reducer")
    (copy.folder / "eat/model/reducers/beginning.py").write_text(reducer.pop("eat/model/reducers/beginning.py"))
    registry = copy.folder / "eat/model/reducers/registry.py"
    insert(registry, reducer.pop("eat/model/reducers/registry.py") + "\n\n", before="AnyReducer = ")
    insert(registry, " | KeepBeginning", before=",\n    Field(discriminator")

    rules = copy.folder / "eat/model/exit_rules.py"
    insert(rules, recipe("Add an exit rule").pop("eat/model/exit_rules.py") + "\n\n", before="RULES: ")
    insert(rules, ", Gap()", before=')}\n"""The rules by their names')

    head = recipe("Add a head")
    reader = textwrap.indent(head.pop("eat/model/head_parts.py"), "    ")
    insert(copy.folder / "eat/model/head_parts.py", reader, before='}\n"""Name -> reader')
    forms = copy.folder / "eat/model/heads_onnx.py"
    insert(forms, head.pop("eat/model/heads_onnx.py") + "\n\n", before="READERS: ")
    insert(forms, ', "last": _last', before='}\n"""Name of a reader')

    engine = recipe("Add an inference engine")
    (copy.folder / "eat/engines/eager.py").write_text(engine.pop("eat/engines/eager.py"))
    engines = copy.folder / "eat/engines/registry.py"
    insert(engines, textwrap.indent(engine.pop("eat/engines/registry.py"), "    "), before="    raise EatError")
    insert(engines, ', "eager": f"{PACKAGE}.eager"', before='}\n"""Name of an engine')
    assert reducer == head == engine == {}
    return copy


USE = """
import sys
from pathlib import Path

import torch
from test_reducers import reduced, view_of

import tiny
from eat.engines.registry import MODULES, engine_of
from eat.model.exit_policy import ExitPolicy
from eat.model.heads import ExitHead
from eat.model.layout import Layout
from eat.model.options import Parts
from eat.model.reducers.registry import build_reducer
from eat.study.loading import load_study

study = load_study(Path("config/study.yaml"))
assert study.systems["eat-6"].exits.rule == ["gap"] and study.systems["eat-6"].exits.read == "last"

# of the five tokens after [CLS] the first three stay
reducer = build_reducer({"kind": "beginning", "after": [2], "ratio": 0.4})
assert reduced(reducer, view_of(tiny.texts([6, 3]))).kept.tolist() == [0, 1, 2, 3, 6, 7, 8]

said = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [torch.nan, torch.nan, torch.nan]])
policy = ExitPolicy(("gap",), 0.4)
assert policy.fires({2: said}).tolist() == [True, False, False]
assert torch.allclose(policy.margin(2, said)[:2], torch.tensor([0.1, 0.35]))

texts, cpu = tiny.texts([5, 9, 7]), torch.device("cpu")
head = ExitHead(1, 2, read="last")
assert head.vector(torch.arange(21.0)[:, None], Layout([5, 9, 7])).tolist() == [[4.0], [13.0], [20.0]]
tiny.model(exits=[2], read="last").save_pretrained("adaptive")
tiny.save_tokenizer(Path("adaptive"))
leaves = ExitPolicy(("confidence",), 0.01)
with torch.inference_mode():
    packed, onnx = (
        engine_of(name).load([Path("adaptive")], Parts(engine=name, exits=[2]), cpu).runner(leaves)(texts)
        for name in ("torch", "onnx")
    )
assert packed.depth() == onnx.depth() == [2, 2, 2]
assert torch.allclose(packed.logits(), onnx.logits(), atol=1e-4)

tiny.model(last_head="bert").save_pretrained("model")
tiny.save_tokenizer(Path("model"))
assert "eager" in MODULES
with torch.inference_mode():
    plain, eager = (
        engine_of(name).load([Path("model")], Parts(), cpu).runner(ExitPolicy())(texts).logits()
        for name in ("stock", "eager")
    )
assert torch.allclose(plain, eager, atol=1e-4)
print("all used")
"""


def test_an_added_reducer_rule_head_and_engine_are_used_by_name(with_parts: Copy) -> None:
    study = yaml.safe_load((with_parts.folder / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    study["systems"] = {name: study["systems"][name] for name in ("dense-6", "eat-6")}
    study["systems"]["eat-6"]["reducer"] = {"kind": "beginning", "after": [2, 4], "ratio": 0.3}
    study["systems"]["eat-6"]["exits"] |= {"rule": ["gap"], "read": "last"}
    (with_parts.folder / "config" / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    (with_parts.folder / "use.py").write_text(USE, encoding="utf-8")
    done = with_parts.command("use")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("all used\n")


def test_the_schema_gets_what_was_added(with_parts: Copy) -> None:
    done = with_parts.command("eat.study.schema")
    assert '"const": "beginning"' in done.stdout and '"gap"' in done.stdout and '"last"' in done.stdout


# --- a phase ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_phase(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy to which the recipe added a phase."""
    copy = copy_project(tmp_path_factory.mktemp("phase") / FOLDER)
    added = recipe("Add a phase")
    for path in ("eat/mistakes/table.py", "workflow_scripts/mistakes.py", "rules/mistakes.smk"):
        file = copy.folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(added.pop(path), encoding="utf-8")
    (copy.folder / "eat/mistakes/__init__.py").touch()
    line = textwrap.indent(added.pop("workflow_scripts/_phases.py"), " " * 8)
    insert(copy.folder / "workflow_scripts/_phases.py", line, before='        Phase("timing"')
    assert added == {}
    return copy


def test_an_added_phase_is_planned_and_has_a_stage(with_phase: Copy) -> None:
    results = "results/tiny/mistakes/rotten_tomatoes.csv"
    assert ("list_mistakes", results) in with_phase.pending("tiny.yaml")
    assert with_phase.snakemake("--lint", "--configfile", "config/tiny.yaml").returncode == 0
    done = with_phase.command("workflow_scripts.write_dvc_yaml", "--config", "config/tiny.yaml")
    assert done.returncode == 0, done.stderr
    stage = yaml.safe_load((with_phase.folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["mistakes"]
    assert stage["params"] == [{"config/tiny.yaml": ["reference", "seeds", "study"]}]
    assert stage["outs"] == [{results: {"persist": True}}]
    assert {"rules/mistakes.smk", "eat/mistakes/table.py", "workflow_scripts/mistakes.py"} <= {*stage["deps"]}
    assert "results/tiny/traces/rotten_tomatoes/dense-6/seed1/dev.parquet" in stage["deps"]


def test_the_command_of_an_added_phase_runs_alone(with_phase: Copy, tmp_path: Path) -> None:
    trace = make_trace(rows=50, noise=3.0)
    trace.write(tmp_path / "dev.parquet")
    done = with_phase.command(
        *("workflow_scripts.mistakes", "--seeds", "3", "--traces", tmp_path / "dev.parquet"),
        *("--out", tmp_path / "mistakes.csv"),
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "mistakes.csv", dtype={"id": str})
    wrong = trace.logits[6].argmax(axis=1) != trace.labels
    assert wrong.sum() > 3
    assert table["id"].tolist() == trace.ids[wrong].tolist()
    assert set(table["seed"]) == {3} and (table["label"] != table["answer"]).all()
