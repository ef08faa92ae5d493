"""`eat gpu train`: the systems of `config/gpu.yaml` on SST-2, trained and timed on a GPU in five minutes (docs/gpu.md).

The text and the weights come from the bundle; each seed is trained in a process of its own, all at the same time.

models.json           a row for each seed and system: seconds, precision, and the traced accuracy at each threshold
timing-batch-{size}.json  a row for each system at its chosen threshold: time, and speed-ups over the dense rows
train.json            which cases of each part are done, which failed, and which are left out
"""

from __future__ import annotations

import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from eat.bench.bundle import BUNDLE, MANIFEST, PACK, TEXT, WEIGHTS, opened
from eat.bench.gpu_dry import write_dry_inputs
from eat.bench.gpu_parts import Part, Parts, Rows, begin, facts_of
from eat.bench.gpu_timing import points_of_models, time_models
from eat.bench.processes import Worker
from eat.engines.devices import resolve_device
from eat.errors import EatError
from eat.study.loading import load_study, read_mapping
from eat.study.paths import StudyPaths
from eat.study.study import Study
from eat.validation import canonical_json

CONFIGURATION = Path(__file__).parent.parent.parent / "config" / "gpu.yaml"
TASK = "sst2"

DRY: dict[str, Any] = {
    "training": {"batch_size": 16, "device": "cpu", "precision": "float32", "threads": 1},
    "timing": {"device": "cpu", "texts": 12, "block_texts": 6, "repeats": 1, "passes": 2, "warmup": 1, "threads": 1},
}
"""What differs in a dry run; all systems are then in float32."""


@dataclass(frozen=True)
class TrainOptions:
    """out: the folder of the files. bundle: the folder that `eat.bench.bundle` made. seconds: when it stops.

    dry_run: tiny weights and a few texts on the CPU, without a bundle.
    """

    out: Path = Path("results/gpu")
    bundle: Path = BUNDLE
    seconds: float = 270.0
    dry_run: bool = False


def study_of(options: TrainOptions) -> Study:
    """The study of `config/gpu.yaml`, or its dry run. Raises `EatError` if the file is not beside the library."""
    if not CONFIGURATION.is_file():
        raise EatError(f"{CONFIGURATION}: no such file; run the command in a checkout of the project")
    given = read_mapping(CONFIGURATION)
    if not options.dry_run:
        return load_study(given)
    for row in given["systems"].values():
        row["precision"] = "float32"
        for stage in row["recipe"]:
            stage["epochs"] = 1
            if "anneal" in stage:
                stage["anneal"] = {"start_epoch": 0, "end_epoch": 1}
    given["tasks"][TASK]["max_length"] = 32
    for section, changes in DRY.items():
        given[section] |= changes
    return load_study({**given, "seeds": [1, 2]})


def run_train(options: TrainOptions, began: float | None = None) -> None:
    """Train, then time, until everything is done or the time is up.

    began: the start by `time.monotonic`; `None`: now. A part that fails does not stop the others. Raises `EatError` at
    the end if a part failed, and at the start if the device is not available, there is no bundle, or it has no text.
    """
    ends = (time.monotonic() if began is None else began) + options.seconds
    study = study_of(options)
    device = resolve_device(study.timing.device, "--device")
    torch.set_num_threads(study.timing.threads)
    out = options.out.absolute()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eat-gpu-")))
        if options.dry_run:
            write_dry_inputs(work / "bundle")
            bundle = work / "bundle"
        else:
            stack.enter_context(_with_text(options.bundle))
            bundle = options.bundle
        _lay_out(study, bundle, work)
        begin(out, ("models.json", "timing-batch-*.json"))
        parts = _parts(study, device, work, stack)
        Parts("eat gpu train", "train", out, facts_of(device, study.timing.threads, options.seconds), parts, ends).run()


def _with_text(bundle: Path) -> Any:
    """The opened bundle. Raises `EatError` if there is none, or if it has no text."""
    if (bundle / MANIFEST).is_file() and not (bundle / TEXT).is_dir():
        raise EatError(f"{bundle}: the bundle has no text of SST-2; pack it again where GLUE's files are: {PACK}")
    return opened(bundle)


def _lay_out(study: Study, bundle: Path, work: Path) -> None:
    """Put the text and the weights where the study reads them, below `work`."""
    paths = StudyPaths(study.study)
    shutil.copytree(bundle / TEXT, work / paths.card(TASK).parent)
    (backbone,) = study.backbones
    shutil.copytree(bundle / WEIGHTS, work / paths.backbone(backbone))


def _parts(study: Study, device: torch.device, work: Path, stack: ExitStack) -> dict[str, Part]:
    """The training of all seeds, then the timing at each batch size."""
    done: dict[int, list[str]] = {seed: [] for seed in study.seeds}
    cases = [f"{system} seed {seed}" for system in study.systems for seed in study.seeds]
    parts = {"models": Part(cases, partial(_train_all, study, work, stack, done))}
    for size in study.timing.batch_sizes:
        parts[f"timing-batch-{size}"] = Part([f"batch {size}"], partial(_time_all, study, device, work, done, size))
    return parts


def _train_all(study: Study, work: Path, stack: ExitStack, done: dict[int, list[str]]) -> Iterator[tuple[str, Rows]]:
    """Train all seeds at the same time; gives the rows of each system of a seed when it is done.

    done: seed -> the systems that are trained, to which this adds. A system that fails ends the training of its seed.
    """
    answers: queue.Queue[tuple[int, str, dict[str, Any] | Exception]] = queue.Queue()
    threads = max((os.cpu_count() or 1) // len(study.seeds), 1)
    text = canonical_json(study.plain())

    def train(seed: int, worker: Worker) -> None:
        for system in study.systems:
            try:
                answer = worker.ask(
                    "train", study=text, task=TASK, system=system, seed=seed, folder=str(work), threads=threads
                )
            except Exception as error:  # raised again in the main thread
                answers.put((seed, system, error))
                return
            answers.put((seed, system, answer))

    for seed in study.seeds:
        worker = Worker("eat.bench.gpu_seed")
        stack.callback(worker.kill)
        threading.Thread(target=train, args=(seed, worker), daemon=True).start()
    waiting, failed = {(seed, system) for seed in study.seeds for system in study.systems}, []
    while waiting:
        seed, system, answer = answers.get()
        if isinstance(answer, Exception):
            failed.append(f"{system} seed {seed}: {answer}")
            waiting = {pair for pair in waiting if pair[0] != seed}
            continue
        waiting.remove((seed, system))
        done[seed].append(system)
        with chdir(work):
            points = points_of_models(study, TASK, [(system, seed)])
        yield f"{system} seed {seed}", [{**row, **_flat(answer)} for row in points]
    if failed:
        raise EatError("; ".join(failed))


def _flat(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer of a process as columns."""
    setting = answer["trained"] or {}
    seconds = {f"seconds_{step}": value for step, value in answer["seconds"].items()}
    return {**seconds, "trained_in": setting.get("precision"), "trained_on": setting.get("device")}


def _time_all(
    study: Study, device: torch.device, work: Path, done: dict[int, list[str]], batch_size: int
) -> Iterator[tuple[str, Rows]]:
    """Time the systems of all seeds that were trained completely. Raises `EatError` if there is none."""
    seeds: Sequence[int] = [seed for seed in study.seeds if set(done[seed]) == set(study.systems)]
    if not seeds:
        raise EatError("no seed was trained completely, so there is nothing to time; see models.json")
    with chdir(work):
        yield f"batch {batch_size}", time_models(study.model_copy(update={"seeds": seeds}), TASK, device, batch_size)
