"""The training of one seed in a process of its own, `python -m eat.bench.gpu_seed`, driven by `eat.bench.gpu_train`.

Each system is trained, traced and calibrated by the functions that the rules of the workflow run, on the same paths, so
that `eat.timing` reads the results as those of a study.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from eat.bench.processes import serve


def train_system(study: str, task: str, system: str, seed: int, folder: str, threads: int) -> dict[str, Any]:
    """Train, trace and calibrate a system of a study under a seed; returns the seconds of each of these steps.

    study: the study as JSON. folder: that in which its data and results lie. The systems that it starts or learns from
    must have been trained before. Raises `EatError` as the steps do.
    """
    import torch
    from transformers.utils import logging

    from eat.calibrate.system import calibrate_system
    from eat.files import read_json, write_json
    from eat.results.trace import Trace
    from eat.study.loading import study_of_json
    from eat.study.paths import StudyPaths

    os.chdir(folder)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    given = study_of_json(study)
    paths = StudyPaths(given.study)
    seconds: dict[str, float] = {}
    began = time.monotonic()
    for stage in given.stage_names(system):
        _train(given, paths, task, system, seed, stage)
    seconds["training"] = time.monotonic() - began
    began = time.monotonic()
    for split in ("calibration", "dev"):
        _trace(given, paths, task, system, seed, split, given.trace_device)
    seconds["trace"] = time.monotonic() - began
    began = time.monotonic()
    spec = given.calibration_spec(system, task)
    calibration, dev = (Trace.read(paths.trace(task, system, seed, split)) for split in ("calibration", "dev"))
    write_json(paths.calibration(task, system, seed), calibrate_system(calibration, dev, spec))
    seconds["calibration"] = time.monotonic() - began
    trained, stage = given.models_of(system)[0]
    return {
        "seconds": seconds,
        "trained": read_json(paths.model(task, trained, seed, stage) / "config.json").get("trained"),
    }


def _train(given: Any, paths: Any, task: str, system: str, seed: int, stage: str) -> None:
    """Train a stage; the teacher's traces of the training texts are made first."""
    from eat.finetune.stage import StageInputs, train_stage

    recipe = given.stage(system, stage)
    splits = given.training_splits(task, recipe)
    teachers = []
    if recipe.logits_of is not None:
        for split in splits:
            teachers.append(paths.trace(task, recipe.logits_of, seed, split))
            if not teachers[-1].is_file():
                _trace(given, paths, task, recipe.logits_of, seed, split, given.training.device)
    start = given.parent_of(system, stage)
    of_layers = recipe.layers_of
    inputs = StageInputs(
        given.training_spec(task, system, stage),
        paths.backbone(given.systems[system].backbone)
        if start is None
        else paths.model(task, start[0], seed, start[1]),
        [paths.split(task, split) for split in splits],
        paths.card(task),
        seed,
        teachers,
        None if of_layers is None else paths.model(task, of_layers, seed, given.stage_names(of_layers)[-1]),
    )
    out: Path = paths.model(task, system, seed, stage)
    train_stage(inputs, out, paths.checkpoints, f"{system}/seed{seed}")


def _trace(given: Any, paths: Any, task: str, system: str, seed: int, split: str, device: str) -> None:
    """Record a trace of a system over a split."""
    from eat.files import read_json
    from eat.trace.recording import record_trace

    models = [paths.model(task, trained, seed, stage) for trained, stage in given.models_of(system)]
    labels = read_json(paths.card(task))["labels"]
    found = record_trace(
        models,
        given.parts(system),
        paths.split(task, split),
        labels,
        given.tasks[task].max_length,
        f"{system}/seed{seed} {split}",
        device,
    )
    found.write(paths.trace(task, system, seed, split))


def main() -> None:
    """Answer requests until stdin ends."""
    serve({"train": train_system})


if __name__ == "__main__":
    main()
