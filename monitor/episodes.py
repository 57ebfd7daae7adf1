"""Alert episodes: pending → firing → resolved, one open episode per model and cause; people hear of changes.

An episode is written in the transaction of the check or the promotion that changes it, and with it the notice
that people must get (`notices.py`, `outbox.py`), so that a killed monitor forgets none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, insert, select, update

from monitor.tables import EpisodeState, episodes

Signal = Literal["quiet", "rising", "page"]


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
        values |= {"fired_at": now} if state == "firing" else {}
        values |= {"resolved_at": now} if state == "resolved" else {}
    statement = update(episodes).where(episodes.c.id == episode.id).values(**values).returning(episodes)
    return _episode(connection.execute(statement).mappings().one())


def _episode(row: RowMapping) -> Episode:
    return Episode(**row)
