"""Files are written whole or not at all, and what is not whole is refused with its path and a remedy."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eat import files
from eat.errors import DamagedFile, EatError
from eat.files import (
    digest,
    only_one,
    read_json,
    read_table,
    replacing,
    replacing_folder,
    require_finite,
    sha256_of,
    write_json,
    write_table,
    write_text,
)

TABLE = pd.DataFrame({"id": ["a", "b"], "text": ["one, two", "three\nfour"], "tau": [0.5, None]})


class Interrupted(Exception):
    """Something that goes wrong in the middle of writing."""


def damage(read: Callable[[], Any], path: Path) -> str:
    """The message with which a file is refused; it must be one line that names the file and says what to do."""
    with pytest.raises(DamagedFile) as caught:
        read()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "run" in message.rpartition(";")[2]  # "run the rule that makes it", or "delete it and run again"
    return message


# --- writing ------------------------------------------------------------------------------------------------------


def failing_json(path: Path) -> None:
    write_json(path, {"accuracy": math.nan})


def failing_table(path: Path) -> None:
    class Unwritable(pd.DataFrame):
        def to_csv(self, target: Path, **_: Any) -> None:
            Path(target).write_text("id,te", encoding="utf-8")
            raise Interrupted

        to_parquet = to_csv

    write_table(path, Unwritable())


def failing_text(path: Path) -> None:
    write_text(path, "half a surrogate pair: \ud800")


def failing_block(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise Interrupted


@pytest.mark.parametrize(
    ("name", "write", "error"),
    [
        ("metrics.json", failing_json, ValueError),
        ("summary.csv", failing_table, Interrupted),
        ("trace.parquet", failing_table, Interrupted),
        ("results.tex", failing_text, UnicodeEncodeError),
        ("anything", failing_block, Interrupted),
    ],
)
@pytest.mark.parametrize("old", ["the old content", None])
def test_a_writer_that_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, name: str, write: Callable[[Path], None], error: type[Exception], old: str | None
) -> None:
    path = tmp_path / "results" / name
    if old is not None:
        write_text(path, old)
    with pytest.raises(error):
        write(path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == ([path] if old is not None else [])
    if old is not None:
        assert path.read_text(encoding="utf-8") == old


def test_a_writer_makes_the_folders_above_and_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a study's café" / "results" / "metrics.json"
    write_json(path, {"name": "é", "value": 0.5})
    write_json(path, {"name": "è", "value": 1.5})
    assert read_json(path) == {"name": "è", "value": 1.5}
    assert list(path.parent.iterdir()) == [path]
    assert "è" in path.read_text(encoding="utf-8")


def test_the_new_content_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        assert temporary.parent == path.parent  # a rename is atomic only within one file system
    assert path.read_text(encoding="utf-8") == "new"


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with replacing(path) as orphan, replacing(path) as later:
        assert orphan != later
        orphan.write_text("by the orphan", encoding="utf-8")
        later.write_text("by the later job", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "by the orphan"  # it closed last, and it is whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x", encoding="utf-8")
    modes = {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("ours", "plain")}
    assert len(modes) == 1


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "eat-6"
    for content in ("first", "second"):
        with replacing_folder(folder) as temporary:
            (temporary / "config.json").write_text(content, encoding="utf-8")
            (temporary / content).touch()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "second"]  # nothing of the first is left
    assert (folder / "config.json").read_text(encoding="utf-8") == "second"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("old", [True, False])
def test_a_folder_that_fails_leaves_what_was_there(tmp_path: Path, old: bool) -> None:
    folder = tmp_path / "eat-6"
    if old:
        folder.mkdir()
        (folder / "config.json").write_text("old", encoding="utf-8")
    with pytest.raises(Interrupted), replacing_folder(folder) as temporary:
        (temporary / "config.json").write_text("new", encoding="utf-8")
        (temporary / "below").mkdir()
        raise Interrupted
    assert list(tmp_path.iterdir()) == ([folder] if old else [])
    if old:
        assert [path.read_text(encoding="utf-8") for path in folder.iterdir()] == ["old"]


# --- after a power loss -------------------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the disk, in order: `sync NAME` and `rename NAME`, with what is random in a name left out."""
    found: list[str] = []
    rename, fsync = os.replace, os.fsync

    def name(path: Any) -> str:
        return re.sub(r"\.[0-9a-f]{8}\.part", ".part", Path(path).name)

    def recorded_rename(source: Any, target: Any) -> None:
        rename(source, target)
        found.append(f"rename {name(target)}")

    def recorded_sync(descriptor: int) -> None:
        fsync(descriptor)
        found.append(f"sync {name(os.readlink(f'/proc/self/fd/{descriptor}'))}")

    monkeypatch.setattr(os, "replace", recorded_rename)
    monkeypatch.setattr(os, "fsync", recorded_sync)
    return found


linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks /proc what a descriptor is")


