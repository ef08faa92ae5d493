"""Run the search of `eat tune`: batches of trials as rows of one growing study, then the best row on dev, once.

Each trial is a row of FOLDER/trials.yaml, which Snakemake runs up to its trace over the calibration texts. The best row
is written as FOLDER/best.yaml, and run up to its summary beside hand-made rows.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts._command import run
from workflow_scripts.train_file import snakemake, unlock

if TYPE_CHECKING:
    from eat.results.trace import Trace
    from eat.tune.cost import Cost
    from eat.tune.options import Point, TuneOptions
    from eat.tune.rows import Base
    from eat.tune.search import Curves, Search
    from eat.tune.space import Candidate

QUIET = ("--quiet", "host", "reason", "rules")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="the study to start from")
    parser.add_argument("--task", required=True)
    parser.add_argument("--name", required=True, help="of the study with the trials")
    parser.add_argument("--to", type=Path, required=True, help="the folder of the search")
    parser.add_argument("--p90-ms", type=float, help="budget: the 90th percentile of a text's time")
    parser.add_argument("--accuracy-loss", type=float, help="budget: points of accuracy")
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--beside", action="append", default=[], help="hand-made rows")
    parser.add_argument("--glue-dir", help="where GLUE's files are")
    parser.add_argument("--dry-run", action="store_true", help="only print the planned jobs of the first batch")
    given = parser.parse_args()

    from eat.errors import EatError
    from eat.files import only_one, write_json
    from eat.study.paths import StudyPaths
    from eat.tune.options import TuneOptions, budget_of
    from eat.tune.paths import SETTING
    from eat.tune.setting import read_base, setting_of

    budget = budget_of(given.p90_ms, given.accuracy_loss)
    base = read_base(given.config, given.task, given.name, given.beside, given.glue_dir)
    options = TuneOptions(
        given.config, given.task, given.name, budget, given.to, given.trials, given.batch, given.cores, given.seed
    )
    if given.dry_run:
        dry_run(base, options)
        return
    with only_one(StudyPaths(base.name).results / ".search", f"searches in results/{base.name}"):
        try:
            write_json(options.to / SETTING, setting_of(base, options))
            Driver(base, options).run()
        except OSError as error:
            raise EatError(f"{error.filename or options.to}: {error.strerror}; the same command goes on") from None
        except Exception as error:
            # SQLAlchemy and Optuna are imported by now; their errors are about the storage's file
            if type(error).__module__.split(".")[0] not in ("sqlalchemy", "optuna", "sqlite3"):
                raise
            raise EatError(f"{options.to}: the storage cannot be used ({type(error).__name__}: {error})") from error


def dry_run(base: Base, options: TuneOptions) -> None:
    """Print the configuration of the first rows, and Snakemake's plan for them."""
    from eat.errors import EatError
    from eat.tune.paths import TRIALS
    from eat.tune.rows import growing
    from eat.tune.space import VARIANTS, Space

    space = Space(base.layers, tuple(VARIANTS))
    candidates = [space.of(parameters) for parameters in space.hand_made()]
    with tempfile.TemporaryDirectory(prefix="eat-tune-") as folder:
        config = Path(folder) / TRIALS
        config.write_text(text_of(growing(base, candidates)), encoding="utf-8")
        print(f"\n{config.read_text(encoding='utf-8')}", flush=True)
        driver = Driver(base, options)
        targets = [str(driver.trace_of(candidate.row)) for candidate in candidates]
        command = ["--dry-run", *QUIET, "--cores", str(options.cores), "--configfile", str(config), "--", *targets]
        if snakemake(command) != 0:
            raise EatError("Snakemake refuses the study; see its lines above")


