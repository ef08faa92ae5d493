"""What a classifier did to texts, without the texts: depth, label, confidence and retention of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from eat.errors import DamagedFile, EatError
from eat.progress import Progress
from eat.runtime.classifier import AdaptiveClassifier, Text, Trace, usable_cores

REQUEST = "request"
"""The event of the server's log that carries answers."""

FIELDS = ("label", "confidence", "depth", "retention")


@dataclass(frozen=True)
class Observation:
    """One text. confidence: the probability of the label. retention: the share of its tokens that were kept."""

    depth: int
    label: str
    confidence: float
    retention: float

    @classmethod
    def of(cls, trace: Trace) -> Self:
        """From what the classifier did."""
        answer = trace.answer
        return cls(answer.depth, answer.label, round(answer.probability, 6), round(trace.retention, 4))


@dataclass(frozen=True)
class Observations:
    """Many texts, as columns of equal length: depth (n,), label (n,), confidence (n,), retention (n,)."""

    depth: npt.NDArray[np.int64]
    label: npt.NDArray[np.str_]
    confidence: npt.NDArray[np.float64]
    retention: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[Observation]) -> Self:
        """From single texts."""
        return cls(
            np.array([row.depth for row in rows], np.int64),
            np.array([row.label for row in rows], np.str_),
            np.array([row.confidence for row in rows], np.float64),
            np.array([row.retention for row in rows], np.float64),
        )

    def __len__(self) -> int:
        return len(self.depth)

    def rows(self, numbers: npt.NDArray[np.int64]) -> Observations:
        """Some of the texts."""
        return Observations(self.depth[numbers], self.label[numbers], self.confidence[numbers], self.retention[numbers])

    def plain(self) -> dict[str, list[Any]]:
        """As JSON values."""
        return {name: getattr(self, name).tolist() for name in ("depth", "label", "confidence", "retention")}

    @classmethod
    def parsed(cls, value: Mapping[str, Any]) -> Self:
        """From `plain`. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        found = cls(
            np.array(value["depth"], np.int64),
            np.array(value["label"], np.str_),
            np.array(value["confidence"], np.float64),
            np.array(value["retention"], np.float64),
        )
        columns = [getattr(found, name) for name in ("depth", "label", "confidence", "retention")]
        if any(column.shape != (len(found),) for column in columns) or len(found) == 0:
            raise ValueError("its columns have different lengths, or none")
        if not (np.isfinite(found.confidence).all() and np.isfinite(found.retention).all()):
            raise ValueError("it holds NaN")
        return found


def observe(model: AdaptiveClassifier, texts: Sequence[Text], full_depth: bool = False) -> Observations:
    """Run the model on texts, one per core at the same time: load it with one thread.

    Raises `EatError` as the classifier does.
    """
    rows: list[Observation] = []
    what = "observed at full depth" if full_depth else "observed"
    with Progress(what, len(texts), "texts") as progress, ThreadPoolExecutor(usable_cores()) as pool:
        for trace in pool.map(lambda encoding: model.trace(encoding, full_depth), model.encode(texts)):
            rows.append(Observation.of(trace))
            progress.advance()
    return Observations.of(rows)


def is_log(path: Path) -> bool:
    """Whether a file is a log of `eat serve`: its first line is an object with the key `event`."""
    try:
        with open(path, encoding="utf-8") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "event" in first


def read_log(path: Path) -> tuple[Observations, bool]:
    """The answers in a log of `eat serve`, and whether they were given at full depth.

    A log with both kinds gives those of the kind of the last answer, from the last change on. Lines that are not whole
    are refused, but for the last one, which a running server may be writing. Raises `EatError` if there is no answer.
    """
    rows: list[Observation] = []
    at_full_depth = False
    for full_depth, answers in _logged(path):
        if full_depth != at_full_depth:
            rows.clear()
        at_full_depth = full_depth
        rows.extend(answers)
    if not rows:
        raise EatError(f"{path}: the log holds no answers; give a log with requests to /classify in it")
    return Observations.of(rows), at_full_depth


def _logged(path: Path) -> Iterator[tuple[bool, list[Observation]]]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if event["event"] == REQUEST and event.get("answers"):
                yield bool(event.get("full_depth")), list(_answers(event["answers"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number == len(lines):  # without a line break at its end: still being written
                return
            raise DamagedFile(
                f"{path}, line {number}: no event of `eat serve` ({error}); give its log as it was written"
            ) from None


def _answers(answers: Iterable[Mapping[str, Any]]) -> Iterator[Observation]:
    for answer in answers:
        label, confidence, depth, retention = (answer[name] for name in FIELDS)
        yield Observation(int(depth), str(label), float(confidence), float(retention))
