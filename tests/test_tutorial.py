"""The tutorial: its commands run as they stand, and what they print is what the page shows, but for the numbers."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from project_copy import ROOT, copy_project

PAGE = ROOT / "docs" / "tutorial.md"
MARK = "=== command "


@dataclass(frozen=True)
class Step:
    """A command of the page, and what it prints there."""

    command: str
    shown: str


def steps(page: str) -> list[Step]:
    """The commands of the blocks `console`, which begin with `$`; `...` stands for anything."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            while command.endswith("\\"):
                more, _, shown = shown.partition("\n")
                command = f"{command}\n{more}"
            found.append(Step(command, shown))
    return found


def without_numbers(text: str) -> str:
    """The text with `#` for each number, since times and figures differ between machines."""
    return re.sub(r"\d[\d,]*(\.\d+)?", "#", text)


def agrees(shown: str, printed: str) -> bool:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(without_numbers(shown), without_numbers(printed), options)


def test_the_page_is_divided_into_commands() -> None:
    page = "```console\n$ one \\\n  two\n1.5 s\n$ three\n```\n\n```\n$ no command\n```\n"
    assert steps(page) == [Step("one \\\n  two", "1.5 s\n"), Step("three", "")]
    assert agrees("3 of 2,000\n...\nend", "17 of 9\nmiddle\nend") and not agrees("yes, 3", "no, 3")


def test_the_six_commands_are_on_the_page() -> None:
    commands = " ".join(step.command for step in steps(PAGE.read_text(encoding="utf-8")))
    for command in ("train", "adapt", "predict", "serve", "monitor"):
        assert f"eat {command} " in commands
    assert "report.html" in commands


@pytest.mark.tutorial
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_page_is_true(tmp_path: Path) -> None:
    """Real text and weights, in one shell, in a copy of the checkout."""
    copy = copy_project(tmp_path / "project")
    shutil.copytree(ROOT / "examples", copy.folder / "examples")
    expected = steps(PAGE.read_text(encoding="utf-8"))
    script = "".join(f"echo '{MARK}{number}'\n{step.command}\n" for number, step in enumerate(expected))
    environment = os.environ | copy.environment | {"PYTHONPATH": str(copy.folder), "BROWSER": "true"}
    printed = [""] * len(expected)
    number = 0
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=copy.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as shell:
        assert shell.stdout is not None
        for line in shell.stdout:
            print(line, end="", flush=True)
            if line.startswith(MARK):
                number = int(line.removeprefix(MARK))
            else:
                printed[number] += line
    for step, text in zip(expected, printed, strict=True):
        assert agrees(step.shown, text), f"$ {step.command}\n--- the page:\n{step.shown}\n--- this run:\n{text}"
