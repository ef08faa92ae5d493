"""Files about the project agree with each other, and modules stay small: versions, checks before a commit, layout."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import yaml
from packaging.version import Version

import eat

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "docs"))

from schema_page import page  # noqa: E402


def text(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def test_hooks_run_what_make_lint_runs() -> None:
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", text("Makefile"), flags=re.MULTILINE)
    linted = [command for line in recipe.splitlines() for command in line.strip().split(" && ")[1:]]
    hooks = [hook for repo in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == linted
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)


def test_a_version_has_a_section_of_the_changelog_and_is_that_of_the_citation() -> None:
    headings = re.findall(r"^## (\S+)(?: - (\S+))?$", text("CHANGELOG.md"), flags=re.MULTILINE)
    (first, _), *released = headings
    assert first == "Unreleased"
    assert sorted(released, key=lambda heading: Version(heading[0]), reverse=True) == released
    citation = yaml.safe_load(text("CITATION.cff"))
    assert released[0] == (eat.__version__, citation["date-released"])
    assert citation["version"] == eat.__version__


def test_the_workflow_asks_for_the_snakemake_it_is_tested_with() -> None:
    (least,) = re.findall(r'^min_version\("(.+)"\)$', text("Snakefile"), flags=re.MULTILINE)
    assert f"snakemake=={least}" in text("constraints.txt").splitlines()


def test_every_key_of_the_configuration_is_on_its_page() -> None:
    schema = json.loads(text("config/schema.json"))
    shown = page(schema)
    parts = [schema, *schema["$defs"].values()]
    assert shown.count("\n## ") == len(parts)
    for part in parts:
        for key, value in part["properties"].items():
            rows = [line for line in shown.splitlines() if line.startswith(f"| `{key}` |")]
            assert rows, key
            assert any(value.get("description", "") in row.replace("\\|", "|") for row in rows), key
    linked = set(re.findall(r"\]\(#(key-\w+)\)", shown))
    assert linked == set(re.findall(r"^\((key-\w+)\)=$", shown, flags=re.MULTILINE))


def test_a_module_has_at_most_400_lines_and_eat_itself_at_most_14_modules() -> None:
    modules = [path for folder in ("eat", "workflow_scripts") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    assert {path: length for path, length in lengths.items() if length > 400} == {}
    assert len([path for path in (ROOT / "eat").glob("*.py") if path.name != "__init__.py"]) <= 14


def test_no_module_only_passes_names_on() -> None:
    for path in (ROOT / "eat").rglob("*.py"):
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        own = [node for node in statements if not isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr))]
        # a package's file is empty; that of eat.model registers the architecture
        assert own or path.name == "__init__.py", path
