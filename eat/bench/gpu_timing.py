"""Accuracy and time of the models of `eat gpu train`, from the files of its study.

The systems run packed, as in any study, and as CUDA graphs (`{system}-graphs`, at batch 1). The clock, the pairing of
calls and the intervals are those of a study; the honest baseline is the dense model under graphs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from eat.bench.gpu_parts import Rows
from eat.calibrate.operating_points import operating_points, task_operating_points
from eat.engines.graphs import GraphedModel
from eat.engines.packed import PackedModel
from eat.engines.registry import engine_of
from eat.errors import EatError
from eat.files import read_json
from eat.model.exit_policy import ExitPolicy
from eat.results.calibrated import promised_of, temperatures_of
from eat.results.replay import policies, replay
from eat.results.timed_calls import at_point, by_unit, paired, points_of
from eat.results.trace import Trace
from eat.statistics import accuracy_interval, difference_interval, median_ratio
from eat.study.paths import StudyPaths
from eat.study.stock import STOCK
from eat.study.study import Study
from eat.timing.agreement import compare
from eat.timing.entries import TimedSystem, entries_of, reference_entries
from eat.timing.entry import Entry
from eat.timing.rounds import measure
from eat.timing.timed_texts import TimedTexts

GRAPHS = "-graphs"
"""The suffix of a system that runs as CUDA graphs."""


def points_of_models(study: Study, task: str, models: Sequence[tuple[str, int]]) -> Rows:
    """A row for each threshold of trained models, (system, seed) each, on the dev split; from their traces."""
    paths, rows = StudyPaths(study.study), []
    for system, seed in models:
        calibration = read_json(paths.calibration(task, system, seed))
        traces = {"dev": Trace.read(paths.trace(task, system, seed, "dev"))}
        found = operating_points(
            traces, study.operating_spec(system), temperatures_of(calibration), promised_of(calibration)
        )
        kept = ("tau", "thresholds", "n", "accuracy", "avg_depth", "avg_retention", "gflops")
        rows += [{"system": system, "seed": seed, **{key: row[key] for key in kept}} for row in found]
    return rows


def time_models(study: Study, task: str, device: torch.device, batch_size: int) -> Rows:
    """Time all systems of all seeds at their chosen thresholds, in turn; a row for each system.

    The columns: chosen threshold, accuracy and its paired difference from the reference over all dev texts, time of a
    call, and `over_{rival}`: the speed-up over stock `transformers` in the same precision, over the packed reference,
    and at batch 1 over the reference under graphs. fault: answers that differ from the trace by more than rounding
    explains.
    """
    paths = StudyPaths(study.study)
    chosen = _chosen(study, task, paths)
    options = study.timing.model_copy(update={"batch_sizes": [batch_size]})
    timed = [_timed_system(study, task, paths, system, seed) for seed in study.seeds for system in study.systems]
    texts = TimedTexts(paths.split(task, "dev"), timed[0].models[0], study.tasks[task].max_length, options.texts)
    entries: list[Entry] = []
    for system in timed:
        if system.system == study.reference:
            entries += [entry for entry in reference_entries(study, system, texts, device) if entry.system == STOCK]
        own = [entry for entry in entries_of(study, system, texts, device) if entry.tau == chosen[system.system]]
        entries += own
        if batch_size == 1:
            entries += [graphed for entry in own for graphed in _graphed(study, system, entry, device)]
    agreements = [_agreement(entry, texts.ids, batch_size) for entry in entries]
    calls, _, busiest = measure([replace(entry, expected=None) for entry in entries], texts.ids, options, task)
    answers = {system: _right(study, task, paths, system, tau) for system, tau in chosen.items()}
    return _rows(study, task, calls, answers, agreements, batch_size, busiest)


def _chosen(study: Study, task: str, paths: StudyPaths) -> dict[str, float | None]:
    """The chosen threshold of each system."""
    runs = [(system, seed) for system in study.systems for seed in study.seeds]
    traces = {run: {split: paths.trace(task, *run, split) for split in ("calibration", "dev")} for run in runs}
    table = task_operating_points(study, task, traces, {run: paths.calibration(task, *run) for run in runs})
    rows = table[table["chosen"]].drop_duplicates("system")
    return {
        str(system): None if pd.isna(tau) else float(tau)
        for system, tau in zip(rows["system"], rows["tau"], strict=True)
    }


def _timed_system(study: Study, task: str, paths: StudyPaths, system: str, seed: int) -> TimedSystem:
    calibration = read_json(paths.calibration(task, system, seed))
    return TimedSystem(
        system,
        seed,
        [paths.model(task, trained, seed, stage) for trained, stage in study.models_of(system)],
        paths.trace(task, system, seed, "dev"),
        temperatures_of(calibration),
        promised_of(calibration),
    )


def _policy(study: Study, timed: TimedSystem, tau: float | None) -> ExitPolicy:
    return policies(study.operating_spec(timed.system), timed.temperatures, timed.promised)[tau]


def _graphed(study: Study, timed: TimedSystem, entry: Entry, device: torch.device) -> list[Entry]:
    """The same system as CUDA graphs; none if graphs are not used. Without CUDA its segments run without capture."""
    parts = study.parts(timed.system)
    packed = engine_of(parts.engine).load(timed.models, parts, device)
    assert isinstance(packed, PackedModel)
    model = GraphedModel(packed, capture=device.type == "cuda").prepare(max(len(text.ids) for text in entry.texts))
    if model.fault is not None:
        return []
    run = model.runner(_policy(study, timed, entry.tau))
    return [replace(entry, system=f"{entry.system}{GRAPHS}", run=run)]


def _agreement(entry: Entry, ids: Sequence[str], batch_size: int) -> dict[str, Any]:
    """The comparison of an entry's answers with its trace, as `eat.timing.agreement` defines it; also a warm-up."""
    answers: dict[str, set[tuple[int, int, int]]] = {}
    with torch.inference_mode():
        for start in range(0, len(ids), batch_size):
            found = entry.run(entry.texts[start : start + batch_size])
            given = zip(found.classes, found.depth(), found.tokens(), strict=True)
            for text, answer in zip(ids[start : start + batch_size], given, strict=True):
                answers.setdefault(text, set()).add(answer)
    named = {"system": entry.system, "fault": None}
    try:
        return {**named, **(compare(entry, answers, batch_size) if entry.expected is not None else {})}
    except EatError as error:
        return {**named, "fault": str(error)}


