"""What becomes of an operating point on texts of another domain than the one it was chosen on.

In domain, the traces of the study are replayed. The texts of the other domain are traced anew, in the engine and the
precision of each system. One half of them fits temperatures, and everything is measured on the other half.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from eat.analysis.shift_settings import FULL_DEPTH, settings_of
from eat.analysis.shift_tables import shift_table
from eat.analysis.shifted_texts import OtherDomain, labels_from, read_domain
from eat.analysis.trained import TrainedOptions, TrainedStudy
from eat.calibrate.calibration import Answers, debiased_calibration_error, expected_calibration_error
from eat.errors import EatError, listed
from eat.export.study_row import StudyRow
from eat.files import read_json, replacing_folder, write_json, write_table
from eat.model.exit_policy import ExitPolicy
from eat.model.tokenizer import encode_split
from eat.results.replay import replay
from eat.results.trace import Trace
from eat.statistics import Estimate, accuracy_interval, exact_share, percentile_interval
from eat.study.specs.calibrate import OperatingSpec
from eat.study.tasks import FileSource, PackagedName, PackagedSource, Source
from eat.text_files.form import ORDINARY, TextForm
from eat.trace.recording import trace_texts

RESULT, ABOUT = "shift.csv", "about.json"
DRAWS = 1000
PACKAGED = get_args(PackagedName)


@dataclass(frozen=True)
class ShiftOptions(TrainedOptions):
    """What is compared. packaged or texts: where the other domain comes from, a package or a file.

    column, label, form: of the file. map: `THEIRS=OURS` for labels with other names. count: the most texts, of which
    one half fits temperatures.
    """

    packaged: str | None = None
    texts: Path | None = None
    column: Sequence[str] = ("text",)
    label: str = "label"
    form: TextForm = ORDINARY
    map: Sequence[str] = ()
    count: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.packaged is None) == (self.texts is None):
            raise EatError("give the texts of the other domain with either --packaged NAME or --texts FILE")
        if self.packaged is not None and self.packaged not in PACKAGED:
            raise EatError(f"--packaged: found {self.packaged!r}; allowed: {listed(PACKAGED)}")
        if self.count < 8:
            raise EatError(f"--count: found {self.count}; give a whole number from 8 on")

    @property
    def source(self) -> Source:
        """The source of the texts."""
        if self.packaged is not None:
            return PackagedSource.model_validate({"kind": "packaged", "name": self.packaged})
        form = {name: getattr(self.form, name) for name in ("encoding", "delimiter", "quote", "header")}
        given = {"path": str(self.texts), "text": [*(self.column or ("text",))], "label": self.label}
        return FileSource.model_validate({"kind": "file", **given, **form})


def measure_shift(options: ShiftOptions) -> str:
    """Measure the systems in domain and out of it, write the results, and return the table.

    Raises `EatError` if the study is not trained, or the texts do not fit its task.
    """
    trained = TrainedStudy.of(options)
    mapping = labels_from(options.map)
    study, reference = trained.study, trained.study.reference
    systems = list(options.systems) or [name for name, row in study.systems.items() if row.exits.rule]
    if not systems:
        raise EatError(f"the study {study.study!r} has no system with an exit rule; name others with --system")
    rows = {name: trained.row(name) for name in dict.fromkeys([reference, *systems])}
    domain = read_domain(
        options.source,
        trained.labels,
        mapping,
        _seen(trained),
        options.count,
        pair=bool(read_json(trained.paths.card(trained.task))["pair"]),
    )
    dense = _Compared.of(trained, rows[reference], domain)
    found = [row for name in systems for row in _rows(trained, rows[name], domain, dense)]
    table = pd.DataFrame(found)
    about = {"study": study.study, "task": trained.task, "seed": trained.seed, "reference": reference, **domain.about}
    with replacing_folder(options.to) as folder:
        write_table(folder / RESULT, table)
        write_json(folder / ABOUT, about)
    halves = f"{len(domain.fitting)} texts fit temperatures, {len(domain.testing)} others are measured."
    return f"{_counts(domain)} {halves}\n\n{shift_table(table)}\n\nWritten to {options.to}."


def _seen(trained: TrainedStudy) -> set[str]:
    """The ids of the texts that a model of the task has learned from, or that thresholds were chosen on."""
    splits = [trained.paths.split(trained.task, name) for name in ("train", "calibration", "unlabelled")]
    files = [path for path in splits if path.is_file() or path.stem != "unlabelled"]
    return {identity for path in files for identity in _ids(path)}


def _ids(path: Path) -> list[str]:
    """The ids of a split; also of one without labels."""
    return [str(identity) for identity in pd.read_parquet(path, columns=["id"])["id"]]


def _counts(domain: OtherDomain) -> str:
    rows = domain.about["rows"]
    left_out = [f"{count} {name.replace('_', ' ')}" for name, count in rows.items() if name not in ("read", "used")]
    return f"{rows['read']} texts read, {rows['used']} used ({', '.join(left_out)})."


@dataclass(frozen=True)
class _Compared:
    """The traces of a system: the study's of calibration and dev, and those of the halves of the other domain."""

    calibration: Trace
    dev: Trace
    fitting: Trace
    testing: Trace

    @classmethod
    def of(cls, trained: TrainedStudy, row: StudyRow, domain: OtherDomain) -> _Compared:
        kept = [
            Trace.read(trained.paths.trace(trained.task, row.system, trained.seed, split))
            for split in ("calibration", "dev")
        ]
        model, tokenizer = trained.loaded(row)
        new = [
            trace_texts(
                model,
                encode_split(tokenizer, table, row.max_length),
                list(table["id"]),
                table["label"].to_numpy(dtype=np.int64),
                f"{row.system} {name}",
            )
            for name, table in (("fitting half", domain.fitting), ("testing half", domain.testing))
        ]
        return cls(*kept, *new)


