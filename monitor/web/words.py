"""Sentences of the status page that are made of numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from monitor.fleet import Fleet
from monitor.over_time import Point
from monitor.quality.interval import half_width
from monitor.quality.measure import MIN_LABELS
from monitor.web.rendering import moment, number

_MOST_LABELS = 1_000_000


def counts(fleet: Fleet) -> list[tuple[str, int]]:
    """How many models are in each state, the most urgent first."""
    return list(Counter(line.state for line in fleet.models).items())


def say_accuracy(course: Sequence[Point]) -> str:
    """The accuracy chart for those who do not see it."""
    told = [point for point in course if point.accuracy is not None]
    if not told:
        return "No labels."
    first, last = told[0], told[-1]
    interval = "" if last.lower is None else f", interval {number(last.lower)} to {number(last.upper)}"
    return (
        f"From {number(first.accuracy)} at {moment(first.at)} to {number(last.accuracy)} at {moment(last.at)}"
        f"{interval}, {last.labels} labels."
    )


def say_evidence(course: Sequence[Point]) -> str:
    """The evidence chart for those who do not see it."""
    told = [(point.share, point.at) for point in course if point.share is not None]
    if not told:
        return "No window was judged."
    (strongest, at), (last, _) = max(told), told[-1]
    over = "over" if strongest >= 1 else "under"
    return (
        f"Now {last:.0%} of the page line, at most {strongest:.0%} at {moment(at)}, "
        f"which is {over} the line that pages."
    )


def say_labels(quality: dict[str, Any] | None) -> str:
    """What the interval rests on, and how many more labels would halve it."""
    if quality is None:
        return f"The accuracy has no interval yet: it takes {MIN_LABELS} labels of recent rows."
    width = (quality["upper"] - quality["lower"]) / 2
    more = labels_to_halve(quality)
    so_far = f"The interval is ±{100 * width:.1f} points wide with {quality['labels']} labels"
    return f"{so_far}." if more is None else f"{so_far}; about {more} more would halve it."


def labels_to_halve(quality: dict[str, Any]) -> int | None:
    """Labels to add until the interval is half as wide; None where all is known or that is out of reach.

    >>> labels_to_halve({"accuracy": 0.9, "lower": 0.787, "upper": 0.967, "alpha": 0.05,
    ...                  "labels": 100, "effective_labels": 100.0})
    380
    """
    if not quality["effective_labels"]:
        return None
    effective, accuracy, alpha = (float(quality[name]) for name in ("effective_labels", "accuracy", "alpha"))
    wanted = float(quality["upper"] - quality["lower"]) / 4

    def wide(labels: float) -> bool:
        return half_width(accuracy, labels, alpha) > wanted

    high = effective
    while wide(high):
        high *= 2
        if high > _MOST_LABELS:
            return None
    low = high / 2
    while high - low > 0.02 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if wide(middle) else (low, middle)
    more = math.ceil((high / effective - 1) * float(quality["labels"]))
    return round(more, 2 - len(str(more)))  # two digits: it is no more than an estimate
