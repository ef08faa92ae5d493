"""What a rule declares as its sources is what its command imports: nothing less, or stale results would stay."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from synthetic_traces import make_trace

from eat.engines.registry import MODULES, PACKAGE
from eat.figures.registry import FIGURES
from workflow_scripts import _sources
from workflow_scripts._sources import sources_of

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = sorted(path.stem for path in (ROOT / "workflow_scripts").glob("[!_]*.py"))
CHECK = ["workflow_scripts/__init__.py", "workflow_scripts/check.py"]

# --- a project of a few lines -------------------------------------------------------------------------------------

Write = Callable[[dict[str, str]], list[str]]


@pytest.fixture
def sources_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules, each a path and its code; return what the command `check` can import of them."""

    def written(modules: dict[str, str]) -> list[str]:
        for path, code in {"eat/__init__.py": "", "workflow_scripts/__init__.py": "", **modules}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(code, encoding="utf-8")
        monkeypatch.setattr(_sources, "ROOT", tmp_path)
        forget()
        return sources_of("workflow_scripts.check")

    yield written
    forget()


def forget() -> None:
    """Let the next call read the modules anew."""
    _sources._imports.cache_clear()
    _sources._file.cache_clear()


def with_library(*names: str) -> list[str]:
    """The sources of `check` where these modules of the library are found."""
    return sorted(["eat/__init__.py", *(f"eat/{name}.py" for name in names), *CHECK])


def test_a_command_without_imports_has_itself_and_its_package(sources_in: Write) -> None:
    assert sources_in({"workflow_scripts/check.py": "import json, torch\nfrom numpy import linalg\n"}) == CHECK


@pytest.mark.parametrize(
    "code",
    [
        "import eat.part",
        "import json, eat.part as p",
        "from eat import part",
        "from eat import part as p, __version__",
        "from eat.part import NAME",
        "from eat.part import (\n    NAME,\n    OTHER as o,\n)",
        "def main():\n    from eat.part import NAME",
        "def main():\n    def inner():\n        import eat.part",
        "async def main():\n    import eat.part",
        "class A:\n    import eat.part",
        "class A:\n    def f(self):\n        from eat import part",
        "try:\n    import quick\nexcept ImportError:\n    import eat.part",
        "if SLOW:\n    pass\nelse:\n    import eat.part",
        "for x in y:\n    with x:\n        import eat.part",
        "match x:\n    case 1:\n        import eat.part",
        "while True:\n    from eat.part import *",
        "if TYPE_CHECKING:\n    import eat.other\nelse:\n    import eat.part",
        "if not TYPE_CHECKING:\n    import eat.part",
    ],
)
def test_an_import_counts_wherever_it_stands(sources_in: Write, code: str) -> None:
    modules = {"eat/part.py": "NAME = OTHER = 1\n", "eat/other.py": "", "eat/unused.py": ""}
    assert sources_in({"workflow_scripts/check.py": code, **modules}) == with_library("part")


@pytest.mark.parametrize(
    "code",
    [
        "if TYPE_CHECKING:\n    from eat.part import NAME",
        "import typing\nif typing.TYPE_CHECKING:\n    import eat.part",
        "def main():\n    if TYPE_CHECKING:\n        import eat.part",
        "if TYPE_CHECKING:\n    if x:\n        from eat import part",
        "# import eat.part",
        '"import eat.part"',
        "import eatable.part",
    ],
)
def test_what_no_program_runs_does_not_count(sources_in: Write, code: str) -> None:
    assert sources_in({"workflow_scripts/check.py": code, "eat/part.py": "NAME = 1\n"}) == CHECK


def test_imports_of_imports_count_and_circles_end(sources_in: Write) -> None:
    modules = {
        "workflow_scripts/check.py": "import eat.one",
        "eat/one.py": "def f():\n    from eat.two import g",
        "eat/two.py": "import eat.three",
        "eat/three.py": "import eat.one",
        "eat/four.py": "import eat.one",
    }
    assert sources_in(modules) == with_library("one", "two", "three")