def _rows(trained: TrainedStudy, row: StudyRow, domain: OtherDomain, dense: _Compared) -> Iterator[dict[str, Any]]:
    """The rows of a system: in domain as chosen and at full depth, out of domain in every setting."""
    is_reference = row.system == trained.study.reference
    own = dense if is_reference else _Compared.of(trained, row, domain)
    policy, spec = row.policy(None), trained.study.operating_spec(row.system)
    places = [
        ("in", own.dev, dense.dev, settings_of(policy)),
        ("out", own.testing, dense.testing, settings_of(policy, own.calibration, own.fitting)),
    ]
    for place, trace, reference, settings in places:
        for setting, point in settings.items():
            if place == "out" or setting in (next(iter(settings)), FULL_DEPTH):
                about = {"system": row.system, "domain": place, "setting": setting}
                yield about | _measured(trace, point, reference, spec)


def _measured(trace: Trace, policy: ExitPolicy, reference: Trace, spec: OperatingSpec) -> dict[str, Any]:
    """The measures of an operating point on a trace, with 95 % intervals.

    accuracy: Wilson's interval. ece: of the answers' probabilities, and without the part due to chance. avg_depth and
    flops_ratio (of the reference to the system, above 1 is cheaper): bootstrap over texts. disagreement: with the same
    system at full depth, exact interval. bad: the share that the promise is about, if there is one.
    """
    found = replay(trace, policy)
    n = len(trace.labels)
    right = found.predictions == trace.labels
    full = trace.logits[trace.shape["layers"]].argmax(axis=1)
    answers = Answers(found.probability.astype(np.float64), right)
    debiased = debiased_calibration_error(answers, spec.bins)
    base = replay(reference, ExitPolicy()).flops
    point = policy.as_point()
    row = {
        "tau": math.nan if isinstance(policy.tau, dict) or policy.tau is None else policy.tau,
        "thresholds": json.dumps(point["tau"]) if isinstance(point["tau"], dict) else None,
        "temperatures": json.dumps(point["temperatures"]),
        "n": n,
        **accuracy_interval(right[:, None]).columns("accuracy"),
        "ece": expected_calibration_error(answers, spec.bins),
        **Estimate(debiased.value, debiased.low, debiased.high).columns("ece_debiased"),
        **mean_ratio(found.depth.astype(np.float64), np.ones(n)).columns("avg_depth"),
        **mean_ratio(base, found.flops).columns("flops_ratio"),
    }
    disagree = found.predictions != full
    row |= exact_share(disagree).columns("disagreement")
    promise = _promise(spec)
    if promise is None:
        return row | {"risk": None, "epsilon": math.nan, "promise": None} | Estimate(*[math.nan] * 3).columns("bad")
    risk, epsilon = promise
    bad = exact_share(disagree if risk == "disagreement" else disagree & (full == trace.labels))
    return row | {"risk": risk, "epsilon": epsilon, "promise": verdict(bad, epsilon)} | bad.columns("bad")


def _promise(spec: OperatingSpec) -> tuple[str, float] | None:
    """The risk that a system promises to keep below epsilon."""
    if spec.promise is not None:
        return spec.promise.risk, spec.promise.epsilon
    return ("disagreement", spec.choose.epsilon) if spec.choose.by == "disagreement" else None


def verdict(bad: Estimate, epsilon: float) -> str:
    """What the interval of the risk says: it is within the promise, beyond it, or not decided."""
    if bad.high <= epsilon:
        return "within"
    return "beyond" if bad.low > epsilon else "undecided"


def mean_ratio(numerator: npt.NDArray[np.float64], denominator: npt.NDArray[np.float64]) -> Estimate:
    """The ratio of two means over the same texts, (N,) each, with a bootstrap percentile interval over texts."""
    picked = np.random.default_rng(0).integers(len(numerator), size=(DRAWS, len(numerator)))
    drawn = numerator[picked].mean(axis=1) / denominator[picked].mean(axis=1)
    low, high = percentile_interval(drawn)
    return Estimate(float(numerator.mean() / denominator.mean()), float(low), float(high))
