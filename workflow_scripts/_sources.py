"""The local modules a command can import, from the import graph: what its rule declares as input.

Snakemake does not see what a command imports, so an edited library module would leave stale results behind. Each rule
therefore lists `sources_of("workflow_scripts.<command>")`, computed by reading the code and never by running it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def sources_of(module: str) -> list[str]:
    """The files of `module` and of every local module it can import, directly or through others.

    Paths are relative to the project, sorted. Imports within functions count; those for type checkers alone do not.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and _file(name) is not None:
            found.add(name)
            waiting += _imports(name)
    files = [_file(name) for name in found]
    return sorted(str(file.relative_to(ROOT)) for file in files if file is not None)


def _file(module: str) -> Path | None:
    """The file of a local module or package; `None` for one that is not local."""
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Every name a module may import, with the packages that are run on the way."""
    file = _file(module)
    assert file is not None
    names: list[str] = []
    for node in _run_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    parents = [name.rpartition(".")[0] for name in (*names, module)]
    return tuple(name for name in (*names, *parents) if name)


def _run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`, which no program runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _run_nodes(node)
