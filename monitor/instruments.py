"""What the monitor tells Prometheus: gauges and counters read from the database at each scrape.

Labels are models, the versions that serve, detectors, causes and short fixed lists. Every monitor of one
database tells the same, so a query takes `max by (…)`. A scrape has a size: of a metric by detector that
would exceed it only the strongest detectors are told, any other is left out whole; what is missing is counted
in `trueup_label_overflow_total`.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from exporter.instruments import Described
from monitor.readings import Labels, Sample, read

BYTES = 148_000  # of a scrape, less what the process itself tells
STRONGEST = 4  # detectors of a model, where there is no room for all of them
CAUSES = 32  # open causes of one model
OTHER = "other"
OVERFLOW = "trueup_label_overflow_total"
Values = dict[Labels, float]
Told = dict[str, Values]
_log = structlog.get_logger("trueup.metrics")


def _gauge(name: str, text: str, *labels: str) -> Described:
    return Described(f"trueup_{name}", "gauge", labels, text)


def _counter(name: str, text: str, *labels: str) -> Described:
    return Described(f"trueup_{name}", "counter", labels, text)


# The most important first: where there are too many series, the last metrics are left out.
METRICS: tuple[Described, ...] = (
    _counter("label_overflow_total", "Series left out, causes told as other.", "metric"),
    _gauge("database_up", "1 while the database answers."),
    _gauge("leader", "1 while a monitor leads: without one nothing is scheduled and nobody is told."),
    _counter("leader_changes_total", "Grows with each change of the leading monitor."),
    _gauge("slots_waiting", "Due checks and retrains that nobody works on."),
    _gauge("slot_lag_seconds", "Age of the oldest due check or retrain that waits, 0 without one."),
    _gauge("slots_failed", "Due checks and retrains of the last 24 h that failed.", "kind"),
    _gauge("notifications_undelivered", "Messages that a channel refused and has not taken yet."),
    _gauge("notification_tries", "Attempts to deliver those messages so far."),
    _gauge("jobs", "Retrains by state.", "state"),
    _gauge("disk_free_bytes", "Free for this process where the home lies."),
    _gauge("disk_size_bytes", "Size of the file system of the home."),
    _gauge("champion", "1 for the version that should serve.", "model", "version"),
    _gauge("model_state", "0 no check yet, 1 not enough data, 2 ok, 3 drift, 4 check failed.", "model"),
    _gauge("alerting", "1 while an alert episode of the model fires.", "model"),
    _gauge("episode_opened_timestamp_seconds", "Begin of each open episode, UTC.", "model", "cause", "state"),
    _gauge("check_run_timestamp_seconds", "Due time of the newest scheduled check that ended, UTC.", "model"),
    _gauge("check_interval_seconds", "Distance of the schedule's newest due times.", "model"),
    _gauge("check_rows", "Predictions in the newest window.", "model", "version"),
    _gauge("check_labels", "Labels that the newest judgement of accuracy had.", "model", "version"),
    _gauge("check_delay_seconds", "From a window's last prediction to its check.", "model", "version"),
    _gauge("evidence_powers", "Pager's e-value in powers of ten.", "model", "version"),
    _gauge("page_line_powers", "The page line in powers of ten.", "model", "version"),
    _gauge("accuracy", "Share of right answers, newest labels.", "model", "version"),
    _gauge("holdout_accuracy", "Share of right answers on the sealed hold-out.", "model", "version"),
    _gauge("version_created_timestamp_seconds", "When the champion was sealed, UTC.", "model", "version"),
    _gauge("report_id", "Check with the newest report: /reports/<it> on the monitor.", "model", "version"),
    _counter("deployments_total", "Changes of the champion: promotions and rollbacks.", "model"),
    _gauge("deployment_timestamp_seconds", "Newest change of the champion, UTC.", "model"),
    _gauge("jobs_active", "Retrains queued or running.", "model"),
    _counter("retrains_total", "Ended retrains by outcome.", "model", "outcome"),
    _gauge("retrain_seconds", "Newest retrain, from the queue to its end.", "model"),
    _gauge("verdict_gain", "Newest verdict: challenger's accuracy less the champion's.", "model"),
    _gauge("verdict_gain_lower", "One-sided 95 % lower bound of that gain.", "model"),
    _gauge("verdict_labels", "Labels that the newest retrain and its verdict used.", "model"),
    _gauge("drift_to_promotion_seconds", "From the episode's begin to the newest promotion.", "model"),
    _gauge("detector_powers", "A detector's e-value in powers of ten.", "model", "detector"),
    _gauge("detector_effect", "A detector's effect size in its newest window.", "model", "detector"),
    _gauge("detector_p_value", "Calibrated p-value of that window alone: no page.", "model", "detector"),
)  # fmt: skip


class StatusMetrics:
    """The monitor's /metrics, for one database and one home folder."""

    def __init__(self, db: Engine, home: Path, *, size: int = BYTES) -> None:
        self._db, self._home, self._bytes = db, home, size
        self._overflow: Counter[str] = Counter()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4; a database that does not answer is told as such."""
        told: Told = defaultdict(dict)
        for name, labels, value in (*self._disk(), *self._database()):
            if value is not None:
                told[f"trueup_{name}"][labels] = value
        self._bound_causes(told["trueup_episode_opened_timestamp_seconds"])
        told[OVERFLOW] = {(name,): float(number) for name, number in self._overflow.items()}
        return "".join(self._fitting(told)).encode() + generate_latest(self._process)

    def _database(self) -> list[Sample]:
        try:
            with self._db.connect() as connection:
                return [("database_up", (), 1.0), *read(connection)]
        except SQLAlchemyError as error:
            _log.warning("metrics_not_read", error=type(error).__name__)
            return [("database_up", (), 0.0)]

    def _disk(self) -> Iterator[Sample]:
        if self._home.exists():
            usage = shutil.disk_usage(self._home)
            yield "disk_free_bytes", (), float(usage.free)
            yield "disk_size_bytes", (), float(usage.total)

    def _fitting(self, told: Told) -> Iterator[str]:
        left = self._bytes
        for one in METRICS:
            values = told[one.name]
            text = render(one, values)
            if len(text) > left and "detector" in one.labels:
                values = strongest(values, told["trueup_detector_powers"])
                text = render(one, values)
            if len(text) > left:
                values, text = {}, ""
            if missing := len(told[one.name]) - len(values):
                self._overflow[one.name] += missing
            left -= len(text)
            yield text

    def _bound_causes(self, episodes: Values) -> None:
        """Causes are detectors and configured metrics; of a model that opens more, the rest is one."""
        seen: Counter[str] = Counter()
        for labels in list(episodes):
            model, _, state = labels
            seen[model] += 1
            if seen[model] > CAUSES:
                self._overflow["trueup_episode_opened_timestamp_seconds"] += 1
                episodes[model, OTHER, state] = episodes.pop(labels)


def strongest(values: Values, powers: Values) -> Values:
    """Those of the detectors with the most evidence, `STRONGEST` of each model.

    >>> powers = {("desks", name): float(number) for number, name in enumerate("abcdef")}
    >>> [detector for _, detector in strongest(powers, powers)]
    ['c', 'd', 'e', 'f']
    """
    ranked = sorted(powers, key=powers.__getitem__, reverse=True)
    rank: Counter[str] = Counter()
    kept: set[Labels] = set()
    for model, detector in ranked:
        rank[model] += 1
        if rank[model] <= STRONGEST:
            kept.add((model, detector))
    return {labels: value for labels, value in values.items() if labels in kept}


def render(metric: Described, values: Values) -> str:
    r"""A metric in Prometheus' text format; nothing without values.

    >>> print(render(_gauge("accuracy", "Right.", "model"), {('a"b',): 0.75}), end="")
    # HELP trueup_accuracy Right.
    # TYPE trueup_accuracy gauge
    trueup_accuracy{model="a\"b"} 0.75
    """
    if not values:
        return ""
    lines = [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}"]
    lines += (
        f"{metric.name}{_braces(metric.labels, labels)} {_number(value)}" for labels, value in values.items()
    )
    return "".join(f"{line}\n" for line in lines)


def _braces(names: tuple[str, ...], labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, labels, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    """Seconds since 1970 and counts are told to the whole, measures to five digits.

    >>> _number(1700000000.25), _number(0.123456), _number(2.0)
    ('1700000000', '0.12346', '2')
    """
    return f"{value:.0f}" if abs(value) >= 1e5 else f"{value:.5g}"
