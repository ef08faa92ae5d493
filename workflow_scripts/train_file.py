"""Run the study of `eat train`, and write its folder: report, summary, recommendation and exported model.

The configuration is one that `eat init` writes: one task, dense and adaptive rows. An interrupted run goes on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts._command import run

if TYPE_CHECKING:
    from eat.study.study import Study

END_SECONDS = 5.0
"""The time that Snakemake and its jobs have to end after a signal."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="the configuration of the study")
    parser.add_argument("--to", required=True, type=Path, help="the folder to write")
    parser.add_argument("--cores", required=True, type=int)
    parser.add_argument("--dry-run", action="store_true", help="only print the planned jobs")
    arguments = parser.parse_args()

    from eat.errors import EatError
    from eat.study.loading import load_study

    study = load_study(arguments.config)
    if len(study.tasks) != 1:
        raise EatError(f"{arguments.config}: {len(study.tasks)} tasks; this command is for a study of one")
    given = ["--cores", str(arguments.cores), "--configfile", str(arguments.config)]
    unlock(study, given)
    if arguments.dry_run:
        if snakemake(["--dry-run", "--quiet", "rules", "host", "reason", *given]) != 0:
            raise EatError("Snakemake refuses the study; see its lines above")
        return
    if snakemake(["--quiet", "host", "reason", *given]) != 0:
        raise EatError("the study did not end; see the lines above. The same command goes on")
    print(finish(study, arguments.config, arguments.to))


def unlock(study: Study, given: Sequence[str]) -> None:
    """Remove the lock of a run of this study that was killed."""
    from eat.study.paths import StudyPaths
    from workflow_scripts._records import is_left_locked

    if is_left_locked(StudyPaths(study.study)):
        snakemake(["--unlock", "--quiet", "all", *given])


def snakemake(arguments: Sequence[str]) -> int:
    """Run Snakemake in the current folder, and return its exit status.

    If this process is ended, Snakemake and its jobs get SIGTERM: Snakemake alone would wait until they have ended.
    """
    import psutil

    from eat.children import Elsewhere

    sys.stdout.flush()
    # the jobs call `python`: that of this environment
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "snakemake", *arguments]
    with Elsewhere("running Snakemake"), subprocess.Popen(command, env=os.environ | {"PATH": path}) as program:
        try:
            return program.wait()
        except BaseException:
            with suppress(psutil.Error):
                for process in reversed(psutil.Process(program.pid).children(recursive=True)):
                    with suppress(psutil.Error):
                        process.terminate()
            program.terminate()
            try:
                program.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                program.kill()
            raise


def finish(study: Study, config: Path, to: Path) -> str:
    """Write the folder, and return what is printed: the sentence, and where things are."""
    from eat.commands.arguments import quiet_libraries
    from eat.export.folder import export
    from eat.export.source import ExportOptions
    from eat.files import read_json, replacing_folder, write_json, write_text
    from eat.progress import Progress
    from eat.report.recommendation import model_of, recommend
    from eat.results.rows import read_rows
    from eat.study.paths import StudyPaths

    paths = StudyPaths(study.study)
    (task,) = study.tasks
    best = recommend(study, task, read_rows(paths.summary), read_rows(paths.promises, may_be_empty=True))
    trained, stage = model_of(study, best.system)
    model = paths.model(task, trained, study.seeds[0], stage)
    text = config.read_text(encoding="utf-8")
    quiet_libraries()
    with Progress(f"writing {to}"), replacing_folder(to) as folder:
        export(ExportOptions(model, folder / "model", system=best.system, config=config))
        write_text(folder / "report.html", with_sentence(paths.report / "report.html", best.sentence))
        write_text(folder / "summary.csv", paths.summary.read_text(encoding="utf-8"))
        write_text(folder / "study.yaml", text)
        write_json(
            folder / "recommendation.json",
            {
                "study": study.study,
                "task": task,
                "system": best.system,
                "seed": study.seeds[0],
                "sentence": best.sentence,
                **best.figures,
                "machine": read_json(paths.timing_state(task)).get("machine"),
            },
        )
        write_text(folder / "README.md", _readme(study.study, config, best.sentence))
    return f"{best.sentence}\nWritten to {to}: the model is in {to / 'model'}, the report is {to / 'report.html'}."


def with_sentence(page: Path, sentence: str) -> str:
    """The report with the recommendation below its title. Raises `EatError` if it has no title."""
    from html import escape

    from eat.errors import EatError

    before, title, after = page.read_text(encoding="utf-8").partition("</h1>\n")
    if not title:
        raise EatError(f"{page}: has no title; delete it and run again")
    return f"{before}{title}<p><strong>Recommendation.</strong> {escape(sentence)}</p>\n{after}"


def _readme(name: str, config: Path, sentence: str) -> str:
    return (
        f"# {name}\n\n{sentence}\n\n"
        "* `model/`: the recommended model, for `eat.runtime` and the commands that take an exported folder\n"
        "* `report.html`: the whole study as one page\n"
        "* `summary.csv`: every row, threshold and batch size\n"
        "* `recommendation.json`: the figures of the sentence\n"
        f"* `study.yaml`: the configuration; `snakemake --cores all --configfile {config}` runs it again\n"
    )


if __name__ == "__main__":
    run(main)
