"""The content of files from outside the workflow, as a parameter of the rules that read them.

Snakemake compares an input by content only if the input is newer than the outputs. A file that is replaced by one with
an older date (copied or unpacked with its date, swapped, a changed link) would cause stale results.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from eat.errors import DamagedFile, EatError
from eat.files import read_json, write_json

CACHE = Path(".snakemake/eat/digests.json")
"""Path -> its identity and sha256, of large files."""

LARGE = 32 * 2**20
"""The size in bytes from which a digest is cached; smaller files are read each time, in less than 0.1 s."""

SETTLED_SECONDS = 2.0
"""The age from which a file is cached, since a file system may give two successive changes the same time."""


def content_of(files: Iterable[Path | str]) -> str:
    """The sha256 of each file, as JSON: path -> digest, or null if there is no such file.

    Raises `EatError` if a file cannot be read.
    """
    return json.dumps({str(file): _digest_if_there(file) for file in files}, ensure_ascii=False)


def _digest_if_there(file: Path | str) -> str | None:
    try:
        return cached_sha256(file)
    except FileNotFoundError:
        return None  # the rule that reads it names it
    except OSError as error:
        raise EatError(f"{file}: cannot be read ({error.strerror}); correct the path or its permissions") from None


def cached_sha256(
    path: Path | str, cache: Path = CACHE, large: int = LARGE, settled_seconds: float = SETTLED_SECONDS
) -> str:
    """The sha256 of a file's bytes; that of a large file is computed again only if the file may have changed.

    A cached digest is used for the same path, device, inode, size, time of writing and time of change (`ctime`, which
    cannot be set). The file system must record it, as all local ones of Linux and macOS do.
    """
    with open(path, "rb") as file:
        before = os.fstat(file.fileno())
        if before.st_size < large:
            return hashlib.file_digest(file, "sha256").hexdigest()
        place, identity = os.path.abspath(path), _identity(before)
        known = _cached(cache)
        if place in known and known[place][0] == identity:
            return known[place][1]
        found = hashlib.file_digest(file, "sha256").hexdigest()
        unchanged = _identity(os.fstat(file.fileno())) == identity
    age = time.time() - max(before.st_mtime, before.st_ctime)
    if unchanged and age > settled_seconds:
        with suppress(OSError):  # if nothing can be written, the digest is computed again next time
            write_json(cache, known | {place: [identity, found]})
    return found


def _identity(stat: os.stat_result) -> str:
    return f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _cached(cache: Path) -> dict[str, list[str]]:
    try:
        known = read_json(cache)
    except (DamagedFile, OSError):
        return {}
    return known if isinstance(known, dict) else {}
