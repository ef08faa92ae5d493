"""The local modules that a command can import, from the import graph; its rule declares them as input.

Snakemake does not see what a command imports, so an edited library module would cause stale results. Therefore each
rule lists `sources_of("workflow_scripts.<command>")`, computed by reading the code and never by running it.
An import by a computed name, such as `importlib.import_module(name)`, is not found: do not use it.
"""

from __future__ import annotations

import ast
import json
import os
import shlex
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path

from eat.files import digest, sha256_of

ROOT = Path(__file__).resolve().parent.parent


def sources_of(module: str, part: str | None = None, within: str | None = None) -> list[str]:
    """The files of `module` and of every local module it can import, directly or through others.

    Paths are relative to the project, sorted. Imports within functions count; those only for type checkers do not.

    part, within: for a command that runs one of several modules of the package `within`, all of which it imports. Of
    that package the sources are then `part`, what `part` can import, and what is imported from outside the package.
    """
    found = _reached(part) if part is not None else set()
    found |= _reached(module, found, within)
    files = [_file(name) for name in found]
    return sorted(str(file.relative_to(ROOT)) for file in files if file is not None)


def _reached(module: str, found: Set[str] = frozenset(), within: str | None = None) -> set[str]:
    """`module` and the local modules it can import, less those in `found`.

    within: a package whose modules are not followed into that package.
    """
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in reached or name in found or _file(name) is None:
            continue
        reached.add(name)
        waiting += [other for other in _imports(name) if not (_is_in(name, within) and _is_in(other, within))]
    return reached


def _is_in(module: str, package: str | None) -> bool:
    return package is not None and f"{module}.".startswith(f"{package}.")


def code_of(module: str, *others: str, part: str | None = None, within: str | None = None) -> str:
    """The content of these files as a rule's parameter: `{"code": sha256}`.

    Snakemake compares a source by content only if it is newer than the outputs; one unpacked or copied with an older
    date it would pass over. others: further files of the project that the command reads, such as templates. part,
    within: as for `sources_of`.
    """
    return json.dumps({"code": digest({file: _sha256(file) for file in (*sources_of(module, part, within), *others)})})


@cache
def _sha256(file: str) -> str:
    return sha256_of(ROOT / file)


def command_line(command: str, *arguments: str) -> str:
    """The shell command that runs a command of the project from the current folder, which may be another one."""
    words = shlex.join(["python", "-m", f"workflow_scripts.{command}", *arguments])
    return words if ROOT.samefile(".") else f"PYTHONPATH={shlex.quote(os.path.relpath(ROOT))} {words}"


@cache
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
    for node in _run_statements(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = _absolute(node, module, file)
            names += [start, *(f"{start}.{alias.name}" for alias in node.names)]
    parents = [name.rpartition(".")[0] for name in (*names, module)]
    return tuple(name for name in (*names, *parents) if name)


def _absolute(node: ast.ImportFrom, module: str, file: Path) -> str:
    """The absolute name of the module in a relative `from ... import`."""
    if not node.level:
        return str(node.module)
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def _run_statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements except those below `if TYPE_CHECKING:`, which are never run; those below its `else:` are."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr):  # no expression contains an import
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for below in node.orelse:
                yield below
                yield from _run_statements(below)
        else:
            yield node
            yield from _run_statements(node)
