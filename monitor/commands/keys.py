"""API keys by hand. A secret is printed once, by the command that made it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from rich.table import Table

from exporter.keys import Issued, Key, create_key, list_keys, revoke_key, rotate_key
from monitor.commands import Context, Outcome
from monitor.commands.models import age
from monitor.config import ConfigError
from monitor.settings import seconds


def create(
    context: Context, *, name: str, roles: list[str], expires: str | None, requests_per_minute: int | None
) -> Outcome:
    """Make a key."""
    now = time.time()
    ends = None if expires is None else now + _duration("--expires", expires)
    issued = create_key(
        context.db, name, roles, now=now, expires_at=ends, requests_per_minute=requests_per_minute
    )
    return _told(issued)


def rotate(context: Context, *, name: str, overlap: str) -> Outcome:
    """Make a key in place of another."""
    return _told(rotate_key(context.db, name, now=time.time(), overlap_s=_duration("--overlap", overlap)))


def revoke(context: Context, *, name: str) -> Outcome:
    """End keys."""
    ended = revoke_key(context.db, name, now=time.time())
    return Outcome(data={"name": name, "revoked": ended}, view=(f"Revoked: {ended} of {name}.",))


def listing(context: Context) -> Outcome:
    """List keys, without their secrets."""
    now, found = time.time(), list_keys(context.db)
    table = Table("key", "name", "roles", "a minute", "made", "used", "state")
    for key in found:
        table.add_row(
            f"{key.prefix}…",
            key.name,
            " ".join(key.roles),
            str(key.requests_per_minute or "–"),
            f"{age(key.created_at)} ago",
            "–" if key.used_at is None else f"{age(key.used_at)} ago",
            _state(key, now),
        )
    none = "No keys: on loopback everybody is let in. `trueup keys create NAME --role ingest` makes one."
    return Outcome(
        data={"keys": [_shown(key) | {"state": _state(key, now)} for key in found]},
        view=(table if found else none,),
    )


def _duration(flag: str, given: str) -> float:
    try:
        return seconds(given)
    except ValueError as error:
        raise ConfigError(flag, str(error)) from error


def _told(issued: Issued) -> Outcome:
    lines = (issued.secret, "It is not shown again. Clients send it as `Authorization: Bearer …`.")
    return Outcome(data=_shown(issued.key) | {"key": issued.secret}, view=lines)


def _shown(key: Key) -> dict[str, Any]:
    return {name: value for name, value in asdict(key).items() if name not in ("id", "sha256")}


def _state(key: Key, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if not key.live(now):
        return "expired"
    return "live" if key.expires_at is None else f"until {_moment(key.expires_at)}"


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
