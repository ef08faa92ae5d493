"""Triage: thresholds and levels by what mistakes cost, worked out by hand and by trying all; the table and its page."""

from __future__ import annotations

import copy
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_traces import make_trace
from test_report_parts import task_of
from test_summary import facts_of, study_of, timing_of, traces_of

from eat.calibrate.cost import escalation_level, thresholds_of
from eat.calibrate.disagreement import NOTCHES
from eat.calibrate.operating_points import task_operating_points
from eat.calibrate.system import calibrate_system
from eat.errors import EatError
from eat.files import write_json, write_table
from eat.model.exit_policy import ExitPolicy
from eat.report.triage import triage_table
from eat.results.calibrated import promised_of, temperatures_of
from eat.results.replay import Replay, replay
from eat.results.trace import Trace
from eat.results.triage import cost_of, escalated
from eat.study.exits import Choice
from eat.study.loading import load_study
from eat.study.specs.calibrate import CalibrationSpec
from eat.study.study import Study
from eat.summarize.summary import summarize
from eat.summarize.task_results import TaskInputs

COSTS = [1.0, 10.0]
SOURCE = {"kind": "file", "path": "messages.csv", "text": ["text"], "label": "label", "labels": ["ham", "spam"]}
TRIAGE = {"alarm": "spam", "costs": {"spam": 10, "ham": 1}, "review": 0.5}


def spec_of(thresholds: str = "per_class", loss: float = 0.1, **more: Any) -> CalibrationSpec:
    choose = Choice.model_validate({"by": "cost", "thresholds": thresholds, "loss": loss})
    return CalibrationSpec.model_validate(
        {"mode": "raw", "bins": 15, "rule": ["confidence"], "costs": COSTS, "choose": choose, **more}
    )


def cost_at(trace: Trace, policy: ExitPolicy) -> tuple[float, float]:
    """Mean cost and mean layers."""
    found = replay(trace, policy)
    return float(cost_of(found.predictions, trace.labels, COSTS).mean()), float(found.depth.mean())


# --- costs, thresholds and levels ---------------------------------------------------------------------------------


def test_a_mistake_costs_what_its_class_costs() -> None:
    labels, answers = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
    assert cost_of(answers, labels, COSTS).tolist() == [0.0, 1.0, 0.0, 10.0]


@pytest.mark.parametrize("thresholds", ["one", "per_class"])
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_the_chosen_thresholds_save_layers_within_the_cost(thresholds: str, loss: float) -> None:
    trace = make_trace(rows=600, exits=(2, 4, 6), seed=3)
    found = thresholds_of(trace, spec_of(thresholds, loss), {})
    policy = ExitPolicy(("confidence",), promised_of({"by_cost": found}))
    full, _ = cost_at(trace, ExitPolicy())
    cost, depth = cost_at(trace, policy)
    assert (found["full_depth"], found["cost"], found["depth"]) == pytest.approx((full, cost, depth))
    assert cost <= full * (1 + loss) + 1e-9 and depth < 6.0
    assert set(found["tau"]) == {"2", "4"} and found["n"] == 600
    if thresholds == "one":
        # one threshold has one path: no lower notch that lets more texts exit is within the cost
        place = NOTCHES.index(found["tau"]["2"])
        ahead = (cost_at(trace, ExitPolicy(("confidence",), tau)) for tau in NOTCHES[place + 1 :])
        following = next((one for one in ahead if one[1] < depth), None)
        assert following is None or following[0] > full * (1 + loss)
    else:
        assert all(len(values) == 2 for values in found["tau"].values())


def test_a_dear_class_gets_the_higher_threshold() -> None:
    """An exit that answers ham may miss spam, which costs ten times as much as a false alarm."""
    trace = make_trace(rows=4000, exits=(2, 4, 6), seed=5)
    ham, spam = thresholds_of(trace, spec_of(loss=0.05), {})["tau"]["2"]
    assert ham > spam


def test_thresholds_by_cost_take_every_rule_with_a_threshold() -> None:
    trace = make_trace(rows=400, exits=(2, 3, 4, 6), seed=1)
    found = thresholds_of(trace, spec_of(rule=["margin"]), {2: 1.5})
    policy = ExitPolicy(("margin",), promised_of({"by_cost": found}), {2: 1.5})
    assert cost_at(trace, policy)[0] == pytest.approx(found["cost"]) and found["depth"] < 6.0


def by_trying_all(found: Replay, trace: Trace, review: float) -> float:
    """The least cost of any level."""
    costs = cost_of(found.predictions, trace.labels, COSTS)
    levels = [0.0, *np.nextafter(np.unique(found.probability), 2.0)]
    return min(float(np.where(escalated(found, 6, level), review, costs).mean()) for level in levels)


