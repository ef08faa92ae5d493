"""Packages that are installed or not, and a stand-in for them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

from eat.prepare.packages import Package


def needs(package: Package) -> pytest.MarkDecorator:
    try:
        found = importlib.metadata.version(package.name) == package.version
    except importlib.metadata.PackageNotFoundError:
        found = False
    return pytest.mark.skipif(not found, reason=f"{package} is not installed")


class FakeInstalled:
    """What `importlib.metadata` says of a package that lies in a folder of the test."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder, self.version = folder, version

    @property
    def files(self) -> list[str]:
        return [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]

    def locate_file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make every package look installed in a folder that holds one file of a name and a content."""

    def installed(name: str, content: str, version: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(content, encoding="utf-8")
        monkeypatch.setattr(importlib.metadata, "distribution", lambda _: FakeInstalled(tmp_path, version))
        return path

    return installed