@linux
def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, steps: list[str]) -> None:
    write_text(tmp_path / "results" / "log.txt", "x")
    assert steps == ["sync .log.txt.part", "rename log.txt", "sync results"]


@linux
def test_all_of_a_folder_is_on_the_disk_before_its_name(tmp_path: Path, steps: list[str]) -> None:
    with replacing_folder(tmp_path / "models" / "eat-6") as temporary:
        (temporary / "below").mkdir()
        (temporary / "below" / "config.json").touch()
    assert sorted(steps[:3]) == ["sync .eat-6.part", "sync below", "sync config.json"]
    assert steps[3:] == ["rename eat-6", "sync models"]


# --- one at a time ------------------------------------------------------------------------------------------------


HOLD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from eat.files import only_one
with only_one(Path({lock!r}), "works here"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "locks" / "one"
    script = HOLD.format(root=str(Path(files.__file__).parent.parent), lock=str(lock))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        threading.Timer(0.3, holder.kill).start()
        start = time.monotonic()
        with only_one(lock, "works here"):
            assert time.monotonic() - start >= 0.25
            assert f"process {os.getpid()} on " in lock.read_text(encoding="utf-8")
    assert capsys.readouterr().err.startswith(f"process {holder.pid} on ")
    assert list(lock.parent.iterdir()) == []


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside = most = entered = 0

    def work() -> None:
        nonlocal inside, most, entered
        for _ in range(20):
            with only_one(tmp_path / "one", "works"):
                inside += 1
                entered += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, entered) == (1, 80)


# --- JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a whole JSON file"),
        (b'{"accuracy": 0.8', "not a whole JSON file"),
        (b'{"accuracy": 0.8}{', "not a whole JSON file"),
        (b'{"accuracy": NaN}', "it holds NaN"),
        (b'{"accuracy": -Infinity}', "it holds -Infinity"),
        (b'{"accuracy": 1e999}', "it holds 1e999"),
        (b'{"name": "caf\xe9"}', "not a whole JSON file"),
        (b"\x80\x04K\x01.", "not a whole JSON file"),  # a pickle under another name
    ],
)
def test_json_that_is_not_whole(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    assert reason in damage(lambda: read_json(path), path)


def test_json_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    assert "no such file" in damage(lambda: read_json(path), path)


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, {"a": -math.inf}]])
def test_no_json_that_cannot_be_read_back_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "metrics.json", value)
    assert list(tmp_path.iterdir()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=JSON)
def test_json_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


@given(value=st.dictionaries(st.text(), JSON, max_size=4), cut=st.floats(0, 1, exclude_max=True))
def test_any_truncation_of_a_json_file_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, value: Any, cut: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.json"
    write_json(path, value)
    content = path.read_bytes().rstrip()  # without the line break at the end nothing is lost
    path.write_bytes(content[: int(cut * len(content))])
    damage(lambda: read_json(path), path)


# --- tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_table_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, TABLE)
    pd.testing.assert_frame_equal(read_table(tmp_path / name, ("id", "tau"), complete=("id", "text")), TABLE)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_table_that_is_missing(tmp_path: Path, name: str) -> None:
    assert "no such file" in damage(lambda: read_table(tmp_path / name), tmp_path / name)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_table_that_is_cut_off(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    write_table(path, TABLE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    damage(lambda: read_table(path), path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.csv", b"\x80\x04K\x01."),
        ("table.csv", b"id,text\na,b,c\n"),  # more cells than the header
        ("table.csv", b'id,text\na,"b\n'),  # a quote that is never closed
        ("table.csv", b"id,text\na,caf\xe9\n"),
        ("table.parquet", b"id,text\na,b\n"),
        ("table.parquet", b"PAR1 and then nothing that is one PAR1"),
    ],
)
def test_a_table_that_is_something_else(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert "not a whole table" in damage(lambda: read_table(path), path)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_table_without_rows_or_columns_or_values(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_table(path, TABLE.head(0))
    assert "without rows" in damage(lambda: read_table(path), path)
    write_table(path, TABLE)
    assert "lacks the column label, seed" in damage(lambda: read_table(path, ("id", "label", "seed")), path)
    assert "misses values in the column tau" in damage(lambda: read_table(path, complete=("id", "tau")), path)


# --- digests and numbers ------------------------------------------------------------------------------------------


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # the first test vector of FIPS 180-2
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert digest(value) == digest(turned) == digest(json.loads(json.dumps(value)))


def test_a_digest_tells_values_from_text_and_order_in_lists() -> None:
    values: list[Any] = [{"n": 10}, {"n": "10"}, {"n": 10.5}, [1, 2], [2, 1], "1", ["1"], {"a": {"n": 10}}]
    assert len({digest(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_quantity_that_is_not_finite(value: float) -> None:
    with pytest.raises(EatError, match="the loss is"):
        require_finite("the loss", value)
    assert require_finite("the loss", 0.5) == 0.5


def test_importing_files_is_light() -> None:
    assert not hasattr(files, "pd")  # pandas is imported where a table is read
