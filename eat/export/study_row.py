"""The row of a study that a model folder belongs to: its operating point, and what the study measured of it.

A folder is that of a study if its path ends as `eat.study.paths.StudyPaths.model` says. The exit rule and the parts of
a system are in the study's configuration; temperatures, thresholds and measurements are in its results.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from eat.errors import EatError, listed
from eat.files import read_json, read_table
from eat.model.exit_policy import ExitPolicy
from eat.model.options import Parts
from eat.prepare.sources.registry import reader_of
from eat.results.calibrated import promised_of, temperatures_of
from eat.results.replay import policies
from eat.results.rows import is_true, read_rows
from eat.study.loading import load_study, read_mapping
from eat.study.paths import StudyPaths

if TYPE_CHECKING:
    import pandas as pd

    from eat.study.study import Study

CONFIGURATIONS = Path("config")
"""The folder whose YAML files are searched for the study's configuration."""

SPEED = (
    "batch_size", "device", "threads", "latency_ms_p50", "examples_per_s", "speedup_vs_dense", "speedup_low",
    "speedup_high",
)  # fmt: skip
"""The columns of summary.csv that are kept of each batch size."""


@dataclass(frozen=True)
class Place:
    """Where a trained model stands in the results of a study."""

    results: Path
    study: str
    task: str
    system: str
    seed: int
    stage: str

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """The place of a model folder; `None` if it is not laid out as a study's."""
        folder = Path(os.path.abspath(folder))  # links stay, which may lead into a cache
        if len(folder.parts) < 7:
            return None
        study, _, task, system, seed, stage = folder.parts[-6:]
        found = re.fullmatch(r"seed(\d+)", seed)
        if found is None:
            return None
        place = cls(folder.parents[4], study, task, system, int(found[1]), stage)
        return place if place.at(StudyPaths(study).model(task, system, place.seed, stage)) == folder else None

    def at(self, path: Path) -> Path:
        """A path of the study, which `StudyPaths` gives relative to the workflow's folder."""
        return self.results / path.relative_to(StudyPaths(self.study).results)

    def find_study(self, config: Path | None) -> Study | None:
        """The study's configuration.

        config: its file. Default: the file in `config/` with this study's name; `None` if there is none. Raises
        `EatError` if the file is another study's, or several have the name.
        """
        if config is not None:
            study = load_study(config)
            if study.study != self.study:
                raise EatError(f"{config}: the study {study.study!r}, but the model is of {self.study!r}; give its own")
            return study
        found = [file for file in sorted(CONFIGURATIONS.glob("*.yaml")) if _study_name(file) == self.study]
        if len(found) > 1:
            raise EatError(f"{listed(found)} are both of the study {self.study!r}; give one with --config")
        return load_study(found[0]) if found else None


def _study_name(file: Path) -> Any:
    try:
        return read_mapping(file).get("study")
    except EatError:
        return None


