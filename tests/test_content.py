"""Content as a parameter: whatever is done to a file, its digest is that of its bytes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eat.errors import EatError
from eat.files import sha256_of
from workflow_scripts import _content
from workflow_scripts._content import cached_sha256, content_of

SETTLED_SECONDS = 0.02
NAMES = st.sampled_from(("a", "b", "c"))


class Files(RuleBasedStateMachine):
    """Files of one size that are written, swapped, linked and copied with their dates kept; all digests are cached."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.cache = self.folder / "digests.json"
        self.numbers = itertools.count(1000)
        for name in ("a", "b", "c", "spare"):
            self.write(self.folder / name)

    def write(self, path: Path) -> None:
        path.write_text(str(next(self.numbers)), encoding="utf-8")

    @rule(name=NAMES, keep_date=st.booleans())
    def rewrite(self, name: str, keep_date: bool) -> None:
        path = (self.folder / name).resolve()
        date = path.stat().st_mtime_ns
        self.write(path)
        if keep_date:
            os.utime(path, ns=(date, date))

    @rule(first=NAMES, second=NAMES)
    def swap(self, first: str, second: str) -> None:
        between = self.folder / "between"
        os.replace(self.folder / first, between)
        if first != second:
            os.replace(self.folder / second, self.folder / first)
        os.replace(between, self.folder / second)

    @rule(name=NAMES, onto=NAMES)
    def copy_with_date(self, name: str, onto: str) -> None:
        if not os.path.samefile(self.folder / name, self.folder / onto):
            shutil.copy2(self.folder / name, self.folder / onto)

    @rule(name=NAMES)
    def replace_by_an_older_file(self, name: str) -> None:
        new = self.folder / "new"
        self.write(new)
        os.utime(new, (1e9, 1e9))
        os.replace(new, self.folder / name)

    @rule(name=NAMES, number=st.integers(0, 1))
    def link(self, name: str, number: int) -> None:
        target = self.folder / f"target{number}"
        self.write(target)
        os.utime(target, (1e9, 1e9))
        (self.folder / name).unlink()
        (self.folder / name).symlink_to(target)

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        os.utime(self.folder / name)

    @rule()
    def settle(self) -> None:
        """From now on the digests that are computed are kept."""
        time.sleep(2 * SETTLED_SECONDS)
        self.check()

    @rule(content=st.sampled_from(("", "{", "[]", "{}")))
    def spoil_the_cache(self, content: str) -> None:
        self.cache.write_text(content, encoding="utf-8")

    @invariant()
    def check(self) -> None:
        for name in ("a", "b", "c"):
            found = cached_sha256(self.folder / name, self.cache, large=0, settled_seconds=SETTLED_SECONDS)
            assert found == sha256_of(self.folder / name), name

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestFiles = Files.TestCase
TestFiles.settings = settings(max_examples=30, stateful_step_count=20)


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "large", tmp_path / "cache" / "digests.json"
    file.write_bytes(b"content")
    right = sha256_of(file)
    assert cached_sha256(file, cache, large=0) == right
    assert not cache.exists()  # it may still change within one tick of the file system's clock
    time.sleep(2 * SETTLED_SECONDS)
    assert cached_sha256(file, cache, large=0, settled_seconds=SETTLED_SECONDS) == right
    monkeypatch.setattr(_content.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert cached_sha256(file, cache, large=0) == right


def test_a_folder_that_cannot_be_written_needs_no_cache(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"content")
    os.utime(file, (1e9, 1e9))
    (tmp_path / "no folder").write_text("", encoding="utf-8")
    assert cached_sha256(file, tmp_path / "no folder" / "cache", 0, settled_seconds=-1.0) == sha256_of(file)


def test_what_is_missing_or_cannot_be_read(tmp_path: Path) -> None:
    assert json.loads(content_of([tmp_path / "none.csv"])) == {str(tmp_path / "none.csv"): None}
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(EatError, match=r"folder.csv: cannot be read \(Is a directory\)"):
        content_of([tmp_path / "folder.csv"])
