"""Unseen clusters: how far a text lies from the nearest of the clusters of training texts (cosine distance).

The effect's `unseen_share` is the share of rows that lie farther out than 99 % of the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, outside, ranked


@dataclass(frozen=True, slots=True)
class UnseenCluster:
    name: str = "unseen_cluster"
    series: str = "cluster_distance"
    bet: Bet | None = "up"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False
    weight: float = 0.07

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        found = ranked(reference, current, "greater")
        return replace(found, detail=found.detail | {"unseen_share": outside(reference, current)})


detector = UnseenCluster()
