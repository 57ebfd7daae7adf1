"""The demo's story, told as data: what was served, judged and won back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    valid: int | None = None  # how many its reader can use, None where every answer is one
    effect: float | None = None  # of the detector that is shown, by the check that judged it
    log_e: float | None = None
    log_page_line: float | None = None
    paged: bool = False

    @property
    def accuracy(self) -> float:
        return self.right / self.rows


@dataclass(slots=True)
class Story:
    """Everything the view shows and the summary counts."""

    stages: Mapping[str, str] = field(default_factory=dict)  # what people read of each
    shown: str = ""  # the detector whose effect they see
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
        return _share([(one.right, one.rows) for one in self._of(traffic, version)])

    def validity(self, traffic: str, version: str | None = None) -> float | None:
        """Share of answers that could be used, None where that is no question."""
        chosen = self._of(traffic, version)
        return _share([(one.valid, one.rows) for one in chosen if one.valid is not None])

    def _of(self, traffic: str, version: str | None) -> list[Served]:
        return [one for one in self.served if one.traffic == traffic and version in (None, one.version)]


def summary(story: Story, *, seconds: float, peak_rss_mb: float) -> dict[str, Any]:
    """The document that `trueup demo --json` prints."""
    valid = _acts(story, story.validity)
    return {
        "accuracy": _acts(story, story.accuracy),
        **({"validity": valid} if any(share is not None for share in valid.values()) else {}),
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


def _acts(story: Story, share: Callable[[str, str | None], float | None]) -> dict[str, float | None]:
    first = story.versions[0] if story.versions else None
    return {
        "before": share("clean", None),
        "drifted": share("drifted", first),
        "recovered": share("fresh", None),
        "old_traffic_after": share("old", None),
    }


def _share(parts: Sequence[tuple[int, int]]) -> float | None:
    rows = sum(rows for _, rows in parts)
    return round(sum(good for good, _ in parts) / rows, 4) if rows else None