def test_packages_on_the_way_are_run_too(sources_in: Write) -> None:
    modules = {
        "workflow_scripts/check.py": "from eat.inner.deep import x",
        "eat/__init__.py": "import eat.base",
        "eat/base.py": "",
        "eat/inner/__init__.py": "",
        "eat/inner/deep.py": "",
    }
    assert sources_in(modules) == with_library("base", "inner/__init__", "inner/deep")


@pytest.mark.parametrize(
    "code", ["from .part import NAME", "from . import part", "def f():\n    from . import part as p"]
)
def test_relative_imports_count(sources_in: Write, code: str) -> None:
    modules = {"workflow_scripts/check.py": "import eat.one", "eat/one.py": code, "eat/part.py": "NAME = 1"}
    assert sources_in(modules) == with_library("one", "part")


@pytest.mark.parametrize("code", ["from ..part import NAME", "from .. import part", "from .deeper import x"])
def test_relative_imports_count_from_a_package_below(sources_in: Write, code: str) -> None:
    modules = {
        "workflow_scripts/check.py": "import eat.inner",
        "eat/inner/__init__.py": code,
        "eat/inner/deeper.py": "from ..part import NAME",
        "eat/part.py": "NAME = 1",
    }
    deeper = ["inner/deeper"] if "deeper" in code else []
    assert sources_in(modules) == with_library("inner/__init__", "part", *deeper)


def test_an_edit_of_an_import_changes_the_sources(sources_in: Write) -> None:
    modules = {"workflow_scripts/check.py": "import eat.one", "eat/one.py": "", "eat/two.py": ""}
    before = sources_in(modules)
    after = sources_in(modules | {"eat/one.py": "import eat.two"})
    assert set(after) - set(before) == {"eat/two.py"}


SEVERAL = {
    "workflow_scripts/check.py": "import eat.parts.registry, eat.base",
    "eat/base.py": "",
    "eat/parts/__init__.py": "",
    "eat/parts/registry.py": "import eat.parts.one, eat.parts.two, eat.errors",
    "eat/parts/one.py": "import eat.parts.shared\ndef f():\n    import eat.model",
    "eat/parts/two.py": "import eat.parts.shared, eat.parts.three",
    "eat/parts/three.py": "",
    "eat/parts/shared.py": "",
    "eat/partsother.py": "",
    "eat/errors.py": "",
    "eat/model.py": "",
}


@pytest.mark.parametrize(
    ("part", "own"),
    [("one", ["one", "shared"]), ("two", ["two", "three", "shared"]), ("three", ["three"])],
)
def test_of_several_parts_a_command_can_count_one(sources_in: Write, part: str, own: list[str]) -> None:
    sources_in(SEVERAL)
    found = sources_of("workflow_scripts.check", part=f"eat.parts.{part}", within="eat.parts")
    parts = [f"parts/{name}" for name in ("__init__", "registry", *own)]
    assert found == with_library("base", "errors", *parts, *(["model"] if part == "one" else []))


def test_a_package_is_not_told_by_the_start_of_its_name(sources_in: Write) -> None:
    sources_in(SEVERAL | {"eat/parts/registry.py": "import eat.partsother, eat.parts.two"})
    found = sources_of("workflow_scripts.check", part="eat.parts.three", within="eat.parts")
    assert found == with_library("base", "parts/__init__", "parts/registry", "parts/three", "partsother")


# --- this project -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_itself_and_what_all_share(command: str) -> None:
    found = sources_of(f"workflow_scripts.{command}")
    assert {f"workflow_scripts/{command}.py", "workflow_scripts/_command.py", "eat/errors.py"} <= set(found)
    assert found == sorted(set(found))
    assert all((ROOT / path).is_file() for path in found)


NOT_OF_MODELS = (
    *("machine", "statistics", "rounding", "results/flops", "results/replay", "study/study", "study/timing"),
    *("study/exits", "study/loading", "study/tasks", "prepare/", "calibrate/", "timing/", "summarize/", "figures/"),
    "report/",
)
"""An edit of the clock, of the count of FLOPs, of F1, of a threshold's checks or of a figure's style trains nothing."""
NOT_OF_TEXT = ("statistics", "results/", "engines/", "study/study", "study/systems", "figures/", "model/encoder")
NOT_OF_CALIBRATION = ("model/encoder", "model/hugging_face", "study/study", "finetune/", "timing/", "engines/")


