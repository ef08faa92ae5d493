"""The report names the commit, and every file that a run could read and that the commit does not have."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from workflow_scripts._provenance import NOT_VERSIONED, commit_state

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def put(file: Path, text: str = "a = 1\n") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of which everything is committed, and a git that ignores what the user's own settings ignore."""
    home = tmp_path / "home"
    put(home / "ignored", "mine.yaml\n")
    put(home / ".gitconfig", f"[core]\n\texcludesFile = {home / 'ignored'}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    folder = tmp_path / "project"
    for name in ("Snakefile", "eat/model/encoder.py", "config/config.yaml", "docs/page.md"):
        put(folder / name)
    put(folder / ".gitignore", "/data/*\n__pycache__/\n")
    git(tmp_path, "init", "--quiet", "project")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    monkeypatch.chdir(folder)
    return folder


def test_a_clean_commit_has_no_other_files(project: Path) -> None:
    put(project / "eat" / "model" / "__pycache__" / "encoder.pyc")
    put(project / "config" / ".config.yaml.swp")
    put(project / "notes.txt")
    put(project / "docs" / "page.md", "edited\n")  # no rule reads either
    os.utime(project / "eat" / "model" / "encoder.py")
    assert commit_state(root=project) == (git(project, "rev-parse", "HEAD"), [])


def test_every_file_that_is_not_of_the_commit_is_named(project: Path, tmp_path: Path) -> None:
    """Edited, deleted, untracked, added but not committed, ignored by the user's own settings, or outside."""
    put(project / "eat" / "model" / "encoder.py", "a = 2\n")
    (project / "Snakefile").unlink()
    put(project / "eat" / "new.py")
    put(project / "torch.py")  # Python finds it before the installed one
    git(project, "add", str(put(project / "config" / "added.yaml")))
    put(project / "config" / "mine.yaml")
    put(project / "data" / "own.csv")
    outside = put(tmp_path / "study.yaml")
    commit, found = commit_state(["config/config.yaml", "data/own.csv", outside], project)
    assert commit == git(project, "rev-parse", "HEAD")
    assert set(found) == {
        "Snakefile", "eat/model/encoder.py", "eat/new.py", "torch.py", "config/added.yaml", "config/mine.yaml",
        "data/own.csv", str(outside),
    }  # fmt: skip


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_an_edit_that_git_was_asked_to_overlook_is_named(project: Path, flag: str) -> None:
    git(project, "update-index", flag, "eat/model/encoder.py")
    put(project / "eat" / "model" / "encoder.py", "a = 2\n")
    assert git(project, "status", "--porcelain") == ""
    assert commit_state(root=project)[1] == ["eat/model/encoder.py"]


def test_a_project_inside_another_repository_is_not_under_version_control(project: Path) -> None:
    inner = project / "unpacked"
    put(inner / "eat" / "model" / "encoder.py")
    assert commit_state(root=inner) == (NOT_VERSIONED, [])
    (inner / ".git").mkdir()  # an empty one: git passes over it, to the repository around
    assert commit_state(root=inner)[0] == NOT_VERSIONED
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "with another project")
    shutil.rmtree(inner / ".git")
    assert commit_state(root=inner) == (NOT_VERSIONED, [])


def test_variables_of_a_hook_do_not_name_another_repository(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet", "other")
    git(tmp_path / "other", "commit", "--quiet", "--allow-empty", "--message", "other")
    commit = git(project, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(project))
    assert commit_state(root=project) == (commit, [])


def test_what_git_does_not_know_is_said(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "--quiet", "empty")
    assert commit_state(root=tmp_path / "empty") == ("none yet in this repository", [])
    put(project / ".git" / "HEAD", "")
    assert commit_state(root=project)[0].startswith("unknown, because git does not read this repository")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_state(root=project)[0] == "unknown, because git is not installed"
