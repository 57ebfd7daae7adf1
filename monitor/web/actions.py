"""What a person may do on the status page: proposed in words, done once he has confirmed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import Engine

from exporter.database import clock
from monitor import silences, switch
from monitor.asking import ask_retrain
from monitor.errors import ActionError
from monitor.settings import ModelSettings, MonitorSettings, seconds
from monitor.story import ModelStory

Action = Literal["approve", "promote", "retrain", "rollback", "silence", "unsilence"]
ACTIONS: tuple[Action, ...] = get_args(Action)
LASTS = (("2h", "2 hours"), ("8h", "8 hours"), ("1d", "a day"), ("7d", "a week"))  # of a silence


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A field of the form with a few values, (value, text)."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What will happen, for a person to confirm; `seen` is what he saw, and must still hold."""

    model: str
    action: Action
    title: str
    words: tuple[str, ...]
    button: str
    seen: Mapping[str, str]
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What acts need."""

    db: Engine
    monitor: MonitorSettings
    models: Callable[[str], ModelSettings]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A confirmed proposal."""

    model: str
    seen: Mapping[str, str]
    reason: str
    actor: str
    once: str


def propose(action: Action, story: ModelStory, version: str | None) -> Proposal:
    """Say in words what the act would do. Raises ActionError where there is nothing to do."""
    makers: dict[Action, Callable[[ModelStory, str | None], Proposal]] = {
        "approve": _approve,
        "promote": _promote,
        "retrain": _retrain,
        "rollback": _roll_back,
        "silence": _silence,
        "unsilence": _unsilence,
    }
    return makers[action](story, version)


def act(action: Action, tools: Tools, order: Order) -> str:
    """Do it; returns a sentence that says so. Raises MonitorError or ExporterError where it is refused."""
    if action == "promote":
        version, champion = order.seen.get("version", ""), order.seen.get("champion") or None
        switch.promote(
            tools.db, order.model, version, expected=champion, reason=order.reason, actor=order.actor
        )
        return f"{version} of {order.model} was promoted; exporters take it up within seconds."
    if action == "rollback":
        champion = order.seen.get("champion") or None
        version = switch.roll_back(
            tools.db, order.model, expected=champion, reason=order.reason, actor=order.actor
        )
        return f"{order.model} was rolled back to {version}; exporters take it up within seconds."
    if action in ("silence", "unsilence"):
        return _hold(action, tools, order)
    return _ask(tools, order)


def _hold(action: Action, tools: Tools, order: Order) -> str:
    with tools.db.begin() as connection:
        now = clock(connection)
        if action == "unsilence":
            silences.end_silence(connection, order.model, actor=order.actor, now=now)
            return f"Alerts of {order.model} are told again."
        lasts = order.seen.get("lasts", "")
        if lasts not in dict(LASTS):
            raise ActionError(f"A silence does not last {lasts!r}; choose one of {', '.join(dict(LASTS))}.")
        silences.silence(
            connection, order.model, for_s=seconds(lasts), reason=order.reason, actor=order.actor, now=now
        )
    return f"Alerts of {order.model} are silenced for {dict(LASTS)[lasts]}."


def _ask(tools: Tools, order: Order) -> str:
    decision, job = ask_retrain(
        tools.db,
        order.model,
        tools.models(order.model),
        tools.monitor,
        asked="manual",
        key=f"{order.model}:manual:{order.once}",
    )
    if job is None:
        raise ActionError(f"No retrain of {order.model} was queued. {' '.join(decision.reasons)}")
    return f"A retrain of {order.model} is queued: job {job}."


def _promote(story: ModelStory, version: str | None) -> Proposal:
    row = next((row for row in story.versions if row["version"] == version), None)
    if row is None or version is None:
        raise ActionError(f"{story.name} has no version {version!r} among its newest ones.")
    if version == story.champion or row["state"] == "rejected":
        raise ActionError(f"{version} of {story.name} is {row['state']} and cannot be promoted.")
    instead = f"instead of {story.champion}" if story.champion else "as the first champion"
    words = [f"Within seconds {version} answers every request to {story.name}, {instead}."]
    if not any(one["version"] == version and one["outcome"] == "promoted" for one in story.verdicts):
        words.append(f"No verdict on this page has proven {version} better: you take its place.")
    words.append("Open alert episodes of the model are resolved, a trial ends, and the pager begins anew.")
    return Proposal(
        model=story.name,
        action="promote",
        title=f"Promote {version} of {story.name}?",
        words=tuple(words),
        button=f"Promote {version}",
        seen={"version": version, "champion": story.champion or ""},
    )


def _roll_back(story: ModelStory, _: str | None) -> Proposal:
    if story.previous is None:
        raise ActionError(f"{story.name} has no champion before {story.champion} to go back to.")
    return Proposal(
        model=story.name,
        action="rollback",
        title=f"Roll {story.name} back to {story.previous}?",
        words=(
            f"Within seconds {story.previous} answers every request to {story.name} again; "
            f"{story.champion} is retired.",
            "Open alert episodes of the model are resolved, a trial ends, and the pager begins anew.",
        ),
        button=f"Roll back to {story.previous}",
        seen={"champion": story.champion or ""},
    )


def _retrain(story: ModelStory, _: str | None) -> Proposal:
    if story.champion is None:
        raise ActionError(f"{story.name} has no champion to start from.")
    if story.job is not None:
        raise ActionError(f"Job {story.job['id']} of {story.name} is {story.job['state']} already.")
    return Proposal(
        model=story.name,
        action="retrain",
        title=f"Retrain {story.name}?",
        words=(
            f"A retrain from {story.champion} is queued, with the labels that have come since.",
            "Its challenger serves only once a verdict has proven it.",
        ),
        button="Queue a retrain",
        seen={},
    )


def _silence(story: ModelStory, _: str | None) -> Proposal:
    return Proposal(
        model=story.name,
        action="silence",
        title=f"Silence the alerts of {story.name}?",
        words=(
            "Nobody is told that the model fires until the silence ends; what still fires then is told.",
            "Checks, retrains and this page go on, and recovery is told at once.",
        ),
        button="Silence",
        seen={},
        choices=(Choice(name="lasts", label="For", options=LASTS),),
    )


def _unsilence(story: ModelStory, _: str | None) -> Proposal:
    if story.silence is None:
        raise ActionError(f"{story.name} is not silenced.")
    return Proposal(
        model=story.name,
        action="unsilence",
        title=f"Tell alerts of {story.name} again?",
        words=(f"{story.silence['actor']} silenced them: {story.silence['reason']}",),
        button="Tell alerts again",
        seen={},
    )


def _approve(story: ModelStory, version: str | None) -> Proposal:
    found = _retrain(story, version)
    reasons = story.check["decision"]["reasons"] if story.check and story.check["decision"] else []
    return Proposal(
        model=story.name,
        action="approve",
        title=f"Approve the retrain of {story.name}?",
        words=(*reasons, *found.words),
        button="Approve",
        seen={},
    )