@pytest.mark.parametrize(
    ("command", "needless"),
    [
        ("finetune", NOT_OF_MODELS),
        ("trace", NOT_OF_MODELS),
        ("prepare_text", NOT_OF_TEXT),
        ("prepare_backbone", NOT_OF_TEXT),
        ("calibrate", NOT_OF_CALIBRATION),
    ],
)
def test_a_command_does_not_depend_on_what_it_does_not_need(command: str, needless: tuple[str, ...]) -> None:
    """An edit of the configuration's models, of the clock or of the report must not train anything again."""
    found = sources_of(f"workflow_scripts.{command}")
    for part in needless:
        # a name that leads nowhere would hold of anything
        assert (ROOT / "eat" / part).is_dir() if part.endswith("/") else (ROOT / "eat" / f"{part}.py").is_file(), part
        assert not [file for file in found if file.startswith(f"eat/{part}")], part


def test_an_edit_of_a_source_of_text_reruns_preparation_alone() -> None:
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    commands = {*re.findall(r"python -m (workflow_scripts\.\w+)", rules)}
    readers = {f"eat/prepare/sources/{name}.py" for name in ("file", "glue", "hub", "packaged", "registry")}
    prepare = {"workflow_scripts.prepare_text", "workflow_scripts.prepare_unlabelled"}
    assert {command for command in commands if readers & {*sources_of(command)}} == prepare
    assert readers <= {*sources_of("workflow_scripts.prepare_text")}


@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_is_a_source_of_another(name: str) -> None:
    """An edited figure is drawn again and no other; what figures share is a source of all of them."""
    files = {figure.module: figure.module.replace(".", "/") + ".py" for figure in FIGURES.values()}
    own = FIGURES[name].module
    found = sources_of("workflow_scripts.figures", part=own, within="eat.figures")
    assert set(found) & set(files.values()) == {files[own]}
    assert {"workflow_scripts/figures.py", "eat/figures/registry.py", "eat/figures/style.py"} <= set(found)


@pytest.mark.parametrize("name", MODULES)
def test_no_engine_is_a_source_of_the_traces_of_another(name: str) -> None:
    """An edited graph of ONNX Runtime traces no row in PyTorch again, so it trains no student of such a row either."""
    found = {*sources_of("workflow_scripts.trace", part=MODULES[name], within=PACKAGE)}
    onnx = {"eat/engines/onnx.py", "eat/model/graph_onnx.py", "eat/model/encoder_onnx.py"}
    assert onnx <= found if name == "onnx" else not onnx & found
    assert {"eat/engines/registry.py", "eat/engines/engine.py", "eat/engines/devices.py"} <= found