@dataclass(frozen=True)
class StudyRow:
    """A system of a study, with the weights of one seed."""

    place: Place
    study: Study
    system: str

    @classmethod
    def of(cls, place: Place, study: Study, system: str | None) -> Self:
        """The row of a system; default: the one that the folder belongs to.

        Raises `EatError` if the study has no such system, or it does not run these weights.
        """
        name = place.system if system is None else system
        if name not in study.systems:
            raise EatError(f"the study {study.study!r} has no system {name!r}; its systems: {listed(study.systems)}")
        runs = study.models_of(name)
        if (place.system, place.stage) not in runs:
            trained = [f"{trained}, stage {stage}" for trained, stage in runs]
            raise EatError(
                f"the system {name!r} of the study {study.study!r} runs the weights of {listed(trained)}; the folder "
                f"is of {place.system}, stage {place.stage}: give the folder of {'the first' if runs[1:] else 'these'}"
            )
        if place.task not in study.tasks:
            raise EatError(
                f"the study {study.study!r} has no task {place.task!r}; its tasks: {listed(study.tasks)}; give the "
                "configuration that trained the model with --config"
            )
        return cls(place, study, name)

    @property
    def folders(self) -> list[Path]:
        """The folders of the models that it runs; a cascade has several."""
        paths, place = StudyPaths(self.study.study), self.place
        runs = self.study.models_of(self.system)
        return [place.at(paths.model(place.task, trained, place.seed, stage)) for trained, stage in runs]

    @property
    def parts(self) -> Parts:
        """The parts with which the weights are run."""
        return self.study.parts(self.system)

    @property
    def max_length(self) -> int:
        """The tokens of the longest text."""
        return self.study.tasks[self.place.task].max_length

    @property
    def texts(self) -> int:
        """The texts of an example: 2 for pairs, else 1."""
        return 2 if reader_of(self.study.tasks[self.place.task].source).has_pairs else 1

    def policy(self, tau: float | None) -> ExitPolicy:
        """The operating point: the study's rule and temperatures, with this threshold or else the chosen one.

        Raises `EatError` if the system has no threshold, `DamagedFile` if a result is missing or broken.
        """
        calibration = self._calibration()
        spec = self.study.operating_spec(self.system)
        points = policies(spec, temperatures_of(calibration), promised_of(calibration))
        if tau is not None:
            return replace([*points.values()][-1], tau=tau)
        return points[None] if None in points else points[self._chosen()]

    def _calibration(self) -> dict[str, Any]:
        paths, place = StudyPaths(self.study.study), self.place
        found: dict[str, Any] = read_json(place.at(paths.calibration(place.task, self.system, place.seed)))
        return found

    def _points(self) -> pd.DataFrame:
        """The operating points of the system and the seed."""
        paths, place = StudyPaths(self.study.study), self.place
        required = ("system", "seed", "split", "tau", "chosen", "n", "accuracy", "avg_depth")
        table = read_rows(place.at(paths.operating_points(place.task)), required)
        return table[(table["system"].astype(str) == self.system) & (table["seed"] == place.seed)]

    def _chosen(self) -> float:
        points = self._points()
        chosen = points.loc[is_true(points["chosen"]), "tau"].dropna().unique()
        if len(chosen) != 1:
            raise EatError(
                f"the results of {self.study.study!r} have {len(chosen)} chosen thresholds of {self.system}, seed "
                f"{self.place.seed}; run the study again, or give --tau"
            )
        return float(chosen[0])

    def promised(self, policy: ExitPolicy) -> dict[str, Any] | None:
        """The promise that the threshold keeps; `None` without one, or at another threshold."""
        calibration = self._calibration()
        promise = calibration.get("promise")
        if promise is None or promised_of(calibration) != policy.tau:
            return None
        return {key: promise[key] for key in ("risk", "epsilon", "delta", "n", "tau")}

    def accuracy(self, policy: ExitPolicy) -> dict[str, Any] | None:
        """The accuracy of this seed on the dev split at an operating point; `None` if the study has none there."""
        if not self._file(StudyPaths(self.study.study).operating_points(self.place.task)):
            return None
        points = self._points()
        rows = _at(points[points["split"] == "dev"], self._column(policy))
        if rows.empty:
            return None
        row = rows.iloc[0]
        return {
            "split": "dev",
            "n": int(row["n"]),
            "accuracy": float(row["accuracy"]),
            "mean_depth": float(row["avg_depth"]),
        }

    def speed(self, policy: ExitPolicy) -> list[dict[str, Any]] | None:
        """The speed at an operating point, an entry for each batch size; `None` if the study did not time it."""
        paths, task = StudyPaths(self.study.study), self.place.task
        if not (self._file(paths.summary) and self._file(paths.timing_state(task))):
            return None
        table = read_table(self.place.at(paths.summary), ("task", "system", "tau", "n_timed", *SPEED))
        table = table[(table["task"].astype(str) == task) & (table["system"].astype(str) == self.system)]
        table = table[table["n_timed"] > 0]
        facts = read_json(self.place.at(paths.timing_state(task)))
        about = {"cpu": facts["machine"]["cpu"], "date": facts["date"], "busy": facts["busy"]}
        rows = _at(table, self._column(policy)).to_dict("records")
        return [{**{name: _plain(row[name]) for name in SPEED}, **about} for row in rows] or None

    def _column(self, policy: ExitPolicy) -> float | None:
        """The threshold in the study's tables, where that of a promise is not given."""
        tau = policy.tau
        return None if isinstance(tau, Mapping) or tau == promised_of(self._calibration()) else tau

    def _file(self, path: Path) -> bool:
        return self.place.at(path).is_file()


def _at(table: pd.DataFrame, tau: float | None) -> pd.DataFrame:
    """The rows at a threshold."""
    return table[table["tau"].isna()] if tau is None else table[table["tau"] == tau]


def _plain(value: Any) -> Any:
    """A cell as a JSON value; `None` for a gap."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value
