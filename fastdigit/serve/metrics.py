"""What Prometheus is told.

With several workers, each counts in files of its own in ``PROMETHEUS_MULTIPROC_DIR`` and
``/metrics`` adds them up, whichever worker is asked (prometheus_client's multiprocess mode).
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from fastdigit.serve.errors import RequestError

logger = logging.getLogger("fastdigit.serve")

__all__ = ["CONTENT_TYPE", "Metrics", "ModelMetrics", "forget_dead_workers"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        model = ("model",)
        self._requests = Counter(
            "fastdigit_requests",
            "Requests that were answered, with a result or an error.",
            model,
            registry=self.registry,
        )
        self._failures = Counter(
            "fastdigit_request_failures",
            "Requests that were answered with an error, by HTTP status.",
            ("model", "status"),
            registry=self.registry,
        )
        self._latency = Histogram(
            "fastdigit_request_duration_seconds",
            "From a request's headers to its answer.",
            model,
            buckets=SECONDS,
            registry=self.registry,
        )
        self._inference = Histogram(
            "fastdigit_inference_duration_seconds",
            "A batch in the engine.",
            model,
            buckets=SECONDS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "fastdigit_batch_size",
            "Images of a batch.",
            model,
            buckets=SIZES,
            registry=self.registry,
        )
        self._depth = Gauge(
            "fastdigit_queue_depth",
            "Images that wait.",
            model,
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._depths: dict[str, Callable[[], int]] = {}
        self._refused = Counter(
            "fastdigit_refused",
            "Connections and requests that were refused, by the limit that they were beyond.",
            ("reason",),
            registry=self.registry,
        )
        # Of /read, which no model that is served answers.
        self._readings = Counter(
            "fastdigit_readings",
            "Pictures at /read that were answered, with a reading or an error.",
            registry=self.registry,
        )
        self._reading_failures = Counter(
            "fastdigit_reading_failures",
            "Pictures at /read that were answered with an error, by HTTP status.",
            ("status",),
            registry=self.registry,
        )
        self._reading_latency = Histogram(
            "fastdigit_reading_duration_seconds",
            "From the headers of a request at /read to its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )

    def refused(self, reason: str) -> None:
        """A connection or a request was refused for whose it is, or for how many there are."""
        self._refused.labels(reason).inc()

    def reading(self, status: int, seconds: float) -> None:
        """A picture at ``/read`` was answered."""
        self._readings.inc()
        self._reading_latency.observe(seconds)
        if status >= 400:
            self._reading_failures.labels(str(status)).inc()

    def of_model(self, name: str) -> ModelMetrics:
        return ModelMetrics(self, name)

    def watch_depth(self, name: str, depth: Callable[[], int]) -> None:
        self._depths[name] = depth
        self._depth.labels(name).set(0)

    def update_depths(self) -> None:
        """Gauges are brought up to date when somebody looks, and every second for the others."""
        for name, depth in self._depths.items():
            self._depth.labels(name).set(depth())

    def text(self) -> bytes:
        """All metrics, of all workers, in Prometheus' format."""
        self.update_depths()
        if DIRECTORY not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        try:
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]
            return generate_latest(together)
        except (struct.error, KeyError, OSError, ValueError) as error:
            logger.error("the files in %s can't be read: %s", os.environ[DIRECTORY], error)
            message = f"the files of {DIRECTORY} are damaged: the server's log has more"
            raise RequestError(503, message) from None


class ModelMetrics:
    """The metrics of one model."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._name = name
        self._failures = metrics._failures
        self._requests = metrics._requests.labels(name)
        self._latency = metrics._latency.labels(name)
        self._inference = metrics._inference.labels(name)
        self._batch = metrics._batch.labels(name)

    def request(self, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.inc()
        self._latency.observe(seconds)
        if status >= 400:
            self._failures.labels(self._name, str(status)).inc()

    def batch(self, size: int, seconds: float) -> None:
        """A batch was run."""
        self._batch.observe(size)
        self._inference.observe(seconds)


def forget_dead_workers() -> None:
    """Remove the gauges of workers that are gone; what they counted stays."""
    directory = os.environ.get(DIRECTORY)
    if directory is None:
        return
    for file in os.listdir(directory):
        name, _, pid = file.removesuffix(".db").rpartition("_")
        if name.startswith("gauge_live") and pid.isdigit():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                mark_process_dead(int(pid))  # type: ignore[no-untyped-call]
            except PermissionError:
                pass  # somebody else's, so alive
