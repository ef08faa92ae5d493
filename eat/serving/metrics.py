"""What Prometheus reads at `/metrics`.

With several worker processes the numbers are those of all, kept in files of a folder that `PROMETHEUS_MULTIPROC_DIR`
names; the parent process sets it. A dead worker's counts stay, its gauges go.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from eat.monitor.observations import Observation

FOLDER = "PROMETHEUS_MULTIPROC_DIR"

SECONDS = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CERTAINTIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
SHOWN_STATUSES = (200, 400, 408, 413, 422, 429, 500, 503)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The metrics of one process. layers: of the model, for the bounds of the depth."""

    def __init__(self, layers: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter("eat_requests", "Requests to /classify by status", ["status"], registry=registry)
        for status in SHOWN_STATUSES:
            self._requests.labels(status)
        self._seconds = Histogram(
            "eat_request_seconds", "Seconds from a request to its answer", buckets=SECONDS, registry=registry
        )
        self._depth = Histogram(
            "eat_depth_layers", "Layers executed per text", buckets=tuple(range(1, layers + 1)), registry=registry
        )
        self._exits = Counter("eat_exits", "Texts by the reason of their exit", ["reason"], registry=registry)
        self._labels = Counter("eat_labels", "Texts by their label", ["label"], registry=registry)
        self._retention = Histogram(
            "eat_retention_ratio", "Share of the tokens that are kept at the exit", buckets=SHARES, registry=registry
        )
        self._confidence = Histogram(
            "eat_confidence", "Probability of the label", buckets=CERTAINTIES, registry=registry
        )
        self._reloads = Counter("eat_reloads", "Reloads of the folder by result", ["result"], registry=registry)
        self._queue = Gauge(
            "eat_queue_texts", "Texts accepted and not answered", multiprocess_mode="livesum", registry=registry
        )
        self._alarm = Gauge(
            "eat_monitor_alarm", "1 while the traffic differs", multiprocess_mode="livemax", registry=registry
        )
        self._fallback = Gauge(
            "eat_full_depth", "1 while texts are answered at full depth", multiprocess_mode="livemax", registry=registry
        )
        self._psi = Gauge(
            "eat_monitor_psi", "Population stability index of the last comparison", ["quantity"],
            multiprocess_mode="livemax", registry=registry,
        )  # fmt: skip

    def answered(self, status: int, seconds: float) -> None:
        """Count a request to /classify."""
        self._requests.labels(status).inc()
        self._seconds.observe(seconds)

    def observed(self, texts: Sequence[Observation], reasons: Sequence[str]) -> None:
        """Count the texts of a request."""
        for text, reason in zip(texts, reasons, strict=True):
            self._depth.observe(text.depth)
            self._exits.labels(reason).inc()
            self._labels.labels(text.label).inc()
            self._retention.observe(text.retention)
            self._confidence.observe(text.confidence)

    def waiting(self, texts: int) -> None:
        """State the length of the queue."""
        self._queue.set(texts)

    def reloaded(self, result: str) -> None:
        """Count a reload."""
        self._reloads.labels(result).inc()

    def monitored(self, alarm: bool, full_depth: bool, indices: dict[str, float]) -> None:
        """State the monitor's result."""
        self._alarm.set(alarm)
        self._fallback.set(full_depth)
        for quantity, index in indices.items():
            self._psi.labels(quantity).set(index)

    def text(self) -> bytes:
        """All metrics, of all processes."""
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
