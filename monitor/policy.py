"""Policy: what a check's evidence leads to. Pure: facts and the clock in, a decision with its reasons out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from monitor.evidence import detectors, page_score, weighted
from monitor.slice_names import split_name

Action = Literal["none", "wait", "retrain"]
Asked = Literal["check", "schedule", "manual"]
Trigger = Literal["page", "threshold", "accuracy", "labels", "schedule", "manual"]

HALF_OPEN = 2.0  # times the labels of the last refused challenger: the breaker lets one more through
UNPROVEN = 2.0  # times min_labels: a drift after one that was answered, while no loss is proven
_NAMED = 3  # slices in a sentence
LOSS_LINE = math.log(20)  # of a loss that asks for a retrain: nobody is woken, and a verdict follows


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What [models.NAME] allows."""

    min_labels: int = 200
    label_growth: float = 0.5  # so much larger before the labels of one loss are learnt from again
    proof_labels: int = 0  # with fewer, a retrain that answers no page could not be proven as good
    new_labels: int | None = None  # so many labels ask for a retrain by themselves
    recover: bool = True  # a loss asks for retrains until it is proven won back
    margin: float = 0.03  # of accuracy, that need not be won back
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
    slice_keys: int = 0  # metadata keys whose slices share the budget
    log_page_line: float = math.inf
    exceeded: Sequence[str] = ()  # Evidently metrics over their configured limit
    open_causes: Sequence[str] = ()  # of episodes that are not resolved
    labels_since_champion: int = 0
    labels_since_onset: int | None = None  # of the change that is open or suspected, None: of neither
    labels_learnt: int = 0  # of traffic, by the champion and the champions that it grew from
    labels_refused: int | None = None  # used by the newest retrain, where its challenger was not promoted
    log_e_loss: float = -math.inf  # that the champion is less accurate than the first of its line was
    answers_loss: bool = False  # the champion or one that it grew from was made to answer a loss
    gain_lower: float = -1.0  # 95 % bound of its accuracy less what the first of its line had
    last_retrain_at: float | None = None
    retrains_in_24_h: int = 0
    consecutive_rejections: int = 0
    active_job: bool = False

    @property
    def log_e(self) -> float | None:
        """The combined log e-value that pages, None before the first window."""
        return page_score(self.log_es, self.slice_keys) if self.log_es else None

    @property
    def over(self) -> list[str]:
        """The detectors that page by themselves."""
        weigh = self.log_es.items()
        return [name for name, won in weigh if weighted(name, won, self.slice_keys) >= self.log_page_line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    action: Action
    page: bool  # the combined e-value is over the line in this check
    trigger: Trigger | None  # what asks for a retrain, also when it has to wait
    causes: tuple[str, ...]  # of the episodes to open: "accuracy", "drift", "class_mix", "threshold:<metric>"
    reasons: tuple[str, ...]
    missing_labels: int = 0  # until a retrain may start


def decide(situation: Situation, limits: Limits) -> Decision:
    """Decide what to do; reasons are sentences for a person."""
    log_e = situation.log_e
    paged = log_e is not None and log_e >= situation.log_page_line
    causes = _page_causes(situation) if paged else ()
    causes += tuple(f"threshold:{name}" for name in situation.exceeded)
    trigger, why = _trigger(situation, {*causes, *situation.open_causes}, limits)
    obstacles = _obstacles(situation, limits, trigger) if trigger else ()
    return Decision(
        action="none" if trigger is None else "wait" if obstacles else "retrain",
        page=paged,
        trigger=trigger,
        causes=causes,
        reasons=(why, *obstacles),
        missing_labels=_missing_labels(situation, limits, trigger) if trigger else 0,
    )


def _page_causes(situation: Situation) -> tuple[str, ...]:
    """Name what the detectors that are over the line have seen."""
    return tuple(sorted({cause_of(name) for name in situation.over}))


def _in_slices(situation: Situation) -> str:
    """Name the slices whose own detectors are over the line."""
    slices = sorted({slice_ for _, slice_ in map(split_name, situation.over) if slice_})
    more = f" and {len(slices) - _NAMED} more" if len(slices) > _NAMED else ""
    return f" in {', '.join(slices[:_NAMED])}{more}" if slices else ""


def cause_of(detector: str) -> str:
    """Name the cause under which a detector's page is filed: the same for the whole and its slices.

    >>> cause_of("accuracy"), cause_of("similarity[language=de]"), cause_of("class_mix")
    ('accuracy', 'drift', 'class_mix')
    """
    whole, _ = split_name(detector)
    if whole == "accuracy":
        return "accuracy"
    loss = {found.name for found in detectors() if found.means_loss}
    return "drift" if whole in loss else whole


def _trigger(situation: Situation, causes: set[str], limits: Limits) -> tuple[Trigger | None, str]:
    if situation.asked == "manual":
        return "manual", "A person asked for a retrain."
    if situation.asked == "schedule":
        return _scheduled(situation)
    if lost := sorted(causes & {"accuracy", "drift"}):
        return "page", f"The pager proved a change ({', '.join(lost)}){_in_slices(situation)}."
    if exceeded := sorted(
        cause.removeprefix("threshold:") for cause in causes if cause.startswith("threshold:")
    ):
        return "threshold", f"Over the configured threshold: {', '.join(exceeded)}."
    if limits.recover and situation.log_e_loss >= LOSS_LINE:
        return "accuracy", f"Accuracy is proven lower than it was once (e = {_said(situation.log_e_loss)})."
    if limits.recover and situation.answers_loss and situation.gain_lower <= -limits.margin:
        why = _still_lost(situation, limits)
        return "accuracy", f"What the drift cost is not yet proven won back ({why})."
    if grown := _grown(situation, limits):
        return "labels", grown
    return None, _quiet(causes, _in_slices(situation))


def _grown(situation: Situation, limits: Limits) -> str | None:
    """Why the new labels are enough to learn from, loss or no loss.

    What drifted is learnt from few labels at first, so it is learnt again each time they have grown by
    `label_growth`; a model that never answered a loss has nothing to catch up with.
    """
    fresh, learnt = situation.labels_since_champion, situation.labels_learnt
    if limits.recover and situation.answers_loss and fresh >= labels_needed(situation, limits, "accuracy")[0]:
        return f"{fresh} labels are new beside the {learnt} learnt since the drift (label_growth)."
    if limits.new_labels is not None and fresh >= limits.new_labels:
        return f"{fresh} labels are new since the champion was made (new_labels = {limits.new_labels})."
    return None


def _scheduled(situation: Situation) -> tuple[Trigger | None, str]:
    if situation.labels_since_champion == 0:
        return None, "The schedule asked for a retrain, but no label has come since the champion was made."
    return "schedule", f"The schedule asked, and {situation.labels_since_champion} labels are new."


def _quiet(causes: set[str], where: str) -> str:
    if not causes:
        return "Nothing has changed that the evidence can prove."
    changed = "the mix of classes" if causes == {"class_mix"} else ", ".join(sorted(causes))
    return f"Only {changed} changed{where}: that need not cost accuracy, so it does not retrain."


def _said(log_e: float) -> str:
    return f"{math.exp(min(log_e, 700)):.3g}"


def labels_needed(situation: Situation, limits: Limits, trigger: Trigger) -> tuple[int, str]:
    """How many labels a retrain has to wait for, and the setting that says so.

    The error of a model falls with a power of the rows it learnt from: what a few more labels add is noise.
    So the same loss is answered again, and a refused challenger tried again, only after the labels have grown
    by `label_growth`: as many retrains as the logarithm of the labels, however often a check asks. A drift
    after one that was answered may cost nothing now: until a loss is proven, it waits for more labels.

    >>> labels_needed(Situation(asked="check", now=0, labels_learnt=600), Limits(), "accuracy")
    (300, 'label_growth')
    >>> labels_needed(Situation(asked="check", now=0, labels_learnt=600), Limits(), "page")
    (200, 'min_labels')
    >>> labels_needed(Situation(asked="check", now=0, answers_loss=True), Limits(), "page")
    (400, 'min_labels, no loss of accuracy is proven')
    """
    grown = 0.0
    if trigger == "accuracy":
        grown = limits.label_growth * situation.labels_learnt
    if trigger in ("page", "threshold", "accuracy", "labels") and situation.labels_refused is not None:
        grown = max(grown, (1 + limits.label_growth) * situation.labels_refused)
    proof = 0 if trigger == "manual" or situation.open_causes else limits.proof_labels
    asked = {
        "min_labels": limits.min_labels,
        "label_growth": math.ceil(grown),
        "verdict_share, margin": proof,
    }
    if trigger == "page" and situation.answers_loss and not _loses(situation):
        asked["min_labels, no loss of accuracy is proven"] = math.ceil(UNPROVEN * limits.min_labels)
    setting = max(asked, key=asked.__getitem__)
    return asked[setting], setting


def _loses(situation: Situation) -> bool:
    """A loss of accuracy is proven, by the pager or since the first champion of the line."""
    return situation.log_e_loss >= LOSS_LINE or "accuracy" in {
        *situation.open_causes,
        *map(cause_of, situation.over),
    }


def _labels(situation: Situation, trigger: Trigger) -> int:
    """A page is answered with the labels of its change, everything else with all since the champion."""
    if trigger in ("page", "threshold") and situation.labels_since_onset is not None:
        return situation.labels_since_onset
    return situation.labels_since_champion


def _missing_labels(situation: Situation, limits: Limits, trigger: Trigger) -> int:
    return max(0, labels_needed(situation, limits, trigger)[0] - _labels(situation, trigger))


def _still_lost(situation: Situation, limits: Limits) -> str:
    if situation.gain_lower <= -1:
        return "too few labels since to tell"
    return f"at worst {100 * situation.gain_lower:+.1f} points, margin -{100 * limits.margin:g}"


def _obstacles(situation: Situation, limits: Limits, trigger: Trigger) -> tuple[str, ...]:
    """Say everything that stands against a retrain now; brakes on machines do not hold a person."""
    found = []
    if situation.active_job:
        found.append("A retrain of this model is queued or running already.")
    need, setting = labels_needed(situation, limits, trigger)
    have = _labels(situation, trigger)
    if have < need:
        since = "the change began" if trigger in ("page", "threshold") else "the champion was made"
        found.append(f"Not enough labels: {have} of {need} since {since} ({setting}).")
    if trigger != "manual":
        found += _brakes(situation, limits, have)
    return tuple(found)


def _brakes(situation: Situation, limits: Limits, labels: int) -> list[str]:
    found = []
    if limits.approval:
        found.append("A person must start it (approval = true): run `trueup retrain`.")
    if (broken := _breaker(situation, limits, labels)) is not None:
        found.append(broken)
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


def _breaker(situation: Situation, limits: Limits, labels: int) -> str | None:
    """Hold what fails again and again, and let one more try through each time the labels have doubled.

    A drift that grows is worth a retrain that its beginning was not. Source: Nygard, Release It! (2007), the
    half-open state.
    """
    if situation.consecutive_rejections < limits.max_rejected:
        return None
    refused, more = situation.labels_refused, ""
    if refused is not None:
        if labels >= HALF_OPEN * refused:
            return None
        more = f" It tries once more with {math.ceil(HALF_OPEN * refused)} labels."
    return (
        f"Circuit breaker: the last {situation.consecutive_rejections} challengers were rejected "
        f"(max_rejected = {limits.max_rejected}). Look at their verdicts, then run `trueup retrain`.{more}"
    )
