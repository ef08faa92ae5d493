"""The threads that run the model, and a bounded queue before them.

A session of ONNX Runtime releases Python's lock while it runs, so that each thread keeps a core busy. All counting
happens in the event loop; a thread only takes texts, and reports when the last text of a request is done.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from eat.runtime.classifier import AdaptiveClassifier, Trace
from eat.serving.refusals import queue_full


class Work:
    """The texts of one request. full_depth: whether they run without early exits."""

    def __init__(self, model: AdaptiveClassifier, encodings: Sequence[Any], full_depth: bool) -> None:
        self.model = model
        self.encodings = encodings
        self.full_depth = full_depth
        self.traces: list[Trace | None] = [None] * len(encodings)
        self.error: Exception | None = None
        self.dropped = False
        self.left = len(encodings)
        self.lock = threading.Lock()
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[list[Trace]] = self.loop.create_future()

    def run(self, number: int) -> bool:
        """Run one text in a thread; whether it was the last one of the request."""
        if not self.dropped:
            try:
                self.traces[number] = self.model.trace(self.encodings[number], self.full_depth)
            except Exception as error:  # it is raised again where the request waits
                self.error, self.dropped = error, True
        with self.lock:
            self.left -= 1
            return self.left == 0


class Pool:
    """Threads that answer texts.

    threads: how many. batch: the most texts that a thread takes at once, the longest first. limit: the texts that are
    accepted and not answered; counted: is called with their number.
    """

    def __init__(self, threads: int, batch: int, limit: int, counted: Callable[[int], None]) -> None:
        self._batch = batch
        self._limit = limit
        self._counted = counted
        self._texts: queue.SimpleQueue[tuple[Work, int] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self.waiting = 0
        for thread in self._threads:
            thread.start()

    def require_room(self, texts: int) -> None:
        """Raises `Refused` if so many texts do not fit into the queue."""
        if self.waiting + texts > self._limit:
            raise queue_full(self._limit)

    async def answer(self, work: Work) -> list[Trace]:
        """Answer the texts of a request, in their order. If this is cancelled, texts that wait are dropped.

        Raises `Refused` if the queue has no room, and what the model raises.
        """
        self.require_room(len(work.encodings))
        self._count(len(work.encodings))
        for number in range(len(work.encodings)):
            self._texts.put((work, number))
        try:
            return await work.done
        except asyncio.CancelledError:
            work.dropped = True
            raise

    def close(self) -> None:
        """End the threads after the texts that wait."""
        for _ in self._threads:
            self._texts.put(None)

    def _count(self, change: int) -> None:
        self.waiting += change
        self._counted(self.waiting)

    def _finish(self, work: Work) -> None:
        self._count(-len(work.encodings))
        if work.done.done():
            return
        if work.error is not None:
            work.done.set_exception(work.error)
        else:
            work.done.set_result([trace for trace in work.traces if trace is not None])

    def _run(self) -> None:
        while (first := self._texts.get()) is not None:
            texts, ended = self._more(first)
            if len(texts) > 1:
                texts.sort(key=lambda item: -len(item[0].encodings[item[1]]))
            for work, number in texts:
                if work.run(number):
                    try:
                        work.loop.call_soon_threadsafe(self._finish, work)
                    except RuntimeError:  # the event loop has ended; nobody waits
                        return
            if ended:
                return

    def _more(self, first: tuple[Work, int]) -> tuple[list[tuple[Work, int]], bool]:
        """A batch that begins with a text; whether the thread is to end after it.

        It is at most this thread's share of what waits, so that no thread is idle while another has a whole batch.
        """
        texts = [first]
        share = -(-(self._texts.qsize() + 1) // len(self._threads))
        for _ in range(min(self._batch, share) - 1):
            try:
                item = self._texts.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return texts, True
            texts.append(item)
        return texts, False
