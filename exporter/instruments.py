"""What the exporter tells Prometheus.

Labels are models, versions and short fixed lists, never what a client sent.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Instruments:
    """One set per server, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter, of use to nobody
        self.registry = CollectorRegistry()
        model, version = ["model"], ["model", "version"]
        self.requests = self._counter("requests", "HTTP requests.", ["route", "status"])
        self.predictions = self._counter("predictions", "Answered texts.", version)
        self.swaps = self._counter("version_swaps", "Times that another version began to serve.", model)
        self.refused = self._counter("versions_refused", "Versions that could not be loaded.", model)
        self.labels = self._counter("labels", "Labels received.", ["status"])
        self.loaded = self._counter("ledger_rows_loaded", "Ledger rows brought to the database.", [])
        self.ledger_errors = self._counter("ledger_write_errors", "Micro-batches the ledger refused.", [])
        self.queue = self._gauge("queue_texts", "Texts waiting for an engine.", [])
        self.serving = self._gauge("version_serving", "1 for the version that serves.", version)
        self.request_seconds = self._histogram("request_seconds", "HTTP request.", ["route"], SECONDS)
        self.run_seconds = self._histogram("engine_run_seconds", "One micro-batch.", model, SECONDS)
        self.batch_texts = self._histogram("engine_batch_texts", "Texts per micro-batch.", model, TEXTS)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_: str, labels: list[str]) -> Counter:
        return Counter(f"trueup_{name}", help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str, labels: list[str]) -> Gauge:
        return Gauge(f"trueup_{name}", help_, labels, registry=self.registry)

    def _histogram(self, name: str, help_: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"trueup_{name}", help_, labels, registry=self.registry, buckets=buckets)
