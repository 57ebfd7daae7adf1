"""Error rate: requests that the service failed, against the share that `[models.X] error_rate` tolerates.

The null is stated, so no reference is needed and the bet is exact from the first request on. Requests are
judged by whole hours; Prometheus's rules tell a sudden outage sooner.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.sketch import Sketch
from monitor.evidence import Reads
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, tolerated_severity


@dataclass(frozen=True, slots=True)
class ErrorRate:
    name: str = "error_rate"
    series: str = "failed"
    bet: Bet | None = "rate"
    reads: Reads = "requests"
    means_loss: bool = False
    weight: float = 0.02

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return tolerated_severity(reference, current)


detector = ErrorRate()
