"""What a replay saw, in the shape that `trueup backtest --json` prints."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(slots=True, kw_only=True)
class Tape:
    windows: list[dict[str, Any]] = field(default_factory=list)
    pages: list[dict[str, Any]] = field(default_factory=list)
    retrains: list[dict[str, Any]] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)  # of the rows that got one: "stored" or why not

    def document(self, *, rows: int, seconds: float, cpu_seconds: float) -> dict[str, Any]:
        """The whole replay as JSON."""
        stored = self.labels["stored"] + self.labels["new_label"]
        summary = {
            "rows": rows,
            "mean_accuracy": self._mean("accuracy"),
            "frozen_mean_accuracy": self._mean("frozen_accuracy"),
            "oracle_mean_accuracy": self._mean("oracle_accuracy"),
            "pages": len(self.pages),
            "retrains": len(self.retrains),
            "promotions": sum(one["verdict"] == "promoted" for one in self.retrains),
            "labels_used": sum(one["labels_used"] for one in self.retrains),
            "labels_stored": stored,
            "labels_new": self.labels["new_label"],
            "labels_refused": sum(self.labels.values()) - stored,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
        }
        return {
            "windows": self.windows,
            "pages": self.pages,
            "retrains": self.retrains,
            "summary": summary,
        }

    def _mean(self, name: str) -> float:
        weights: Sequence[int] = [window["rows"] for window in self.windows]
        return round(float(np.average([window[name] for window in self.windows], weights=weights)), 4)


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended, such as trainers."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)