@pytest.mark.parametrize(("review", "tau"), [(0.3, 0.7), (0.3, 1.0), (5.0, 0.9), (20.0, 0.9)])
def test_the_level_of_a_person_costs_the_least(review: float, tau: float) -> None:
    trace = make_trace(rows=300, seed=2)
    found = replay(trace, ExitPolicy(("confidence",), tau))
    level = escalation_level(found, trace, COSTS, review)
    costs = cost_of(found.predictions, trace.labels, COSTS)
    sent = escalated(found, 6, level)
    assert float(np.where(sent, review, costs).mean()) == pytest.approx(by_trying_all(found, trace, review))
    assert (found.depth[sent] == 6).all(), "what exits early is sure enough"
    if review == 20.0:
        assert level == 0.0 and not sent.any(), "a person who costs more than any mistake reads nothing"


def test_without_a_cost_of_a_person_nobody_reads() -> None:
    trace = make_trace(rows=50)
    assert escalation_level(replay(trace, ExitPolicy()), trace, COSTS, None) == 0.0


# --- the study ----------------------------------------------------------------------------------------------------


def triage_study(**choose: Any) -> Study:
    value = study_of(seeds=(1, 2)).model_dump(mode="json", by_alias=True)
    value["tasks"]["movies"] |= {"source": SOURCE, "triage": copy.deepcopy(TRIAGE)}
    value["systems"]["eat"]["exits"] |= {"choose": {"by": "cost", "thresholds": "per_class", **choose}}
    return load_study(value)


def files_of(folder: Path, study: Study) -> TaskInputs:
    """Everything that a run leaves for one task."""
    both: dict[tuple[str, int], dict[str, Path]] = {}
    calibrations: dict[tuple[str, int], Path] = {}
    for name, seed, traces in traces_of(study, 300, 1.0):
        both[name, seed] = {split: folder / "traces" / name / str(seed) / f"{split}.parquet" for split in traces}
        for split, trace in traces.items():
            trace.write(both[name, seed][split])
        spec = study.calibration_spec(name, "movies")
        calibrations[name, seed] = folder / "calibration" / name / f"{seed}.json"
        write_json(calibrations[name, seed], calibrate_system(traces["calibration"], traces["dev"], spec))
    write_table(folder / "points.parquet", task_operating_points(study, "movies", both, calibrations))
    write_table(folder / "timing.parquet", timing_of(study))
    write_json(folder / "timing.json", facts_of(study))
    dev = {run: paths["dev"] for run, paths in both.items()}
    return TaskInputs(folder / "points.parquet", dev, calibrations, folder / "timing.parquet", folder / "timing.json")


def test_the_table_says_what_is_missed_raised_sent_and_paid(tmp_path: Path) -> None:
    study = triage_study()
    files = files_of(tmp_path, study)
    summarize(study, {"movies": files}, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "triage.csv")
    points = pd.read_parquet(tmp_path / "points.parquet")
    own = table[table["system"] == "eat"]
    assert own["tau"].isna().tolist() == own["chosen"].tolist() == [True, False, False]
    thresholds = json.loads(own["thresholds"].iloc[0])
    assert [set(seed) for seed in thresholds] == [{"3", "4"}] * 2 and len(thresholds[0]["3"]) == 2
    for row in table.to_dict("records"):
        rows = points[(points["system"] == row["system"]) & (points["split"] == "dev")]
        rows = rows[rows["tau"].isna() if np.isnan(row["tau"]) else rows["tau"] == row["tau"]]
        costs, recall = [], []
        for seed, level in zip(rows["seed"], rows["escalate_below"], strict=True):
            trace = Trace.read(tmp_path / "traces" / row["system"] / str(seed) / "dev.parquet")
            calibration = json.loads((tmp_path / "calibration" / row["system"] / f"{seed}.json").read_text())
            tau = None if row["system"].startswith(("dense", "hf")) else row["tau"]
            if row["system"] == "eat" and np.isnan(row["tau"]):
                tau = promised_of(calibration)
            found = replay(trace, ExitPolicy(("confidence",) if tau else (), tau, temperatures_of(calibration)))
            sent = (found.depth == 6) & (found.probability < level)
            wrong = (found.predictions != trace.labels) & ~sent
            missed, false = wrong & (trace.labels == 1), wrong & (trace.labels == 0)
            costs.append((10 * missed.sum() + false.sum() + 0.5 * sent.sum()) / len(sent))
            recall.append(1 - missed.sum() / (trace.labels == 1).sum())
        assert row["cost"] == pytest.approx(1000 * np.mean(costs)), row["system"]
        assert row["recall"] == pytest.approx(np.mean(recall))
        assert row["cost_low"] <= row["cost"] <= row["cost_high"]
    assert (table["escalated"] > 0).any() and (table["alarm"] == "spam").all()
    shown = triage_table(task_of([]).__class__(**{**vars(task_of([])), "triage": table}))
    assert shown is not None and "the recall of spam" in shown.caption
    assert sum(row.chosen for row in shown.groups[0].rows) == 1
    assert "-" in shown.groups[0].rows[-3].cells[1].text or shown.groups[0].rows[-3].cells[1].text


