"""Alert episodes: pending → firing → resolved, one open episode per model and cause; people hear of changes.

An episode is written in the transaction of the check or the promotion that changes it. What was not yet told
is found in the rows themselves (`detail["told"]` lags behind `state`), so a killed monitor forgets none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from sqlalchemy import Connection, Engine, RowMapping, and_, insert, or_, select, update

from monitor.channels import Message, channel
from monitor.errors import MonitorError
from monitor.tables import EpisodeState, episodes

Signal = Literal["quiet", "rising", "page"]
_log = structlog.get_logger("trueup.episodes")
_TOLD_WITHIN_S = 7 * 86400.0
_RETRY_S = (10.0, 60.0, 300.0, 1800.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One row of `episodes`."""

    id: int
    model: str
    version: str
    cause: str
    state: EpisodeState
    opened_at: float
    fired_at: float | None
    resolved_at: float | None
    detail: dict[str, Any]


def next_state(state: EpisodeState | None, signal: Signal, *, lasting: bool) -> EpisodeState | None:
    """The state after a signal; None: no episode. A lasting cause, once firing, ends only by `resolve`.

    >>> next_state(None, "rising", lasting=True), next_state("pending", "page", lasting=True)
    ('pending', 'firing')
    >>> next_state("firing", "quiet", lasting=True), next_state("firing", "quiet", lasting=False)
    ('firing', 'resolved')
    >>> next_state(None, "quiet", lasting=True), next_state("pending", "quiet", lasting=True)
    (None, 'resolved')
    """
    if state == "firing":
        return "resolved" if signal == "quiet" and not lasting else "firing"
    if signal == "quiet":
        return "resolved" if state == "pending" else None
    return "firing" if signal == "page" else "pending"


def observe(
    connection: Connection,
    *,
    model: str,
    version: str,
    cause: str,
    signal: Signal,
    lasting: bool,
    detail: Mapping[str, Any],
    now: float,
) -> Episode | None:
    """Move the episode of this cause by one signal; returns it while it is open or when this resolved it."""
    open_episode = find_open(connection, model, cause)
    state = next_state(open_episode.state if open_episode else None, signal, lasting=lasting)
    if state is None:
        return None
    if open_episode is None:
        return _open(connection, model, version, cause, state, dict(detail), now)
    kept = open_episode.detail if signal == "quiet" else open_episode.detail | dict(detail)
    return _move(connection, open_episode, state, kept, now)


def resolve(
    connection: Connection, model: str, *, reason: str, now: float, cause: str | None = None
) -> list[int]:
    """End the open episodes of a model (of one cause, or all); returns their ids."""
    ended = [found for found in list_open(connection, model) if cause is None or found.cause == cause]
    for episode in ended:
        _move(connection, episode, "resolved", episode.detail | {"resolution": reason}, now)
    return [episode.id for episode in ended]


def find_open(connection: Connection, model: str, cause: str) -> Episode | None:
    """The open episode of a cause."""
    return next((found for found in list_open(connection, model) if found.cause == cause), None)


def list_open(connection: Connection, model: str | None = None) -> list[Episode]:
    """Open episodes, oldest first."""
    statement = select(episodes).where(episodes.c.state != "resolved").order_by(episodes.c.id)
    if model is not None:
        statement = statement.where(episodes.c.model == model)
    return [_episode(row) for row in connection.execute(statement).mappings()]


def list_episodes(connection: Connection, model: str | None = None, *, limit: int = 50) -> list[Episode]:
    """The newest episodes first, open or not."""
    statement = select(episodes).order_by(episodes.c.id.desc()).limit(limit)
    if model is not None:
        statement = statement.where(episodes.c.model == model)
    return [_episode(row) for row in connection.execute(statement).mappings()]


