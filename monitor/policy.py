"""Policy: what a check's evidence leads to. Pure: facts and the clock in, a decision with its reasons out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from monitor import pager
from monitor.evidence import detectors

Action = Literal["none", "wait", "retrain"]
Asked = Literal["check", "schedule", "manual"]
Trigger = Literal["page", "threshold", "schedule", "manual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What [models.NAME] allows."""

    min_labels: int = 200
    cooldown_s: float = 3600.0
    retrains_per_day: int = 4
    max_rejected: int = 3
    approval: bool = False  # True: only a person starts a retrain


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that a decision may depend on."""

    asked: Asked
    now: float
    log_es: Mapping[str, float] = field(
        default_factory=dict
    )  # of every detector's wealth, also of those at rest
    log_page_line: float = math.inf
    exceeded: Sequence[str] = ()  # Evidently metrics over their configured limit
    open_causes: Sequence[str] = ()  # of episodes that are not resolved
    labels_since_champion: int = 0
    last_retrain_at: float | None = None
    retrains_in_24_h: int = 0
    consecutive_rejections: int = 0
    active_job: bool = False

    @property
    def log_e(self) -> float | None:
        """The combined log e-value that pages, None before the first window."""
        return pager.combine(list(self.log_es.values())) if self.log_es else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    action: Action
    page: bool  # the combined e-value is over the line in this check
    trigger: Trigger | None  # what asks for a retrain, also when it has to wait
    causes: tuple[str, ...]  # of the episodes to open: "accuracy", "drift", "class_mix", "threshold:<metric>"
    reasons: tuple[str, ...]


def decide(situation: Situation, limits: Limits) -> Decision:
    """Decide what to do; reasons are sentences for a person."""
    log_e = situation.log_e
    paged = log_e is not None and log_e >= situation.log_page_line
    causes = _page_causes(situation) if paged else ()
    causes += tuple(f"threshold:{name}" for name in situation.exceeded)
    trigger, why = _trigger(situation, {*causes, *situation.open_causes})
    obstacles = _obstacles(situation, limits, trigger) if trigger else ()
    return Decision(
        action="none" if trigger is None else "wait" if obstacles else "retrain",
        page=paged,
        trigger=trigger,
        causes=causes,
        reasons=(why, *obstacles),
    )


def _page_causes(situation: Situation) -> tuple[str, ...]:
    """Name what the detectors that are over the line have seen."""
    line = situation.log_page_line + math.log(len(situation.log_es))
    over = [name for name, log_e in situation.log_es.items() if log_e >= line]
    return tuple(sorted({cause_of(name) for name in over}))


def cause_of(detector: str) -> str:
    """Name the cause under which a detector's page is filed.

    >>> cause_of("accuracy"), cause_of("similarity"), cause_of("class_mix")
    ('accuracy', 'drift', 'class_mix')
    """
    if detector == "accuracy":
        return "accuracy"
    loss = {found.name for found in detectors() if found.means_loss}
    return "drift" if detector in loss else detector


def _trigger(situation: Situation, causes: set[str]) -> tuple[Trigger | None, str]:
    if situation.asked == "manual":
        return "manual", "A person asked for a retrain."
    if situation.asked == "schedule":
        if situation.labels_since_champion == 0:
            return (
                None,
                "The schedule asked for a retrain, but no label has come since the champion was made.",
            )
        return "schedule", f"The schedule asked, and {situation.labels_since_champion} labels are new."
    if lost := sorted(causes & {"accuracy", "drift"}):
        return "page", f"The pager proved a change ({', '.join(lost)})."
    if exceeded := sorted(
        cause.removeprefix("threshold:") for cause in causes if cause.startswith("threshold:")
    ):
        return "threshold", f"Over the configured threshold: {', '.join(exceeded)}."
    if causes:
        return None, "Only the mix of classes changed: that need not cost accuracy, so it does not retrain."
    return None, "Nothing has changed that the evidence can prove."


def _obstacles(situation: Situation, limits: Limits, trigger: Trigger) -> tuple[str, ...]:
    """Say everything that stands against a retrain now; brakes on machines do not hold a person."""
    found = []
    if situation.active_job:
        found.append("A retrain of this model is queued or running already.")
    if situation.labels_since_champion < limits.min_labels:
        have, need = situation.labels_since_champion, limits.min_labels
        found.append(f"Not enough labels: {have} of {need} since the champion was made (min_labels).")
    if trigger != "manual":
        found += _brakes(situation, limits)
    return tuple(found)


def _brakes(situation: Situation, limits: Limits) -> list[str]:
    found = []
    if limits.approval:
        found.append("A person must start it (approval = true): run `trueup retrain`.")
    if situation.consecutive_rejections >= limits.max_rejected:
        found.append(
            f"Circuit breaker: the last {situation.consecutive_rejections} challengers were rejected "
            f"(max_rejected = {limits.max_rejected}). Look at their verdicts, then run `trueup retrain`."
        )
    if situation.retrains_in_24_h >= limits.retrains_per_day:
        found.append(
            f"Daily budget spent: {situation.retrains_in_24_h} retrains in 24 h "
            f"(retrains_per_day = {limits.retrains_per_day})."
        )
    if situation.last_retrain_at is not None:
        left = situation.last_retrain_at + limits.cooldown_s - situation.now
        if left > 0:
            found.append(f"Cool-down: {left:.0f} s left of {limits.cooldown_s:.0f} s since the last retrain.")
    return found
