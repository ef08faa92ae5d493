"""Files in pinned PyPI packages, found through the package's installed record and read as data.

No code of the package is imported. The content must have the sha256 that is pinned by its reader.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from eat.errors import DamagedFile, EatError


@dataclass(frozen=True)
class Package:
    """A package with its version, printed as for `pip`."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def package_files(package: Package, start: str) -> dict[str, Path]:
    """The files of an installed package whose names begin with `start`: name to path, sorted by name.

    Raises `EatError` if it is not installed in this version, `DamagedFile` if it lacks files.
    """
    try:
        installed = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        raise EatError(
            f'the package {package} is not installed; pip install "{package}", or all of them: "eat-study[embedded]"'
        ) from None
    if installed.version != package.version:
        raise EatError(f'{package.name} {installed.version} is installed, not {package}; pip install "{package}"')
    names = sorted(name for name in map(str, installed.files or []) if name.startswith(start))
    files = {name: Path(str(installed.locate_file(name))) for name in names}
    missing = [name for name, path in files.items() if not path.is_file()] if files else [start]
    if missing:
        raise DamagedFile(f"{package}: lacks {missing[0]}; {reinstall(package)}")
    return files


def digest_of_files(contents: dict[str, bytes]) -> str:
    """The sha256 over names, in sorted order, each followed by the sha256 of its content."""
    total = hashlib.sha256()
    for name in sorted(contents):
        total.update(name.encode("utf-8") + b"\0" + hashlib.sha256(contents[name]).digest())
    return total.hexdigest()


def require_content(path: Path, found: str, expected: str, package: Package) -> None:
    """Raise `DamagedFile` with the remedy if the sha256 of what lies at `path` is not the pinned one."""
    if found != expected:
        raise DamagedFile(f"{path}: sha256 {found[:12]}..., expected {expected[:12]}...; {reinstall(package)}")


def reinstall(package: Package) -> str:
    """The command that reinstalls a package without changing others."""
    return f'pip install --force-reinstall --no-deps "{package}"'