def test_a_task_without_costs_has_no_table(tmp_path: Path) -> None:
    assert not study_of().has_triage
    assert triage_table(task_of([])) is None


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "labels that are not named": (
        {"tasks": {"movies": {"source": {**SOURCE, "labels": None}, "triage": TRIAGE}}},
        "the source does not name its labels; give source.labels",
    ),
    "a label without a cost": (
        {"tasks": {"movies": {"source": {**SOURCE, "labels": ["ham", "spam", "other"]}, "triage": TRIAGE}}},
        "triage.costs: found spam, ham; give each label: ham, spam, other",
    ),
    "an alarm that is no label": (
        {"tasks": {"movies": {"source": SOURCE, "triage": TRIAGE | {"alarm": "junk"}}}},
        "alarm: 'junk' has no cost; labels with one: spam, ham",
    ),
    "costs of 0": (
        {"tasks": {"movies": {"source": SOURCE, "triage": TRIAGE | {"costs": {"ham": 0, "spam": 0}}}}},
        "costs: all are 0",
    ),
    "a choice by cost without costs": (
        {"tasks": {"movies": {"source": SOURCE}}},
        "systems.eat.exits.choose: by cost, but tasks.movies does not say what mistakes cost",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_costs_that_mean_nothing_are_refused(what: str) -> None:
    changes, message = REFUSED[what]
    value = triage_study().model_dump(mode="json", by_alias=True) | changes
    with pytest.raises(EatError, match=message):
        load_study(value)


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        ({"choose": {"by": "cost", "thresholds": "per_exit"}}, "thresholds: per_exit with by: cost"),
        ({"choose": {"by": "disagreement", "thresholds": "per_class"}}, "thresholds: per_class with by: disagreement"),
        ({"choose": {"by": "cost", "epsilon": 0.1}}, "epsilon with by: cost; they belong to by: disagreement"),
        ({"choose": {"by": "accuracy", "loss": 0.5}}, "loss with by: accuracy; they belong to by: cost"),
        ({"choose": {"by": "cost"}, "rule": ["agreement"], "tau": []}, "choose by cost with the rule .agreement."),
    ],
)
def test_options_of_another_choice_are_refused(exits: dict[str, Any], message: str) -> None:
    value = triage_study().model_dump(mode="json", by_alias=True)
    value["systems"]["eat"]["exits"] = {"after": [3, 4], "rule": ["confidence"], "tau": [0.7], **exits}
    with pytest.raises(EatError, match=message):
        load_study(value)


def test_thresholds_by_source_are_tasks_that_run_one_model() -> None:
    """A source of messages is a file of its own: calibrated by itself, on the weights of the task that trains."""
    value = yaml_study()
    value["tasks"]["carrier-a"] = copy.deepcopy(value["tasks"]["sms_spam"])
    value["tasks"]["carrier-a"] |= {"models_of": "sms_spam"}
    value["tasks"]["carrier-a"]["source"]["path"] = "data/own/carrier_a.csv"
    value["tasks"]["carrier-a"]["triage"]["costs"]["spam"] = 50
    study = load_study(value)
    assert study.trained_task("carrier-a") == "sms_spam"
    assert study.calibration_spec("adapt-6", "sms_spam").costs == [1.0, 10.0]
    assert study.calibration_spec("adapt-6", "carrier-a").costs == [1.0, 50.0]


def test_a_change_of_costs_repeats_the_calibration_alone() -> None:
    value = yaml_study()
    study = load_study(value)
    value["tasks"]["sms_spam"]["triage"]["costs"]["spam"] = 50
    dearer = load_study(value)
    system, stage = "adapt-6", "heads"
    assert dearer.training_spec("sms_spam", system, stage) == study.training_spec("sms_spam", system, stage)
    for name, is_same in (("adapt-6", False), ("dense-6", True)):
        specs = [one.calibration_spec(name, "sms_spam") for one in (study, dearer)]
        assert (specs[0] == specs[1]) is is_same


def yaml_study() -> dict[str, Any]:
    import yaml

    root = Path(__file__).resolve().parent.parent
    found: dict[str, Any] = yaml.safe_load((root / "config" / "triage.yaml").read_text(encoding="utf-8"))
    return found


def test_every_pair_of_defences_is_a_row_in_both_engines() -> None:
    systems = load_study(yaml_study()).systems
    for rule, precision in product(("", "-agreement", "-margin"), ("", "-int8")):
        assert systems[f"adapt-6{rule}{precision}"].exits.choose.by == "cost"
