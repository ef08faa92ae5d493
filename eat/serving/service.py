"""The model behind the routes: its threads, its reload, its monitor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eat.errors import EatError
from eat.monitor.observations import Observation
from eat.monitor.profile import read_profile
from eat.monitor.rolling import RollingMonitor
from eat.runtime.classifier import AdaptiveClassifier, Text, Trace
from eat.serving.logs import log, log_error
from eat.serving.metrics import Metrics
from eat.serving.options import ServeOptions
from eat.serving.pool import Pool, Work
from eat.serving.refusals import Refused, draining, wrong_form

LONG_BODY = 8192
"""Characters from which texts are tokenized in a thread, so that other requests do not wait."""


@dataclass(frozen=True)
class Loaded:
    """A model and the monitor of its traffic; `None` without one."""

    model: AdaptiveClassifier
    monitor: RollingMonitor | None


@dataclass(frozen=True)
class Answered:
    """The answers to a request. pieces: the tokens of each text."""

    traces: list[Trace]
    pieces: list[list[str]]
    layers: int
    full_depth: bool


def load(options: ServeOptions) -> Loaded:
    """Load the folder. Raises `EatError` or `DamagedFile` if it cannot be served with these options."""
    model = AdaptiveClassifier.load(options.folder, threads=1)
    if options.fallback is not None and not model.runs_at_full_depth:
        raise EatError(
            f"--fallback: the exit rule of {options.folder} ({'+'.join(model.manifest.rule)}) has no threshold that "
            "could switch it off; leave --fallback out"
        )
    monitor = None
    if options.monitor:
        profile = read_profile(options.folder)
        monitor = RollingMonitor(profile, options.monitor, options.level, options.fallback is not None)
    return Loaded(model, monitor)


class Service:
    """Answers texts; made in the event loop's thread, before requests come."""

    def __init__(self, options: ServeOptions, loaded: Loaded) -> None:
        self.options = options
        self.metrics = Metrics(loaded.model.manifest.exits[-1])
        self.draining = self.interrupted = False
        self._loaded = loaded
        self._reloading = asyncio.Lock()
        self.pool = Pool(options.threads, options.batch, options.queue, self.metrics.waiting)
        self.metrics.waiting(0)
        self.metrics.monitored(False, False, {})

    def require_room(self) -> None:
        """Raises `Refused` if the server ends, or the queue is full."""
        if self.draining:
            raise draining()
        self.pool.require_room(1)

    async def classify(self, texts: Sequence[Text]) -> Answered:
        """Answer the texts of a request. Raises `Refused`, or what the model raises."""
        loaded = self._loaded
        encodings = await self._encoded(loaded.model, texts)
        tokens = sum(len(part) for encoding in encodings for part in (encoding, *encoding.overflowing))
        if tokens > self.options.max_tokens:
            raise Refused(
                422, f"The texts have {tokens} tokens, more than {self.options.max_tokens}; send fewer or shorter ones."
            )
        full_depth = loaded.monitor is not None and loaded.monitor.full_depth
        traces = await self.pool.answer(Work(loaded.model, encodings, full_depth))
        self._observe(loaded, traces, full_depth)
        pieces = [list(encoding.tokens) for encoding in encodings]
        return Answered(traces, pieces, loaded.model.manifest.exits[-1], full_depth)

    async def reload(self) -> bool:
        """Load the folder again; the old model answers until then, and stays if the folder is damaged."""
        async with self._reloading:
            try:
                self._loaded = await asyncio.to_thread(load, self.options)
            except EatError as error:
                log("reload", logging.ERROR, result="failed", error=str(error), kept="the model that was loaded before")
                self.metrics.reloaded("failed")
                return False
            except Exception:
                log_error("reload", result="failed", kept="the model that was loaded before")
                self.metrics.reloaded("failed")
                return False
            log("reload", result="loaded", folder=str(self.options.folder))
            self.metrics.reloaded("loaded")
            self.metrics.monitored(False, False, {})
            return True

    async def _encoded(self, model: AdaptiveClassifier, texts: Sequence[Text]) -> list[Any]:
        size = sum(len(str(text)) for text in texts)  # whatever it is: the classifier refuses what is no text
        try:
            if size < LONG_BODY:
                return model.encode(texts)
            return await asyncio.to_thread(model.encode, texts)
        except EatError as error:
            raise wrong_form(str(error)[:1].upper() + str(error)[1:]) from None

    def _observe(self, loaded: Loaded, traces: Sequence[Trace], full_depth: bool) -> None:
        observations = [Observation.of(trace) for trace in traces]
        self.metrics.observed(observations, [trace.answer.exit_reason for trace in traces])
        # a reload replaces the monitor, and answers of the old model are not of its traffic
        if loaded.monitor is None or loaded is not self._loaded:
            return
        for observation in observations:
            judged = loaded.monitor.add(observation, full_depth)
            if judged is None:
                continue
            indices = {shift.quantity: shift.psi for shift in judged.comparison.shifts}
            self.metrics.monitored(judged.alarm, loaded.monitor.full_depth, indices)
            if judged.changed:
                log(
                    "alarm" if judged.alarm else "quiet",
                    logging.WARNING,
                    texts=judged.comparison.texts,
                    differ=judged.comparison.differing,
                    psi={name: round(index, 4) for name, index in indices.items()},
                    p={shift.quantity: shift.p for shift in judged.comparison.shifts},
                    full_depth=loaded.monitor.full_depth,
                )
