"""Every metric of the Evidently report, by the name that [models.NAME.thresholds] and `report_metrics` use.

    drift_similarity, drift_confidence, drift_label, drift_characters, drift_tokens
    drift_text_length, drift_word_count, drift_sentence_count, drift_non_letters   where texts are kept
        p-value that the column of this window comes from where the reference does, in [0, 1]
    mean_similarity, mean_confidence
        mean of the window
    accuracy, macro_f1, macro_precision, macro_recall
        of the labels that arrived, in [0, 1]

A threshold is a lower limit: the metric is drifted where its value is below. A p-value of 0.01 is exceeded
by one clean window in a hundred, whatever the sizes of window and reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

THRESHOLD = 0.01  # p-value of one column in one window, where none is configured

Kind = Literal["drift", "mean", "quality"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportColumn:
    """One column that the report compares with the reference, by a test that gives a p-value."""

    name: str
    method: str  # name of a test of Evidently, or of one that `monitor.report` registers
    numeric: bool = True
    descriptor: str | None = None  # Evidently's, of the text; all of them work without a network


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMetric:
    """One number of the report."""

    name: str
    kind: Kind
    method: str  # the column's test, or Evidently's metric class
    column: str | None = None  # None: of the whole window
    threshold: float | None = None  # where none is configured; None: shown, never judged


COLUMNS = (
    ReportColumn(name="similarity", method="trueup_lower"),
    ReportColumn(name="confidence", method="trueup_lower"),
    ReportColumn(name="label", method="trueup_mix", numeric=False),
    ReportColumn(name="characters", method="ks"),
    ReportColumn(name="tokens", method="ks"),
    ReportColumn(name="text_length", method="ks", descriptor="TextLength"),
    ReportColumn(name="word_count", method="ks", descriptor="WordCount"),
    ReportColumn(name="sentence_count", method="ks", descriptor="SentenceCount"),
    ReportColumn(name="non_letters", method="ks", descriptor="NonLetterCharacterPercentage"),
)
MEANS = ("similarity", "confidence")
QUALITY = {
    "accuracy": "Accuracy",
    "macro_f1": "F1Score",
    "macro_precision": "Precision",
    "macro_recall": "Recall",
}


def report_metrics(columns: Iterable[ReportColumn] = COLUMNS) -> dict[str, ReportMetric]:
    """Name -> metric, in the order of the report.

    >>> report_metrics()["drift_tokens"].method, len(report_metrics())
    ('ks', 15)
    """
    drifts = [
        ReportMetric(
            name=f"drift_{column.name}",
            kind="drift",
            method=column.method,
            column=column.name,
            threshold=THRESHOLD,
        )
        for column in columns
    ]
    means = [
        ReportMetric(name=f"mean_{column}", kind="mean", method="MeanValue", column=column)
        for column in MEANS
    ]
    quality = [ReportMetric(name=name, kind="quality", method=method) for name, method in QUALITY.items()]
    return {metric.name: metric for metric in (*drifts, *means, *quality)}


METRICS: Mapping[str, ReportMetric] = report_metrics()


def known_thresholds(thresholds: Mapping[str, float]) -> dict[str, float]:
    """`thresholds` itself; ValueError names the first metric that no report has, and those that it has.

    >>> known_thresholds({"accuracy": 0.8})
    {'accuracy': 0.8}
    """
    for name in thresholds:
        if name not in METRICS:
            raise ValueError(f"no Evidently report has a metric {name!r}: use {', '.join(METRICS)}")
    return dict(thresholds)


def judged(metric: ReportMetric, value: float, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """What is kept of one metric; a value that is no number is None and never drifted.

    >>> found = judged(METRICS["accuracy"], 0.7, {"accuracy": 0.8})
    >>> found["drifted"], judged(METRICS["accuracy"], 0.7, {})["drifted"]
    (True, False)
    """
    threshold = thresholds.get(metric.name, metric.threshold)
    number = float(value) if math.isfinite(value) else None
    return {
        "name": metric.name,
        "column": metric.column,
        "method": metric.method,
        "threshold": threshold,
        "configured": metric.name in thresholds,
        "value": number,
        "drifted": number is not None and threshold is not None and number < threshold,
    }
