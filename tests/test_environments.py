"""One set of versions, wherever it is installed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.lower(): version for name, version in found}


def direct_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *extras["study"], *extras["embedded"]]
    return {re.split(r"[<>=!~ ]", requirement)[0].lower() for requirement in listed}


def test_the_conda_environment_has_the_versions_of_the_constraints() -> None:
    """Mend it by copying the line of `constraints.txt` into `envs/study.yaml`."""
    environment = yaml.safe_load((ROOT / "envs" / "study.yaml").read_text(encoding="utf-8"))
    (packages,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    named = dict(package.lower().split("==") for package in packages)
    assert set(named) == direct_dependencies()
    assert named == {name: pins()[name] for name in named}


def test_the_pins_lie_within_the_ranges() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["study"]]:
        requirement = Requirement(text)
        assert pins()[requirement.name.lower()] in requirement.specifier, text


def test_torch_and_snakemake_are_pinned_as_documented() -> None:
    assert pins()["torch"] == "2.13.0"
    assert pins()["snakemake"] == "9.27.1"