class Driver:
    """Runs a search with Snakemake in the current folder."""

    def __init__(self, base: Base, options: TuneOptions) -> None:
        from eat.study.paths import StudyPaths

        self.base, self.options = base, options
        self.paths = StudyPaths(base.name)

    def trace_of(self, row: str) -> Path:
        """The calibration trace of a row."""
        from eat.tune.paths import trial_trace

        return trial_trace(self.paths, self.base.task, row, self.base.seed)

    def run(self) -> None:
        """Search, write the folder, and print where things are."""
        from eat.errors import EatError
        from eat.tune.space import Space

        layers = self.base.layers
        first = Space(layers, ("torch",)).of(Space(layers, ("torch",)).hand_made()[0])
        needed = [self.trace_of(self.base.reference), self._model_of(first, ()) / "model.safetensors"]
        if not self._snakemake([first], [], needed):
            raise EatError("the reference or the first heads did not train; see the lines above")
        from eat.engines.devices import resolve_device
        from eat.timing.agreement import require_same_setting
        from eat.tune.clock import KEY
        from eat.tune.paths import STORAGE
        from eat.tune.search import Search

        self.dense = self._trace(self.base.reference)
        clock = resolve_device(self.base.study.timing.device, KEY)
        require_same_setting(
            self.base.reference, self.dense, clock, self.base.study.parts(self.base.reference).precision
        )
        self.cost = self._cost(first)
        space = Space(layers, tuple(self.cost.coefficients))
        self.dense_point = self._curve(self.dense, "torch")[0]
        print(
            f"reference: accuracy {100 * self.dense_point.accuracy:.1f} % on {len(self.dense.ids)} calibration texts, "
            f"{self.dense_point.ms:.2f} ms predicted",
            flush=True,
        )
        search = Search(
            self.options.to / STORAGE,
            space,
            self.options.budget,
            self.dense_point.ms,
            self.options.seed,
            lambda line: print(line, flush=True),
        )
        search.run(self.options.trials, self.options.batch, self.evaluate)
        print(self.finish(search))

    def evaluate(self, everything: Sequence[Candidate], judged: Sequence[Candidate], full: Collection[str]) -> Curves:
        """Run rows up to their calibration traces, and read their curves."""
        self._snakemake(everything, full, [self.trace_of(candidate.row) for candidate in judged])
        return {
            candidate.row: self._curve(self._trace(candidate.row), candidate.variant)
            for candidate in judged
            if self._is_current(candidate, full)
        }

    def finish(self, search: Search) -> str:
        """Write tables, figure and the best row; run that on dev; returns what is printed."""
        from eat.errors import EatError
        from eat.files import read_table, write_json, write_table, write_text
        from eat.results.rows import read_rows
        from eat.tune.figure import write_figure
        from eat.tune.paths import BEST, FRONT, RESULT, TABLE
        from eat.tune.rows import best_configuration
        from eat.tune.setting import command_of, readme
        from eat.tune.tables import front_table, trials_table
        from eat.tune.verdict import verdict

        to, budget = self.options.to, self.options.budget
        found, best = search.found(), search.best()
        write_table(to / TABLE, trials_table(found, budget))
        write_table(to / FRONT, front_table(found, budget))
        write_figure(found, best, budget, self.dense_point, to / "front.pdf", to / "front.svg")
        comment = (
            f"# The best of {len(found)} trials of eat tune under {budget}: {best.candidate.row}.\n"
            f"#   run:  {command_of(to / BEST)}\n"
        )
        write_text(to / BEST, comment + text_of(best_configuration(self.base, best.candidate, best.point)))
        print(f"best: {best.candidate.row} at a threshold of {best.point.tau:g}; now on dev, once", flush=True)
        config = ["--cores", str(self.options.cores), "--configfile", str(to / BEST)]
        if snakemake([*QUIET, *config, "--", str(self.paths.summary)]) != 0:
            raise EatError("the best row did not run; see the lines above. The same command goes on")
        said = verdict(
            read_rows(self.paths.summary),
            read_table(self.paths.timing(self.base.task)),
            self.base.task,
            self.base.beside,
            budget,
            self.base.reference,
        )
        write_json(
            to / RESULT,
            {
                "sentence": said.sentence,
                "row": best.candidate.row,
                "trials": len(found),
                "pruned": sum(one.state == "pruned" for one in found),
                "calibration": {"best": vars(best.point), "reference": vars(self.dense_point)},
                "dev": said.rows,
            },
        )
        write_text(to / "README.md", readme(said.sentence, to / BEST, budget, len(found)))
        return f"{said.sentence}\nWritten to {to}: the best row is {to / BEST}, the front {to / 'front.svg'}."

    def _snakemake(self, candidates: Sequence[Candidate], full: Collection[str], targets: Sequence[Path]) -> bool:
        """Run the study with these rows up to some files; whether all of it ended well."""
        from eat.files import write_text
        from eat.study.loading import load_study
        from eat.tune.paths import TRIALS
        from eat.tune.rows import growing

        config = self.options.to / TRIALS
        write_text(config, text_of(growing(self.base, candidates, full)))
        given = ["--cores", str(self.options.cores), "--configfile", str(config)]
        unlock(load_study(config), given)
        return snakemake([*QUIET, "--keep-going", *given, "--", *map(str, targets)]) == 0

    def _model_of(self, candidate: Candidate, full: Collection[str]) -> Path:
        from eat.tune.rows import FEW, FULL

        stage = FULL if candidate.parent in full else FEW
        return self.paths.model(self.base.task, candidate.parent, self.base.seed, stage)

    def _is_current(self, candidate: Candidate, full: Collection[str]) -> bool:
        """Whether a row's trace is of its heads as they are now, and not of a run that failed since."""
        weights, trace = self._model_of(candidate, full) / "model.safetensors", self.trace_of(candidate.row)
        return weights.is_file() and trace.is_file() and trace.stat().st_mtime >= weights.stat().st_mtime

    def _trace(self, row: str) -> Trace:
        from eat.results.trace import Trace

        return Trace.read(self.trace_of(row))

    def _curve(self, trace: Trace, variant: str) -> list[Point]:
        from eat.tune.curve import curve

        return curve(trace, self.dense, self.cost, variant)

    def _cost(self, first: Candidate) -> Cost:
        """The cost of a text that the folder keeps, or a new one, measured while no job runs."""
        from eat.files import only_one, read_json, write_json
        from eat.tune.clock import ClockOptions, measure_cost, usable_variants
        from eat.tune.cost import Cost
        from eat.tune.paths import CLOCK

        kept = self.options.to / CLOCK
        if kept.is_file():
            return Cost.of(read_json(kept)["cost"])
        study, task = self.base.study, self.base.task
        options = ClockOptions(
            self._model_of(first, ()),
            self.paths.split(task, "calibration"),
            study.tasks[task].max_length,
            study.timing.threads,
            study.timing.device,
        )
        with only_one(self.paths.clock(platform.node()), "measures time in this folder"):
            cost, facts = measure_cost(options, usable_variants(options.device), self.base.layers)
        write_json(kept, {"cost": cost.plain(), **facts})
        print(
            "cost of a text fitted to the clock; median error "
            + ", ".join(f"{name} {100 * error:.0f} %" for name, error in cost.error.items()),
            flush=True,
        )
        return cost


def text_of(study: dict[str, Any]) -> str:
    """A configuration as YAML."""
    import yaml

    return yaml.safe_dump(study, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    run(main)
