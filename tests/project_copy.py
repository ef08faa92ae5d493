"""A copy of the project in another folder, and Snakemake run in it; its commands are replaced by a stand-in."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("Snakefile", "rules", "workflow_scripts", "eat", "config", "profiles", "report", "envs")
FOLDER = "a study's café"

SNAKEMAKE = Path(sys.executable).with_name("snakemake")


@dataclass
class Copy:
    """A copy of the project, and Snakemake run in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SNAKEMAKE), "--nocolor", *arguments],
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `python -m module` in the copy."""
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def dry_run(self, config: str) -> str:
        """What a dry run of a configuration prints."""
        done = self.snakemake("-n", "--cores", "1", "--configfile", f"config/{config}")
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def pending(self, config: str = "study.yaml") -> list[tuple[str, str]]:
        """The rule and the path of every output that a run of a configuration would make."""
        done = self.snakemake("--summary", "--cores", "1", "--configfile", f"config/{config}")
        assert done.returncode == 0, done.stderr
        rows = csv.DictReader(done.stdout.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["rule"], row["output_file"]) for row in rows if row["plan"] != "no update"]

    def planned(self, change: Callable[[dict[str, Any]], None]) -> list[tuple[str, str]]:
        """What is pending after a change of the configuration."""
        path = self.folder / "config" / "study.yaml"
        before = path.read_text(encoding="utf-8")
        value = yaml.safe_load(before)
        change(value)
        try:
            path.write_text(yaml.safe_dump(value), encoding="utf-8")
            return self.pending()
        finally:
            path.write_text(before, encoding="utf-8")


def copy_project(folder: Path) -> Copy:
    """Copy what a run needs, and let nothing be written beside it."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / part)
    beside = folder.parent / "cache"
    path = f"{SNAKEMAKE.parent}{os.pathsep}{os.environ['PATH']}"
    return Copy(folder, {"XDG_CACHE_HOME": str(beside), "PATH": path})


CALLED = f"""#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word"; done >> calls
printf '\\n\\0' >> calls
# the records are real, for they are read
case "$2" in workflow_scripts.record) exec '{sys.executable}' "$@";; esac
"""


def stand_in(copy: Copy) -> None:
    """Let each rule make empty outputs, and note the arguments of its command in the file `calls`."""
    for rules in (copy.folder / "rules").glob("*.smk"):
        text = rules.read_text(encoding="utf-8")
        made, count = re.subn(r'2>&1 \| tee \{log:q\}"', '2>&1 | tee {log:q} && touch {output:q}"', text)
        assert count == len(re.findall(r"^ *rule ", text, flags=re.MULTILINE)), f"a rule of {rules.name} ends otherwise"
        rules.write_text(made, encoding="utf-8")
    python = copy.folder.parent / "bin" / "python"
    python.parent.mkdir()
    python.write_text(CALLED, encoding="utf-8")
    python.chmod(0o755)
    copy.environment["PATH"] = f"{python.parent}{os.pathsep}{copy.environment['PATH']}"
