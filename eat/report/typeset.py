"""Compile `results.tex` to PDF with the LaTeX of this machine. No result of a study depends on it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from eat.errors import EatError, listed
from eat.files import replacing
from eat.interrupts import output_of

ENGINES = ("latexmk", "pdflatex", "tectonic")
SECONDS = 300
"""The time limit of a compilation."""


def render_pdf(tex: Path | str, out: Path | str) -> str:
    """Compile `tex` and write the PDF to `out`; returns a line that describes what was done.

    Uses the first of latexmk, pdflatex and tectonic that is installed. No engine may run commands of the document (no
    shell escape) or read a start-up file of the folder, and only `out` remains afterwards. Raises `EatError` if no
    engine is installed, and with the first error of the log if the text does not compile.
    """
    tex = Path(tex).resolve()
    with tempfile.TemporaryDirectory(prefix="typeset-") as build:
        commands = _commands(tex, Path(build))
        if not commands:
            raise EatError(
                f"{out} cannot be made: none of {listed(ENGINES)} is installed; install one (on Debian "
                f"texlive-latex-recommended and texlive-fonts-recommended), or compile {tex} on another machine"
            )
        for command in commands:
            try:
                done = output_of(
                    command, f"typesetting with {command[0]}", timeout=SECONDS, cwd=tex.parent, errors="replace"
                )
            except subprocess.TimeoutExpired:
                raise EatError(
                    f"{tex}: {command[0]} took more than {SECONDS} s; compile it by hand to find out why"
                ) from None
            if done.returncode != 0:
                raise EatError(f"{tex}: {command[0]} stopped: {_first_error(done.stdout + done.stderr)}")
        with replacing(out) as temporary:
            shutil.copyfile(Path(build) / f"{tex.stem}.pdf", temporary)
    return f"{Path(out).name} was made by {commands[0][0]}"


def _commands(tex: Path, build: Path) -> list[list[str]]:
    plain = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "-file-line-error"]
    if shutil.which("latexmk") and shutil.which("pdflatex"):
        options = [f"-latexoption={option}" for option in plain]
        return [["latexmk", "-norc", "-pdf", *options, f"-outdir={build}", tex.name]]
    if shutil.which("pdflatex"):  # twice: the second run resolves references to tables and figures
        return [["pdflatex", *plain, f"-output-directory={build}", tex.name]] * 2
    if shutil.which("tectonic"):
        return [["tectonic", "--untrusted", "--outdir", str(build), tex.name]]
    return []


def _first_error(log: str) -> str:
    for line in log.splitlines():
        if line.startswith(("!", "error:")) or ".tex:" in line:
            return line.strip()
    return log.strip().splitlines()[-1] if log.strip() else "no message"
