"""What the exporter tells Prometheus: one registry a process, one process an exporter.

Labels are models, versions and short fixed lists, never what a client sent. Models and versions are bounded
too: what exceeds its limit is told as "other" (models) or forgotten (old versions), and counted in
`trueup_label_overflow_total`. Series of a served version begin at 0, so that `increase` sees the first event.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase

Kind = Literal["counter", "gauge", "histogram"]
Part = Literal["queue", "tokenise", "run", "ledger"]
PARTS: tuple[Part, ...] = ("queue", "tokenise", "run", "ledger")
DAMAGES = ("torn", "damaged")
LABEL_STATUSES = ("stored", "new_label", "duplicate", "error")
PART_SECONDS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)
TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
MODELS = 200  # models with series of their own
VERSIONS = 3  # versions of a model with series: the one that serves, the one before, the one that comes
OTHER = "other"

M = TypeVar("M", bound=MetricWrapperBase)


@dataclass(frozen=True, slots=True)
class Described:
    """One metric as the documentation lists it; `name` as Prometheus shows it."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    text: str


class Bounded(Generic[M]):
    """A metric by model, or by model and version, that cannot grow without end."""

    def __init__(self, metric: M, overflow: Callable[[], None], begin: Callable[..., None] | None = None):
        self._metric, self._overflow, self._begin = metric, overflow, begin
        self._versions: dict[str, list[tuple[str, ...]]] = {}
        self._lock = threading.Lock()

    def labels(self, model: str, *version: str) -> M:
        """The child of these labels; `begin` hears of each new one."""
        if version in self._versions.get(model, ()):
            return self._metric.labels(model, *version)
        with self._lock:
            known = self._admit(model, version)
        if not known:
            return self._metric.labels(*[OTHER] * (1 + len(version)))
        if self._begin is not None:
            self._begin(model, *version)
        return self._metric.labels(model, *version)

    def _admit(self, model: str, version: tuple[str, ...]) -> bool:
        if model not in self._versions and len(self._versions) >= MODELS:
            self._overflow()
            return False
        kept = self._versions.setdefault(model, [])
        if version not in kept:
            kept.append(version)
        if len(kept) > VERSIONS:
            self._metric.remove(model, *kept.pop(0))
            self._overflow()
        return True


class Instruments:
    """One set per server, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter, of use to nobody
        self.registry = CollectorRegistry()
        self.described: list[Described] = []
        ProcessCollector(registry=self.registry)
        self._overflow = self._counter(
            "label_overflow", "Models told as other and versions forgotten, over their limits.", ["metric"]
        )
        self._http()
        self._models()
        self._ledger()

    def _http(self) -> None:
        self.requests = self._counter("requests", "HTTP requests.", ["route", "status"])
        self.request_seconds = self._histogram("request_seconds", "HTTP request.", ["route"], SECONDS)
        self.labels = self._counter("labels", "Labels received.", ["status"])
        for status in LABEL_STATUSES:
            self.labels.labels(status)
        self.queue = self._gauge("queue_texts", "Texts waiting for an engine.", [])
        part_seconds = self._histogram(
            "part_seconds",
            "Of a micro-batch: longest wait, tokens, run, ledger.",
            ["part"],
            PART_SECONDS,
        )
        self.part_observers = tuple(part_seconds.labels(part).observe for part in PARTS)

    def _models(self) -> None:
        model, version = ["model"], ["model", "version"]
        bounded = self._bounded
        self.predictions = bounded(self._counter("predictions", "Answered texts.", version))
        self.prompt_tokens = bounded(self._counter("prompt_tokens", "Read by language models.", version))
        self.answer_tokens = bounded(self._counter("answer_tokens", "Said by language models.", version))
        self.swaps = bounded(
            self._counter("version_swaps", "Times that another version began to serve.", model)
        )
        self.refused = bounded(self._counter("versions_refused", "Versions that could not be loaded.", model))
        self.run_seconds = bounded(self._histogram("engine_run_seconds", "One micro-batch.", model, SECONDS))
        self.batch_texts = self._histogram("engine_batch_texts", "Texts per micro-batch.", [], TEXTS)
        self.batch_tokens = self._histogram("engine_batch_tokens", "Tokens per micro-batch.", [], TOKENS)
        self.memory = bounded(
            self._gauge(
                "version_memory_bytes",
                "What a loaded version takes, 0 once unloaded.",
                version,
            )
        )
        self.unloads = bounded(
            self._counter("version_unloads", "Times that a version made room under memory_limit_mb.", model)
        )
        self.provider = bounded(
            self._gauge("version_provider", "1: what runs the version.", [*version, "provider"])
        )
        self.serving = bounded(
            self._gauge("version_serving", "1 for the version that serves.", version), self._begin
        )

    def _ledger(self) -> None:
        self.loaded = self._counter("ledger_rows_loaded", "Ledger rows brought to the database.", [])
        self.ledger_errors = self._counter("ledger_write_errors", "Micro-batches the ledger refused.", [])
        self.unrecorded = self._counter(
            "predictions_unrecorded", 'Answered without a record, under on_full = "answer".', []
        )
        self.damages = self._counter(
            "ledger_damages", "Torn tails cut off, damaged bytes set aside.", ["kind"]
        )
        for kind in DAMAGES:
            self.damages.labels(kind)
        self.redaction_timeouts = self._counter(
            "redaction_timeouts", "Texts not kept because a pattern of [exporter.redact] took too long.", []
        )
        self.shadows_dropped = self._counter("shadow_texts_dropped", "Texts that no shadow answered.", [])
        self._lag_seconds = self._gauge(
            "ledger_lag_seconds", "Since the whole ledger was in the database; 0 while it is.", []
        )
        self._lag_bytes = self._gauge("ledger_lag_bytes", "Ledger bytes not yet in the database.", [])
        self._disk_free = self._gauge("disk_free_bytes", "Free for this process where the home lies.", [])
        self._disk_size = self._gauge("disk_size_bytes", "Size of the file system of the home.", [])
        for unwatched in (self._lag_seconds, self._lag_bytes, self._disk_free, self._disk_size):
            unwatched.set(float("nan"))

    def watch(self, home: Path, lag: Callable[[], tuple[float, int]]) -> None:
        """From now on read the disk of `home` and the ledger's lag (seconds, bytes) at each scrape."""
        self._lag_seconds.set_function(lambda: lag()[0])
        self._lag_bytes.set_function(lambda: lag()[1])
        self._disk_free.set_function(lambda: shutil.disk_usage(home).free)
        self._disk_size.set_function(lambda: shutil.disk_usage(home).total)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self.registry)

    def _begin(self, model: str, version: str) -> None:
        self.predictions.labels(model, version)
        self.memory.labels(model, version)
        self.prompt_tokens.labels(model, version)
        self.answer_tokens.labels(model, version)
        for one in (self.swaps, self.refused, self.unloads):
            one.labels(model)
        self.run_seconds.labels(model)

    def _bounded(self, metric: M, begin: Callable[..., None] | None = None) -> Bounded[M]:
        overflow = self._overflow.labels(self.described[-1].name)
        return Bounded(metric, overflow.inc, begin)

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        self._describe(f"{name}_total", "counter", labels, text)
        return Counter(f"trueup_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: list[str]) -> Gauge:
        self._describe(name, "gauge", labels, text)
        return Gauge(f"trueup_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
        self._describe(name, "histogram", labels, text)
        return Histogram(f"trueup_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _describe(self, name: str, kind: Kind, labels: list[str], text: str) -> None:
        self.described.append(Described(f"trueup_{name}", kind, tuple(labels), text))
