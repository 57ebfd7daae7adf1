"""The demo's story, told as data: what was served, judged and won back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Listener = Callable[[str, "Story"], None]


@dataclass(slots=True)
class Served:
    """One batch of mail that was answered: how many, how many rightly, by which version."""

    traffic: str  # "clean", "drifted", "fresh", "old"
    rows: int
    right: int
    version: str
    effect: float | None = None  # of the similarity, by the check that judged it
    log_e: float | None = None
    log_page_line: float | None = None
    paged: bool = False

    @property
    def accuracy(self) -> float:
        return self.right / self.rows


@dataclass(slots=True)
class Story:
    """Everything the view shows and the summary counts."""

    stage: str = "starting"
    detail: str = ""
    served: list[Served] = field(default_factory=list)
    windows_to_page: int | None = None
    pages_before_shift: int = 0
    job: dict[str, Any] | None = None
    failed_requests: int = 0
    requests: int = 0
    versions: list[str] = field(default_factory=list)
    report: str | None = None

    def accuracy(self, traffic: str, version: str | None = None) -> float | None:
        """Share of right answers over all rows of one traffic (and one version), None without rows."""
        chosen = [one for one in self.served if one.traffic == traffic and version in (None, one.version)]
        rows = sum(one.rows for one in chosen)
        return round(sum(one.right for one in chosen) / rows, 4) if rows else None


def summary(story: Story, *, seconds: float, peak_rss_mb: float) -> dict[str, Any]:
    """The document that `trueup demo --json` prints."""
    first = story.versions[0] if story.versions else None
    return {
        "accuracy": {
            "before": story.accuracy("clean"),
            "drifted": story.accuracy("drifted", first),
            "recovered": story.accuracy("fresh"),
            "old_traffic_after": story.accuracy("old"),
        },
        "pages_before_shift": story.pages_before_shift,
        "windows_to_page": story.windows_to_page,
        "requests": story.requests,
        "failed_requests": story.failed_requests,
        "versions": story.versions,
        "verdict": (story.job or {}).get("verdict"),
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(peak_rss_mb),
        "report": story.report,
    }
