"""Files that are written whole or not at all, and read with a check.

A job that is killed, or that continues after its workflow has died, must never leave an incomplete file under a name
that a later job reads. Every writer here fills a temporary file in the same folder and renames it. The content is
flushed to disk before the rename. Otherwise a power loss could leave an empty file under the final name.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eat.errors import DamagedFile, EatError
from eat.progress import Progress

MEGABYTE = 2**20

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` if the block succeeds, else delete it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """The same for a folder: its files appear together under `path` or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    temporary.mkdir()
    try:
        yield temporary
        sync_folder(temporary)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_place(to: Path, option: str = "--to") -> None:
    """Raise `EatError` if no folder can be made at `to`: it is below a file, or its folder cannot be written to."""
    above = next(parent for parent in to.absolute().parents if parent.exists())
    if not above.is_dir():
        raise EatError(f"{to}: {above} is a file; give another folder with {option}")
    if not os.access(above, os.W_OK):
        raise EatError(f"{to}: {above} cannot be written to; give another folder with {option}")


def sync(path: Path) -> None:
    """Flush the content of a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with Progress(f"waiting until {path} is on the disk"):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """The same for a folder and everything below it."""
    for below in path.rglob("*"):
        sync(below)
    sync(path)


@contextmanager
def only_one(lock: Path, what: str) -> Iterator[None]:
    """Run the block in one process at a time; the others print that they wait.

    The lock is the kernel's (`flock`). It is released when its process ends for any reason, so it is never stale. what:
    describes the other process in the message. If the file system does not support locks, a line is printed and the
    block runs.
    """
    import fcntl

    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, "a+", encoding="utf-8") as file:
            try:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.seek(0)
                    holder = file.read().strip() or "an unknown process"
                    print(f"{holder} still {what}; waiting until it ends", file=sys.stderr, flush=True)
                    with Progress(f"waiting for {holder}, which still {what}"):
                        fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                print(
                    f"{lock}: file locks do not work here ({error.strerror}); make sure that no other process {what}",
                    file=sys.stderr,
                )
            # the previous holder may have removed the file, and then a lock on it has no effect
            try:
                if not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                    continue
            except FileNotFoundError:
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON. Raises `ValueError` for NaN or infinity, which no result may contain."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file. Raises `DamagedFile` if it is missing, truncated or holds NaN or infinity."""
    try:
        return json.loads(
            Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except FileNotFoundError:
        raise DamagedFile(f"{path}: no such file; run the rule that makes it") from None
    except ValueError as error:
        raise DamagedFile(f"{path}: not a whole JSON file ({error}); delete it and run again") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}")


def _finite_float(digits: str) -> float:
    # 1e999 is valid JSON, but not a finite number
    return float(digits) if math.isfinite(float(digits)) else _refuse_constant(digits)


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as Parquet or CSV, by the ending of `path`."""
    with replacing(path) as temporary:
        if Path(path).suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)


def read_table(
    path: Path | str, required: Sequence[str] = (), complete: Sequence[str] = (), may_be_empty: bool = False
) -> pd.DataFrame:
    """Read a table written by `write_table`.

    Raises `DamagedFile` if the file is missing, truncated or cannot be parsed, has no rows (unless it `may_be_empty`),
    lacks a column of `required`, or has a missing value (or NaN) in a column of `complete`.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path) if Path(path).suffix == ".parquet" else _parsed_csv(Path(path))
    except FileNotFoundError:
        raise DamagedFile(f"{path}: no such file; run the rule that makes it") from None
    except Exception as error:  # the parsers raise many types with the same meaning
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedFile(f"{path}: not a whole table ({reason}); delete it and run again") from None
    if table.empty and not may_be_empty:
        raise DamagedFile(f"{path}: a table without rows; delete it and run again")
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise DamagedFile(f"{path}: lacks the column {', '.join(missing)}; delete it and run again")
    gaps = [column for column in complete if table[column].isna().any()]
    if gaps:
        raise DamagedFile(f"{path}: misses values in the column {', '.join(gaps)}; delete it and run again")
    return table


def _parsed_csv(path: Path) -> pd.DataFrame:
    """Parse a CSV file. Raises `ValueError` for faults that the parser would read as gaps or shifted columns."""
    import pandas as pd

    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        raise ValueError("its last line is cut off")
    table = pd.read_csv(io.BytesIO(content))
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("a row has more cells than the header")
    return table


def sha256_of(path: Path | str) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits."""
    found = hashlib.sha256()
    blocks = -(-Path(path).stat().st_size // MEGABYTE)
    with open(path, "rb") as file, Progress(f"sha256 of {path}:", blocks, "MB") as progress:
        while block := file.read(MEGABYTE):
            found.update(block)
            progress.advance()
    return found.hexdigest()


def digest(value: Mapping[str, Any] | list[Any] | str) -> str:
    """The sha256 of a value's canonical JSON: equal for equal content, whatever the order of the keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def require_finite(name: str, value: float) -> float:
    """Return `value`, or raise `EatError` that names the quantity if it is NaN or infinite."""
    if not math.isfinite(value):
        raise EatError(f"{name} is {value}, not a finite number")
    return value
