"""Pack the files that an offline CUDA image lacks: weights in half precision, wheels, and the text of SST-2."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from workflow_scripts._command import run
from workflow_scripts._sources import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the bundle's folder; default: .gpu-bundle, which git ignores")
    parser.add_argument("--requirements", type=Path, default=ROOT / "envs" / "gpu-wheels.txt", help="the wheels")
    parser.add_argument("--glue-dir", type=Path, default=Path("data/glue"), help="the folder of GLUE's files")
    arguments = parser.parse_args()

    from functools import partial

    from eat.bench.bundle import BUNDLE, LIMIT, megabytes, pack
    from eat.prepare.sources.glue import GLUE
    from eat.prepare.splits import prepare_text
    from eat.study.loading import load_study

    out, write_text = arguments.out or BUNDLE, None
    task = load_study(ROOT / "config" / "gpu.yaml").tasks["sst2"]
    if (arguments.glue_dir / GLUE["sst2"].folder).is_dir():
        write_text = partial(prepare_text, "sst2", task, glue_dir=str(arguments.glue_dir))
    else:
        print(f"{arguments.glue_dir}: no SST-2 there, so the bundle has no text and `make gpu PART=train` cannot run")
    checkout = checkout_bytes(ROOT)
    sizes = {**pack(out, arguments.requirements, checkout, write_text), "checkout": checkout}
    for part, size in {**sizes, "together": sum(sizes.values())}.items():
        print(f"{megabytes(size):>9}  {part}")
    print(f"Packed into {out}; at most {megabytes(LIMIT)} is allowed.")


def checkout_bytes(root: Path) -> int:
    """Bytes of the files to copy: those that git tracks or does not ignore. Raises `EatError` without git."""
    from eat.errors import EatError

    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise EatError(f"{root}: not a git repository, which lists the files to copy; pack in a clone") from None
    paths = [root / name for name in done.stdout.split("\0") if name]
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    run(main)