def _right(study: Study, task: str, paths: StudyPaths, system: str, tau: float | None) -> np.ndarray:
    """Whether each dev text is answered right under each seed, by the traces; bool (N, S)."""
    columns = []
    for seed in study.seeds:
        timed = _timed_system(study, task, paths, system, seed)
        trace = Trace.read(timed.trace)
        columns.append(replay(trace, _policy(study, timed, tau)).predictions == trace.labels)
    return np.stack(columns, axis=1)


def _rows(
    study: Study,
    task: str,
    calls: pd.DataFrame,
    answers: Mapping[str, np.ndarray],
    agreements: Sequence[Mapping[str, Any]],
    batch_size: int,
    busiest: float,
) -> Rows:
    """A row for each timed system."""
    times = {point: by_unit(at_point(calls, point)) for point in points_of(calls)}
    names = {point[0]: point for point in times}
    rivals = [name for name in (STOCK, study.reference, f"{study.reference}{GRAPHS}") if name in names]
    rows = []
    for point, own in times.items():
        system = study.reference if point[0] == STOCK else point[0].removesuffix(GRAPHS)
        blocks = own.index.get_level_values("block").to_numpy() if batch_size == 1 else None
        over: dict[str, float] = {}
        for rival in rivals:
            mine, other = paired(times, names[rival], own, task)
            over |= median_ratio(other, mine, blocks).columns(f"over_{rival}")
        faults = [one["fault"] for one in agreements if one["system"] == point[0] and one["fault"]]
        ms = at_point(calls, point)
        rows.append(
            {
                "system": point[0],
                "precision": study.systems[system].precision,
                "tau": point[1],
                "batch_size": batch_size,
                "seeds": len(study.seeds),
                "texts": len(own),
                "ms_p50": float((ms["ms"] / np.ceil(ms["n"] / batch_size)).median()),
                **over,
                **accuracy_interval(answers[system]).columns("accuracy"),
                **difference_interval(answers[system], answers[study.reference]).columns("difference"),
                "n": len(answers[system]),
                "exit_rates": _exit_rates(study, task, system, point[1]),
                "different": sum(one.get("different", 0) for one in agreements if one["system"] == point[0]),
                "foreign_load_busiest_block": busiest,
                "fault": faults[0] if faults else None,
            }
        )
    return rows


def _exit_rates(study: Study, task: str, system: str, tau: float | None) -> str:
    """The share of dev texts that exit at each layer, over all seeds, as JSON."""
    paths, depths = StudyPaths(study.study), []
    for seed in study.seeds:
        timed = _timed_system(study, task, paths, system, seed)
        depths.append(replay(Trace.read(timed.trace), _policy(study, timed, tau)).depth)
    layers, counts = np.unique(np.concatenate(depths), return_counts=True)
    return json.dumps({str(layer): float(count / counts.sum()) for layer, count in zip(layers, counts, strict=True)})