def tell(db: Engine, urls: Sequence[str], *, now: float) -> int:
    """Send what nobody was told yet; returns how many episodes are told. Failures are logged, tried again."""
    told = 0
    with db.connect() as connection:
        waiting = [episode for episode in _changed(connection, now) if _to_tell(episode, now)]
    for episode in waiting:
        failed = [url for url in _untold(episode, urls) if not _send(url, episode)]
        told += not failed
        with db.begin() as connection:
            _note(connection, episode, failed, now)
    return told


def _untold(episode: Episode, urls: Sequence[str]) -> Sequence[str]:
    """Channels of today's configuration that have not heard; those that were taken out are forgotten."""
    pending = episode.detail.get("untold")
    return urls if pending is None or not set(pending) <= set(urls) else pending


def message(episode: Episode) -> Message:
    """What people read when an episode fires or is resolved."""
    firing = episode.state == "firing"
    what = "needs attention" if firing else "recovered"
    resolution = [episode.detail.get("resolution", "it is quiet again")]
    reasons = episode.detail.get("reasons", []) if firing else resolution
    lines = [f"{episode.model} {episode.version}, cause: {episode.cause}.", *map(str, reasons)]
    if firing and episode.detail.get("next"):
        lines.append(f"Next: {episode.detail['next']}.")
    return Message(
        title=f"trueup: {episode.model} {what} ({episode.cause})",
        body="\n".join(lines),
        severity="warning" if firing else "success",
        model=episode.model,
        episode=episode.id,
        state=episode.state,
    )


def _changed(connection: Connection, now: float) -> list[Episode]:
    recent = and_(episodes.c.state == "resolved", episodes.c.resolved_at > now - _TOLD_WITHIN_S)
    statement = select(episodes).where(or_(episodes.c.state == "firing", recent)).order_by(episodes.c.id)
    return [_episode(row) for row in connection.execute(statement).mappings()]


def _to_tell(episode: Episode, now: float) -> bool:
    if episode.fired_at is None or episode.detail.get("told") == episode.state:
        return False
    return bool(episode.detail.get("tell_at", 0.0) <= now)


def _send(url: str, episode: Episode) -> bool:
    try:
        channel(url).send(url, message(episode))
    except MonitorError as problem:
        _log.warning("not delivered", episode=episode.id, problem=str(problem))
        return False
    return True


def _note(connection: Connection, episode: Episode, failed: list[str], now: float) -> None:
    """Keep which channels still wait; another state since then is told by its own."""
    detail = _without_delivery(episode.detail)
    if failed:
        tries = episode.detail.get("tries", 0)
        wait = _RETRY_S[min(tries, len(_RETRY_S) - 1)]
        detail |= {"untold": failed, "tell_at": now + wait, "tries": tries + 1}
    else:
        detail["told"] = episode.state
    same = and_(episodes.c.id == episode.id, episodes.c.state == episode.state)
    connection.execute(update(episodes).where(same).values(detail=detail))


def _open(
    connection: Connection,
    model: str,
    version: str,
    cause: str,
    state: EpisodeState,
    detail: dict[str, Any],
    now: float,
) -> Episode:
    row = {
        "model": model,
        "version": version,
        "cause": cause,
        "state": state,
        "opened_at": now,
        "fired_at": now if state == "firing" else None,
        "detail": detail,
    }
    statement = insert(episodes).values(**row).returning(episodes)
    return _episode(connection.execute(statement).mappings().one())


def _move(
    connection: Connection, episode: Episode, state: EpisodeState, detail: dict[str, Any], now: float
) -> Episode:
    values: dict[str, Any] = {"state": state, "detail": detail}
    if state != episode.state:
        values["detail"] = _without_delivery(detail)
        values |= {"fired_at": now} if state == "firing" else {}
        values |= {"resolved_at": now} if state == "resolved" else {}
    statement = update(episodes).where(episodes.c.id == episode.id).values(**values).returning(episodes)
    return _episode(connection.execute(statement).mappings().one())


def _without_delivery(detail: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in detail.items() if key not in ("untold", "tell_at", "tries")}


def _episode(row: RowMapping) -> Episode:
    return Episode(**row)