def test_every_rule_declares_the_sources_of_the_command_it_runs() -> None:
    rules = {}
    for path in (ROOT / "rules").glob("*.smk"):
        for text in re.split(r"^(?= *rule )", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            rules[text.split(":")[0]] = text
    assert len(rules) >= 10
    for name, text in rules.items():
        run = re.findall(r"python -m (workflow_scripts\.\w+)", text)
        assert len(run) == 1, name
        assert re.findall(r'sources=(?:lambda wildcards: )?sources_of\("([\w.]+)"', text) == run, name
        assert re.findall(r'code=(?:lambda wildcards: )?code_of\(\s*"([\w.]+)"', text) == run, name


def test_nothing_is_imported_by_a_computed_name() -> None:
    """The graph is read from import statements, so there must be no other way in."""
    for path in [*(ROOT / "eat").rglob("*.py"), *(ROOT / "workflow_scripts").glob("*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        # the package registers its architecture by name, so that it is no source of what only reads a tokenizer
        registers = {"import_module"} if path == ROOT / "eat" / "model" / "__init__.py" else set()
        forbidden = {"__import__", "import_module", "runpy", "exec", "spec_from_file_location"} - registers
        assert not names & forbidden, path


def test_importing_the_library_is_light() -> None:
    """`import eat` reads one file; the modules that rules and light commands share read no heavy library."""
    code = """
import sys
import eat
assert "pydantic" not in sys.modules
import eat.errors, eat.files, eat.study.paths, eat.study.depths
print(sorted({"numpy", "pandas", "pydantic", "torch", "transformers", "yaml"} & set(sys.modules)))
import eat.study.loading
print(sorted({"numpy", "pandas", "torch", "transformers"} & set(sys.modules)))
import eat.figures.registry
print(sorted({"matplotlib", "pandas", "seaborn", "scipy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[:3] == ["[]", "[]", "[]"]


# --- what is really imported --------------------------------------------------------------------------------------

LOCAL = """
import sys
from pathlib import Path

def local():
    files = [getattr(module, "__file__", None) for name, module in sys.modules.items() if name != "__main__"]
    paths = [Path(file).resolve() for file in files if file]
    packages = ROOT / "eat", ROOT / "workflow_scripts"
    return sorted(str(path.relative_to(ROOT)) for path in paths if any(path.is_relative_to(p) for p in packages))
"""

REGISTERED = set(sources_of("eat.model.hugging_face"))
"""What comes with Transformers wherever `eat.model` was imported: no result of another command depends on it."""

RUN = (
    LOCAL
    + """
import json, runpy
ROOT = Path(sys.argv.pop(1))
command = sys.argv.pop(1)
sys.path.insert(0, str(ROOT))
try:
    runpy.run_module(command, run_name="__main__", alter_sys=False)
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(local()))
"""
)


def imported_by(command: str, *arguments: str, cwd: Path) -> set[str]:
    """The local files that a command imports in a run that works."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(ROOT), f"workflow_scripts.{command}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return {*json.loads(done.stdout.splitlines()[-1]), f"workflow_scripts/{command}.py"}


@pytest.mark.slow
def test_what_a_run_imports_is_declared(tmp_path: Path) -> None:
    rows = "".join(f"{'good' if row % 2 else 'bad'} text {row},{row % 2}\n" for row in range(60))
    (tmp_path / "own.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    spec = json.dumps({"source": {"kind": "file", "path": "own.csv", "text": ["text"], "label": "label"}})
    for number, split in enumerate(("calibration", "dev")):
        make_trace(40, seed=number).write(tmp_path / f"{split}.parquet")
    runs = {
        "check_study": [str(ROOT / "config" / "tiny.yaml")],
        "prepare_text": ["--task", "own", "--spec", spec, "--out", "data"],
        "calibrate": [
            *("--spec", '{"mode": "fitted", "bins": 15}', "--out", "temperatures.json"),
            *("--calibration", "calibration.parquet", "--dev", "dev.parquet"),
        ],
    }
    for command, arguments in runs.items():
        imported = imported_by(command, *arguments, cwd=tmp_path)
        assert len(imported) > 4
        assert imported - REGISTERED <= set(sources_of(f"workflow_scripts.{command}")), command
    assert (tmp_path / "data" / "card.json").is_file()
    assert (tmp_path / "temperatures.json").is_file()


@pytest.mark.workflow
@pytest.mark.slow
def test_the_sources_of_every_command_import_nothing_else() -> None:
    """Each set of sources is closed: all its modules are imported, and no other local module comes with them."""
    code = (
        LOCAL
        + """
import importlib, json
ROOT = Path.cwd()
sys.path.insert(0, str(ROOT))
from workflow_scripts._sources import sources_of as find
wrong = {}
registered = set(json.loads(sys.argv[1]))
for command in sys.argv[2:]:
    for name in [name for name in sys.modules if name.split(".")[0] in ("eat", "workflow_scripts")]:
        del sys.modules[name]
    declared = find(f"workflow_scripts.{command}")
    for path in declared:
        importlib.import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    if set(local()) - registered != set(declared) - registered:
        wrong[command] = sorted((set(local()) ^ set(declared)) - registered)
print(json.dumps(wrong))
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(sorted(REGISTERED)), *COMMANDS],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}
